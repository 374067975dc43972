"""Every model by one name on one training part; the stack of MCTI and the linear model."""

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


@pytest.mark.parametrize("name", model_zoo.NAMES)
def test_every_name_gives_risks_and_falling_curves(name):
    predicted = model_zoo.fit(name, made(), PART, PARAMS)(PART.test)
    assert predicted.risk.shape == (20,)
    assert np.isfinite(predicted.risk).all()
    assert predicted.survival.shape == (20, 2)
    assert (predicted.survival[:, 0] >= predicted.survival[:, 1] - 1e-9).all()
    assert ((predicted.survival >= 0) & (predicted.survival <= 1)).all()


def test_an_unknown_name_is_met_with_the_nearest():
    with pytest.raises(UsageError, match="did you mean mcti"):
        model_zoo.fit("mct", made(), PART, PARAMS)


@pytest.mark.parametrize("name", ["mcti+cox", "mcat"])
def test_what_is_fitted_never_sees_the_test_part(name):
    """Fitted on a cohort with other test patients, the model predicts the same for a third patient."""
    one = model_zoo.fit(name, made(), PART, PARAMS)
    two = model_zoo.fit(name, made(altered=True), PART, PARAMS)
    np.testing.assert_array_equal(one(PART.train[:5]).risk, two(PART.train[:5]).risk)


def test_the_stack_is_what_train_makes_and_the_networks_stand_alone():
    """`mcti+cox` is the ensemble with a Cox model; `mcti` is the network alone, with the same weights."""
    patients = made()
    alone, both = (model_zoo.fit_network(name, patients, PART, PARAMS) for name in ("mcti", "mcti+cox"))
    assert not alone.config.cox_branch
    assert both.config.cox_branch
    assert float(both.net.cox_branch.cox_weight) == TrainParams().cox_weight == 0.5
    weights = both.net.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in alone.net.state_dict().items())


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
