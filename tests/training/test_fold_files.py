import dataclasses

import pytest
import torch

from mcti.dataset.bags import PatientBag
from mcti.errors import DataError
from mcti.training import fold_files, loop
from tests.training import factories
from tests.training.test_loop import task


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder of a fold of two epochs, with its outcome and its test patients."""
    prepared, folder = task(epochs=2), tmp_path_factory.mktemp("fold") / "fold_0"
    outcome, tested = loop.train(prepared), factories.bags(3, seed=5)
    record = {"features": {}, "cohort": {}}
    fold_files.write(folder, outcome, prepared.bags, tested, prepared.params, 0, {"fold": 0}, record)
    return folder, outcome, tested


def test_a_written_fold_predicts_the_same_bits(written):
    folder, outcome, tested = written
    model = fold_files.load(folder)
    assert fold_files.predict(model, tested, (12.0,)) == fold_files.predict(outcome.model, tested, (12.0,))
    assert fold_files.predict_regimes(model, tested, (12.0,)) == [], "the model has no stand-ins"
    assert fold_files.predict_uncalibrated(model, tested, (12.0,)) == []
    assert not (folder / "regimes.csv").exists()


def test_the_summary_counts_the_parameters_and_has_the_last_loss(written):
    folder, outcome, _ = written
    summary = fold_files.summary(folder, 0, 16, 3)
    assert summary.parameters == sum(value.numel() for value in outcome.model.net.state_dict().values())
    assert summary.loss == outcome.history[-1]["loss"]


def test_a_fold_is_current_only_for_its_identity_and_with_all_files(written, tmp_path):
    folder, *_ = written
    assert fold_files.is_current(folder, {"fold": 0})
    assert not fold_files.is_current(folder, {"fold": 1})
    assert not fold_files.is_current(tmp_path, {"fold": 0})


def test_a_damaged_weights_file_is_named(written, tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(DataError, match=r"not a safetensors file.*weights\.safetensors"):
        fold_files.load(tmp_path)


def test_a_patient_who_does_not_fit_the_model_is_named(written):
    _, outcome, tested = written
    wrong = dataclasses.replace(tested[1], patches=torch.zeros(2, factories.WIDTH + 1))
    with pytest.raises(DataError, match="P-001"):
        fold_files.predict(outcome.model, [tested[0], wrong], (12.0,))


def test_the_cohort_record_has_the_kaplan_meier_curve_by_hand():
    """Events at 10 and 20, censored at 15 and 30: S(12) = 3/4, S(24) = 3/4 * 1/2, nothing beyond 30 months."""
    fates = [(10.0, True), (15.0, False), (20.0, True), (30.0, False)]
    bags = [PatientBag(str(i), None, None, months, event, 0) for i, (months, event) in enumerate(fates)]
    params = factories.settings(horizons_months=[12.0, 24.0, 36.0])
    record = fold_files.cohort_record({"name": "c", "endpoint": "OS"}, bags, params)
    assert record["survival"] == {"12": 0.75, "24": 0.375, "36": None}
    assert (record["patients"], record["events"], record["endpoint"]) == (4, 2, "OS")
    assert fold_files.cohort_record({}, bags, params) == {}


def test_the_cohort_record_counts_patients_from_their_entry():
    """Two of four are at risk at month 10, two at month 20: S(12) = 1/2, S(24) = 1/4."""
    fates = [(10.0, True, 0.0), (15.0, False, 4.0), (20.0, True, 10.0), (30.0, False, 12.0)]
    bags = [
        PatientBag(str(i), None, None, t, event, 0, entry_months=start) for i, (t, event, start) in enumerate(fates)
    ]
    record = fold_files.cohort_record({"name": "c"}, bags, factories.settings(horizons_months=[12.0, 24.0]))
    assert record["survival"] == {"12": 0.5, "24": 0.25}
    assert record["late_entries"] == 3
