"""Every model by one name on one training part; the stack of MCTI and the linear model."""

import numpy as np
import pandas as pd
import pytest
import torch

from mcti.errors import UsageError
from mcti.evaluation.design import Inputs
from mcti.params import TrainParams
from mcti.steps import contenders
from mcti.steps.contenders import Part, Patients
from mcti.training.bags import PatientBag
from mcti.training.folds import Dataset

PARAMS = TrainParams.model_validate(
    {"epochs": 1, "batch_patients": 16, "device": "cpu", "horizons_months": (12.0, 36.0)}
)
ROWS = np.arange(60)
PART = Part(0, ROWS[:40], ROWS[40:])


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


@pytest.mark.parametrize("name", contenders.NAMES)
def test_every_name_gives_risks_and_falling_curves(name):
    found = contenders.fit(name, made(), PART, PARAMS)(PART.test)
    assert found.risk.shape == (20,)
    assert np.isfinite(found.risk).all()
    assert found.survival.shape == (20, 2)
    assert (found.survival[:, 0] >= found.survival[:, 1] - 1e-9).all()
    assert ((found.survival >= 0) & (found.survival <= 1)).all()


def test_an_unknown_name_is_met_with_the_nearest():
    with pytest.raises(UsageError, match="did you mean mcti"):
        contenders.fit("mct", made(), PART, PARAMS)


@pytest.mark.parametrize("name", ["stack", "mcat"])
def test_what_is_fitted_never_sees_the_test_part(name):
    """Fitted on a cohort with other test patients, the model says the same of a third person."""
    one = contenders.fit(name, made(), PART, PARAMS)
    two = contenders.fit(name, made(altered=True), PART, PARAMS)
    np.testing.assert_array_equal(one(PART.train[:5]).risk, two(PART.train[:5]).risk)


def test_the_stack_leans_on_the_model_that_knows():
    """One epoch leaves MCTI near chance while one gene tells all: the linear column carries the stack."""
    stack = contenders.Stack.fit(made(), PART, PARAMS)
    assert stack.cox.coefficients[1] > 2 * stack.cox.coefficients[0] >= 0


def test_the_stack_asks_the_models_of_the_whole_training_part():
    """Its risk is the weighted sum of what `mcti` and `linear_all` say, each fitted alone on that part."""
    patients = made()
    stack = contenders.Stack.fit(patients, PART, PARAMS)
    alone = [contenders.fit(name, patients, PART, PARAMS)(PART.test).risk for name in ("mcti", "linear_all")]
    scaled = [(risk - mean) / sd for risk, (mean, sd) in zip(alone, stack.scales, strict=True)]
    wanted = stack.cox.coefficients @ np.array(scaled)
    found = stack.forecast(patients, PARAMS.horizons_months)(PART.test).risk
    np.testing.assert_allclose(found - found.mean(), wanted - wanted.mean(), atol=1e-9)


def test_a_column_that_points_the_wrong_way_is_dropped():
    random = np.random.default_rng(0)
    good = random.normal(size=300)
    time, event = random.exponential(np.exp(-good)), np.ones(300, dtype=bool)
    found = contenders.weigh(np.column_stack([good, -good + 0.1 * random.normal(size=300)]), event, time, 0)
    assert found.coefficients[1] == 0
    assert found.coefficients[0] == pytest.approx(1, abs=0.2)


def test_two_columns_that_tell_alike_much_get_nearly_equal_weights():
    """Nearer than free fitting gives them: the reference is scikit-survival's ridge on the columns themselves."""
    from sksurv.linear_model import CoxPHSurvivalAnalysis
    from sksurv.util import Surv

    random = np.random.default_rng(3)
    truth = random.normal(size=120)
    columns = np.column_stack([truth + random.normal(size=120), truth + random.normal(size=120)])
    time, event = random.exponential(np.exp(-truth)), random.random(120) < 0.6
    ours = contenders.weigh(columns, event, time, 0).coefficients
    free = CoxPHSurvivalAnalysis(alpha=1.0).fit(columns, Surv.from_arrays(event, time)).coef_
    assert (ours > 0).all()
    assert abs(ours[0] - ours[1]) / ours.sum() < 0.6 * abs(free[0] - free[1]) / free.sum()


def test_another_seed_is_another_draw_and_the_same_seed_the_same_bits():
    risks = [
        contenders.fit("abmil", made(), PART, PARAMS.model_copy(update={"seed": seed}))(PART.test).risk
        for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(risks[0], risks[1])
    assert not np.allclose(risks[0], risks[2])


def test_the_bags_are_those_of_the_rows():
    patients = made()
    assert [bag.patient_id for bag in patients.bags(np.array([3, 1]))] == ["P-03", "P-01"]
