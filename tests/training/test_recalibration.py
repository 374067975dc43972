"""Survival curves recalibrated inside the training part: two numbers, on which no other patient has an influence."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import PoissonRegressor

from mcti.dataset.splits import FoldSplit
from mcti.errors import UsageError
from mcti.model.trained import Recalibration, hazard_increments
from mcti.params import EvaluateParams, TrainParams, check
from mcti.steps.evaluate.step import evaluate
from mcti.steps.train import train
from mcti.training import recalibration
from mcti.training.fold_files import load
from mcti.training.folds import train_fold
from mcti.training.loop import Paused
from mcti.training.recalibration import HeldOutCurves
from tests.training import factories

EDGES = (0.0, 10.0, 25.0, 45.0, 80.0)


def cohort(count: int, *, level: float = 0.0, stretch: float = 1.0, seed: int = 0) -> tuple[HeldOutCurves, np.ndarray]:
    """Patients with a constant hazard in each bin, and curves whose log hazards are off: (predicted, true S)."""
    random = np.random.default_rng(seed)
    rates = np.array([0.15, 0.3, 0.3, 0.4])  # cumulative hazard of each bin for the mean patient
    person = 0.8 * random.normal(size=(count, 1))
    true = rates * np.exp(person)
    predicted = rates * np.exp(level + stretch * person)
    bounds, cumulated = np.array(EDGES), np.concatenate([np.zeros((count, 1)), true.cumsum(1)], axis=1)
    drawn = random.exponential(size=count)
    death = np.array([np.interp(e, c, bounds, right=1e6) for e, c in zip(drawn, cumulated, strict=True)])
    censored = random.uniform(5, 80, count)
    survival = torch.from_numpy(np.exp(-predicted.cumsum(1)))
    time, event = np.minimum(death, censored), death <= censored
    return HeldOutCurves(survival, torch.from_numpy(time), torch.from_numpy(event)), np.exp(-true.cumsum(1))


def test_the_two_numbers_are_those_of_a_poisson_regression():
    """Oracle: scikit-learn's PoissonRegressor without penalty, exposure as weights."""
    unseen, _ = cohort(300, level=0.5, stretch=1.7)
    fit = recalibration.fit(unseen, EDGES)
    exposed, ended = (t.numpy() for t in recalibration.exposure(unseen, EDGES))
    centre = np.array(fit.centre)
    spread = (hazard_increments(unseen.survival).log().numpy() - centre).ravel()
    weight = (exposed * np.exp(centre)).ravel()
    exposed = weight > 0
    model = PoissonRegressor(alpha=0, tol=1e-12, max_iter=10**4)
    model.fit(spread[exposed, None], ended.ravel()[exposed] / weight[exposed], sample_weight=weight[exposed])
    assert fit.slope == pytest.approx(model.coef_[0], abs=1e-4)
    assert fit.intercept == pytest.approx(model.intercept_, abs=1e-4)


def test_curves_that_are_too_sure_come_near_the_truth():
    unseen, true = cohort(4000, level=0.7, stretch=2.0)
    fit = recalibration.fit(unseen, EDGES)
    assert fit.slope == pytest.approx(0.5, abs=0.05)
    before, after = (np.abs(s.numpy() - true).mean() for s in (unseen.survival, fit(unseen.survival)))
    assert before > 0.15
    assert after < 0.02


def test_right_curves_stay_and_reversed_ones_become_the_mean_curve():
    unseen, _ = cohort(20000)
    fit = recalibration.fit(unseen, EDGES)
    assert (fit.intercept, fit.slope) == (pytest.approx(0, abs=0.05), pytest.approx(1, abs=0.05))
    reversed_, _ = cohort(4000, stretch=-1.0)
    curves = recalibration.fit(reversed_, EDGES)(reversed_.survival)
    assert float(curves.std(dim=0).max()) < 1e-12


def test_below_the_fewest_events_only_the_level_is_fitted():
    unseen, _ = cohort(30, level=1.0, stretch=3.0)
    few = dataclasses.replace(unseen, event=unseen.event & (torch.arange(30) < 20))
    assert 0 < int(few.event.sum()) < recalibration.SLOPE_EVENTS
    fit = recalibration.fit(few, EDGES)
    assert fit.slope == 1.0
    assert fit.intercept < 0


def test_no_change_is_no_change():
    survival = torch.tensor([[0.9, 0.7, 0.2]], dtype=torch.float64)
    same = Recalibration(0.0, 1.0, (-2.0, -1.0, -0.5))
    torch.testing.assert_close(same(survival), survival, rtol=1e-14, atol=0)


def test_inner_folds_share_the_events_and_the_subtypes_evenly():
    bags = factories.bags(60)
    parts = recalibration.assign_inner_folds(bags, 3, (1,))
    assert sorted(position for part in parts for position in part) == list(range(60))
    events = [sum(bags[position].event for position in part) for part in parts]
    assert max(events) - min(events) <= 2  # two strata, each uneven by one at most
    assert recalibration.assign_inner_folds(bags, 3, (2,)) != parts


SETTINGS = factories.settings(workers=1, epochs=2, horizons_months=(12.0, 36.0))
RECALIBRATED = SETTINGS.model_copy(update={"recalibration_folds": 2})
IDS = [bag.patient_id for bag in factories.bags(48)]
PART = FoldSplit(0, tuple(IDS[:36]), tuple(IDS[36:]))


def table(folder, name="predictions.csv"):
    return pd.read_csv(folder / "fold_0" / name, float_precision="round_trip").set_index("patient_id")


def test_risks_stay_to_the_bit_and_curves_do_not(tmp_path):
    data = factories.dataset(48)
    train_fold(data, PART, SETTINGS, tmp_path / "plain")
    train_fold(data, PART, RECALIBRATED, tmp_path / "right")
    plain, right, predicted = (
        table(tmp_path / "plain"),
        table(tmp_path / "right"),
        table(tmp_path / "right", "uncalibrated.csv"),
    )
    assert plain["risk"].equals(right["risk"])
    assert not np.allclose(plain["S_36"], right["S_36"], atol=1e-3)
    assert predicted["S_36"].equals(plain["S_36"])
    assert not (tmp_path / "plain" / "fold_0" / "uncalibrated.csv").exists()
    model = load(tmp_path / "right" / "fold_0")  # what the registry and the server load
    for bag in data.select(PART.test, "the test"):
        again = model.predict(bag.patches, bag.genes, (12.0, 36.0))
        assert again["S_36"] == right.loc[bag.patient_id, "S_36"]


def test_no_test_patient_has_a_say(tmp_path):
    data = factories.dataset(48)
    others = {**data.bags, **{bag.patient_id: bag for bag in factories.bags(48, seed=5)[36:]}}
    for name, bags in (("one", data.bags), ("two", others)):
        train_fold(dataclasses.replace(data, bags=bags), PART, RECALIBRATED, tmp_path / name)
    one, two = (json.loads((tmp_path / n / "fold_0" / "model.json").read_text())["fitted"] for n in ("one", "two"))
    assert one["recalibration"] == two["recalibration"]


def test_training_stopped_within_an_inner_model_resumes_to_the_same_bytes(tmp_path):
    data = factories.dataset(48)
    train_fold(data, PART, RECALIBRATED, tmp_path / "whole")
    requested = iter(range(1000))
    eager = RECALIBRATED.model_copy(update={"checkpoint_seconds": 0.0})
    steps = 2 * 5  # of the model itself; its inner models come after
    with pytest.raises(Paused, match="inner model 1 of the recalibration"):
        train_fold(data, PART, eager, tmp_path / "again", stop=lambda: next(requested) == steps)
    train_fold(data, PART, eager, tmp_path / "again")
    for name in ("weights.safetensors", "predictions.csv", "uncalibrated.csv"):
        assert (tmp_path / "again" / "fold_0" / name).read_bytes() == (
            tmp_path / "whole" / "fold_0" / name
        ).read_bytes()


def test_the_report_shows_before_and_after(tmp_path):
    cohort, features, folds = factories.folders(tmp_path, patients=48)
    train(cohort, features, folds, RECALIBRATED, tmp_path / "models")
    params = EvaluateParams(
        bootstrap=100, horizons_months=(12.0, 36.0), baselines=("cox_clinical_genes",), attribution_patients=0
    )
    evaluate(cohort, features, folds, tmp_path / "models", params, tmp_path / "out")
    ours = json.loads((tmp_path / "out" / "metrics.json").read_text())["mcti"]
    assert ours["recalibration"]["after"]["ibs"] == ours["ibs"]
    assert ours["recalibration"]["before"]["ibs"] != ours["ibs"]
    assert "Before and after recalibration" in (tmp_path / "out" / "report.html").read_text()


def test_one_inner_fold_is_refused():
    with pytest.raises(UsageError, match="recalibration_folds 1"):
        check(TrainParams, {"recalibration_folds": 1}, "params.yaml")


def test_a_patient_is_exposed_from_the_entry_on():
    """Edges 0, 10, 25, 45, 80; entry at 5, end at 30 months: half of bin 0, bin 1, a quarter of bin 2."""
    one = HeldOutCurves(torch.ones(1, 4), torch.tensor([30.0]), torch.tensor([True]), torch.tensor([5.0]))
    exposed, ended = recalibration.exposure(one, EDGES)
    assert exposed[0].tolist() == pytest.approx([0.5, 1, 0.25, 0])
    assert ended[0].tolist() == [0, 0, 1, 0]


def test_late_entry_does_not_lower_the_recalibrated_level():
    """The curves are right, and half of the patients enter late: the level is 0 with entries, below it without."""
    unseen, _ = cohort(6000, seed=4)
    entry = torch.from_numpy(np.where(np.arange(6000) % 2, np.random.default_rng(1).uniform(0, 40, 6000), 0.0))
    kept = unseen.time_months > entry
    curves = HeldOutCurves(unseen.survival[kept], unseen.time_months[kept], unseen.event[kept])
    right = recalibration.fit(dataclasses.replace(curves, entry_months=entry[kept]), EDGES)
    assert right.intercept == pytest.approx(0, abs=0.07)
    assert recalibration.fit(curves, EDGES).intercept < -0.15


def test_inner_models_are_recalibrated_from_the_entry_on(monkeypatch):
    bags = [dataclasses.replace(bag, entry_months=bag.time_months / 2) for bag in factories.bags(12)]
    monkeypatch.setattr(recalibration, "curves", lambda _, bags, edges: torch.ones(len(bags), len(edges) - 1).double())
    fitted = []
    monkeypatch.setattr(recalibration, "fit", lambda held_out, _: fitted.append(held_out))
    recalibration.fit_by_inner_models(EDGES, bags, 3, ("inner", 0), lambda *_: None)
    torch.testing.assert_close(fitted[0].entry_months, fitted[0].time_months / 2)
