"""Every model by one name on one training part; MCTI, its Cox branch and their ensemble from one training run."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks import model_zoo
from benchmarks.model_zoo import Patients, RowSplit
from mcti.dataset.bags import Dataset, PatientBag
from mcti.errors import UsageError
from mcti.evaluation.design_matrix import Inputs
from mcti.params import TrainParams
from mcti.training import fold_files
from mcti.training import folds as folding
from mcti.training.fine_tuning import train

PARAMS = TrainParams.model_validate(
    {"epochs": 1, "batch_patients": 16, "device": "cpu", "horizons_months": (12.0, 36.0)}
)
ROWS = np.arange(60)
PART = RowSplit(0, ROWS[:40], ROWS[40:])


def made(seed: int = 0, *, altered: bool = False) -> Patients:
    """Sixty patients whose first gene shortens the life; `altered`: others in the test part, same ids."""
    random = np.random.default_rng(seed)
    genes = random.normal(size=(60, 6)).astype(np.float32)
    bags = random.normal(size=(60, 5, 4)).astype(np.float32)
    if altered:
        genes[40:], bags[40:] = -3 * genes[40:], bags[40:] + 9
    months = np.round(30 * np.exp(-genes[:, 0] + 0.2 * random.normal(size=60)), 2) + 0.1
    table = pd.DataFrame(
        {
            "patient_id": [f"P-{i:02}" for i in ROWS],
            "site": "A",
            "age": 60.0 + ROWS % 7,
            "is_female": pd.array([i % 2 for i in ROWS], dtype="Int8"),
            "subtype": np.where(ROWS % 3 == 0, "ILC", "IDC"),
            "time_months": months,
            "event": (random.random(60) < 0.7).astype(np.int8),
        }
    )
    moments = np.concatenate([bags.mean(1), bags.std(1)], axis=1).astype(np.float64)
    patients = {
        row["patient_id"]: PatientBag(
            row["patient_id"], torch.from_numpy(bags[i]), torch.from_numpy(genes[i]), row["time_months"],
            bool(row["event"]), int(row["subtype"] == "ILC"), {"age": row["age"]},
        )
        for i, row in enumerate(table.to_dict("records"))
    }  # fmt: skip
    frame = pd.DataFrame(genes.astype(np.float64), columns=[f"g{i}" for i in range(6)], index=table["patient_id"])
    return Patients(Inputs(table, frame, moments), Dataset(patients, tuple(frame.columns), ("IDC", "ILC")))


def others(count=2):
    """Sources with the genes of `made()`."""
    cohorts = (made(seed + 10).data for seed in range(count))
    return [dataclasses.replace(data, cohort={"name": f"other {k}"}) for k, data in enumerate(cohorts)]


@pytest.mark.parametrize("name", model_zoo.NAMES)
def test_every_name_gives_risks_and_falling_curves(name):
    predicted = model_zoo.fit(name, made(), PART, PARAMS, others())(PART.test)
    assert predicted.risk.shape == (20,)
    assert np.isfinite(predicted.risk).all()
    assert predicted.survival.shape == (20, 2)
    assert (predicted.survival[:, 0] >= predicted.survival[:, 1] - 1e-9).all()
    assert ((predicted.survival >= 0) & (predicted.survival <= 1)).all()


def test_an_unknown_name_is_met_with_the_nearest():
    with pytest.raises(UsageError, match="did you mean mcti"):
        model_zoo.fit("mct", made(), PART, PARAMS)


def test_a_model_with_transfer_needs_other_cohorts():
    with pytest.raises(UsageError, match="needs other cohorts"):
        model_zoo.fit("mcti transfer", made(), PART, PARAMS)


@pytest.mark.parametrize("name", ["mcti+cox", "mcat", "mcti+cox transfer"])
def test_what_is_fitted_never_sees_the_test_part(name):
    """Fitted on a cohort with other test patients, the model predicts the same for a third patient."""
    one = model_zoo.fit(name, made(), PART, PARAMS, others())
    two = model_zoo.fit(name, made(altered=True), PART, PARAMS, others())
    np.testing.assert_array_equal(one(PART.train[:5]).risk, two(PART.train[:5]).risk)


def test_one_run_gives_the_ensemble_of_train_the_network_alone_and_the_cox_branch_alone():
    patients = made()
    models = model_zoo.fit_networks(list(model_zoo.COX_WEIGHTS), patients, PART, PARAMS)
    settings = PARAMS.model_copy(update={"cox_weight": 0.0})
    bags = patients.bags(PART.train)
    alone = train(folding.prepare(patients.data, bags, settings, ("fold", 0), "test")).model
    assert not models["mcti"].config.cox_branch
    assert all(torch.equal(value, models["mcti"].net.state_dict()[k]) for k, value in alone.net.state_dict().items())
    assert float(models["mcti+cox"].net.cox_branch.cox_weight) == TrainParams().cox_weight
    outputs = {name: model.output(*given(patients)) for name, model in models.items()}
    weight = TrainParams().cox_weight
    mean = (1 - weight) * outputs["mcti"].hazard_logits + weight * outputs["cox_branch"].hazard_logits
    torch.testing.assert_close(outputs["mcti+cox"].hazard_logits, mean)
    assert not torch.allclose(outputs["mcti"].hazard_logits, outputs["cox_branch"].hazard_logits)


def test_the_sources_reach_the_network():
    params = PARAMS.model_copy(update={"fine_tuning": "full"})
    names = ("mcti", "mcti transfer")
    alone, transferred = (model_zoo.fit(name, made(), PART, params, others())(PART.test).risk for name in names)
    assert not np.allclose(alone, transferred)


def test_without_fine_tuning_one_run_gives_the_models_with_and_without_transfer():
    """The same bits as of a run for each; only the Cox branch learns from the sources."""
    names = ("mcti+cox", "mcti+cox transfer")
    together = model_zoo.fit_networks(names, made(), PART, PARAMS, others())
    for name in names:
        alone = model_zoo.fit_networks([name], made(), PART, PARAMS, others())[name].net.state_dict()
        shared = together[name].net.state_dict()
        assert shared.keys() == alone.keys()
        assert all(torch.equal(value, alone[key]) for key, value in shared.items())
    one, two = (together[name].net.state_dict() for name in names)
    different = {key for key, value in one.items() if not torch.equal(value, two[key])}
    assert "cox_branch.genes" in different
    assert all(key.startswith("cox_branch.") for key in different)


@pytest.mark.parametrize("end", ["", " transfer"])
def test_the_cox_branch_alone_needs_no_trained_network(end):
    """With the other models of its training run, or alone: the same predictions."""
    names = [f"mcti+cox{end}", f"cox_branch{end}"]
    params = PARAMS.model_copy(update={"epochs": 2})
    together, alone = (model_zoo.fit_networks(n, made(), PART, params, others()) for n in (names, names[1:]))
    one, two = (model_zoo.predict_bags(fits[names[1]], made().bags(PART.test), (12.0,)) for fits in (together, alone))
    np.testing.assert_array_equal(one.risk, two.risk)
    np.testing.assert_array_equal(one.survival, two.survival)


def given(patients):
    """Patches, genes and covariates of the first test patient."""
    bag = patients.bags(PART.test[:1])[0]
    return bag.patches, bag.genes, bag.covariates


@pytest.mark.parametrize("name", ["mcti+cox", "transmil", "late_fusion", "motcat"])
def test_batches_give_the_predictions_of_single_patients(name):
    """Bags of different lengths; the registered model predicts one patient at a time."""
    patients = made()
    model = model_zoo.fit_networks([name], patients, PART, PARAMS)[name]
    bags = [dataclasses.replace(bag, patches=bag.patches[: 1 + row % 5]) for row, bag in enumerate(patients.bags(ROWS))]
    batched = model_zoo.predict_bags(model, bags, PARAMS.horizons_months)
    single = pd.DataFrame(fold_files.predict(model, bags, PARAMS.horizons_months, subtypes=True))
    np.testing.assert_allclose(batched.risk, single["risk"], atol=5e-6)
    np.testing.assert_allclose(batched.survival, single[["S_12", "S_36"]], atol=5e-6)
    np.testing.assert_allclose(batched.subtypes, single[["P_IDC", "P_ILC"]], atol=5e-6)


def test_another_seed_is_another_draw_and_the_same_seed_the_same_bits():
    risks = [
        model_zoo.fit("abmil", made(), PART, PARAMS.model_copy(update={"seed": seed}))(PART.test).risk
        for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(risks[0], risks[1])
    assert not np.allclose(risks[0], risks[2])


def test_the_bags_are_those_of_the_rows():
    patients = made()
    assert [bag.patient_id for bag in patients.bags(np.array([3, 1]))] == ["P-03", "P-01"]
