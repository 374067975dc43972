import dataclasses
import math

import pytest
import torch

from mcti.errors import DataError
from mcti.model.categories import Category
from mcti.model.clinical import ClinicalToken
from mcti.model.network import MCTI
from mcti.model.trained import Fitted, Scale, TrainedModel
from tests.model.cases import FEATURES, GENES, batch, config, network

NAMES = ("age", "is_female")
ROWS = torch.tensor([[0.5, -1.0], [math.nan, 1.0]])


def test_scores_equal_a_manual_computation():
    """Values with a missing one at the mean, then the indicators of missing values."""
    token, read = ClinicalToken(config(covariates=NAMES))(ROWS)
    assert read.tolist() == [[0.5, -1.0, 0.0, 0.0], [0.0, 1.0, 1.0, 0.0]]
    assert token.shape == (2, 1, 16)


def test_missing_is_not_the_same_as_the_mean():
    net = ClinicalToken(config(covariates=NAMES))
    missing, mean = net(torch.tensor([[math.nan, 1.0], [0.0, 1.0]]))[0]
    assert not torch.allclose(missing, mean)


def test_the_token_moves_the_prediction_and_its_gradient_is_finite_where_values_are_missing():
    net = network(config(covariates=NAMES)).eval()
    inputs = batch([5, 3])
    one, other = (net(*inputs, covariates=rows) for rows in (ROWS, torch.zeros(2, 2)))
    assert not torch.allclose(one.risk, other.risk)
    assert not torch.allclose(one.subtype_logits, other.subtype_logits)
    one.risk.sum().backward()
    for name, parameter in net.clinical.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_a_padded_batch_gives_the_numbers_of_the_patients_one_by_one():
    net = network(config(covariates=NAMES)).eval()
    patches, mask, genes = batch([9, 3])
    together = net(patches, mask, genes, covariates=ROWS).risk
    for row, size in enumerate((9, 3)):
        alone = net(patches[row : row + 1, :size], mask[row : row + 1, :size], genes[row : row + 1],
                    covariates=ROWS[row : row + 1])  # fmt: skip
        torch.testing.assert_close(together[row : row + 1], alone.risk, rtol=1e-5, atol=0)


def test_gradient_is_that_of_finite_differences():
    net = ClinicalToken(config(covariates=NAMES)).double()
    rows = torch.tensor([[0.5, -1.0], [0.2, 1.0]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda covariates: net(covariates)[0], (rows,))


def test_without_the_flag_there_is_no_token_and_no_parameter():
    names = set(dict(MCTI(config()).named_parameters()))
    assert {name for name in names if "clinical" in name} == set()
    assert config(covariates=NAMES).length == config().length + 1


@pytest.mark.parametrize(("names", "covariates"), [(NAMES, None), (NAMES, torch.zeros(2, 3)), ((), torch.zeros(2, 2))])
def test_covariates_of_another_number_are_refused(names, covariates):
    with pytest.raises(DataError, match="covariates of shape"):
        network(config(covariates=names))(*batch([4, 4]), covariates=covariates)


def model() -> TrainedModel:
    of = config(covariates=NAMES)
    genes = Scale(torch.zeros(len(GENES)), torch.ones(len(GENES)))
    features = Scale(torch.zeros(FEATURES), torch.ones(FEATURES))
    covariates = Scale(torch.tensor([60.0, 0.5]), torch.tensor([10.0, 0.5]))
    return TrainedModel(network(of), of, Fitted(genes, features, (0.0, 5.0, 9.0, 20.0, 50.0), covariates))


def test_a_trained_model_reads_them_by_name_standardised_as_in_training():
    patches, mask, genes = batch([5])
    trained = model()
    standard = torch.tensor([[1.5, 1.0]])
    with torch.no_grad():
        expected = trained.net(patches, mask, genes, covariates=standard).risk.item()
    patient = {"stage": 2.0, "is_female": 1.0, "age": 75.0}
    assert trained.predict(patches[0], genes[0], (12,), patient)["risk"] == pytest.approx(expected, rel=1e-6)
    gap = trained.predict(patches[0], genes[0], (12,), patient | {"age": None})
    assert gap == trained.predict(patches[0], genes[0], (12,), patient | {"age": math.nan})
    assert gap["risk"] != pytest.approx(expected, rel=1e-9)


def test_an_absent_or_infinite_covariate_is_an_error():
    patches, _, genes = batch([5])
    with pytest.raises(DataError, match=r"'age' is absent.*did you mean Age"):
        model().predict(patches[0], genes[0], (12,), {"Age": 3.0, "is_female": 1.0})
    with pytest.raises(DataError, match="'age' is infinite"):
        model().predict(patches[0], genes[0], (12,), {"age": math.inf, "is_female": 1.0})


def test_weights_with_other_names_were_made_by_an_earlier_version():
    """A buffer of the Cox branch had another name before; other shapes under the same names are another fold's."""
    trained = model()
    state = dict(trained.net.state_dict())
    name, tensor = next(iter(state.items()))
    renamed = {f"{name}_before": tensor} | {key: value for key, value in state.items() if key != name}
    with pytest.raises(DataError, match="an earlier version of mcti made this model: train it again"):
        TrainedModel.from_state(renamed, trained.spec())
    with pytest.raises(DataError, match="use both files of the same fold folder"):
        TrainedModel.from_state(state | {name: torch.zeros([*tensor.shape, 2])}, trained.spec())


def test_scales_survive_the_way_through_json():
    trained = model()
    again = TrainedModel.from_state(trained.net.state_dict(), trained.spec())
    assert torch.equal(again.fitted.covariates.mean, trained.fitted.covariates.mean)
    assert torch.equal(again.fitted.covariates.sd, trained.fitted.covariates.sd)
    assert again.config.covariates == NAMES


def test_a_categorical_covariate_has_its_columns_and_one_indicator():
    stage = Category(name="stage", levels=("I", "II", "III"), ordered=True)
    shape = dataclasses.replace(config(covariates=("stage", "age")), categories=(stage,))
    token, read = ClinicalToken(shape)(torch.tensor([[1.0, -1.0, 0.5], [math.nan, math.nan, 0.5]]))
    assert read.tolist() == [[1.0, -1.0, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 1.0, 0.0]]
    assert token.shape == (2, 1, 16)


def test_a_model_predicts_an_unseen_level_as_a_missing_one():
    stage = Category(name="stage", levels=("I", "II", "III"), ordered=True)
    shape = dataclasses.replace(config(covariates=("stage",)), categories=(stage,))
    scales = [Scale(torch.zeros(size), torch.ones(size)) for size in (len(shape.genes), FEATURES, 2)]
    fitted = Fitted(scales[0], scales[1], tuple(float(edge) for edge in range(shape.bins + 1)), scales[2])
    model = TrainedModel(network(shape), shape, fitted)
    patches, _, genes = batch([5])
    risks = {
        level: model.predict(patches[0], genes[0], (1.0,), {"stage": level})["risk"]
        for level in ("I", "II", "III", "IV", None)
    }
    assert risks["IV"] == risks[None]
    assert len(set(risks.values())) == 4
