"""Model-based concordance, calibration slope, and the division of a loss of C."""

import math

import numpy as np
import pandas as pd
import pytest
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.util import Surv

from mcti.evaluation import comparison, transportability
from mcti.evaluation.outcomes import Outcomes
from mcti.evaluation.transportability import Side


def side(x: np.ndarray, beta: float, seed: int, folds: int = 1) -> Side:
    """A proportional hazards cohort with log hazard ratio beta * x; the model claims x."""
    random = np.random.default_rng(seed)
    death, censored = random.exponential(40 * np.exp(-beta * x)), random.uniform(10, 150, len(x))
    patients = pd.DataFrame(
        {
            "patient_id": [f"P{i}" for i in range(len(x))],
            "time_months": np.minimum(death, censored),
            "event": (death <= censored).astype(int),
        }
    )
    ids = list(patients["patient_id"])
    parts = {k: ([], ids[k::folds]) for k in range(folds)}
    outcomes = Outcomes.from_folds(patients, parts)
    return Side(outcomes, x[outcomes.patient], x[outcomes.patient])


def test_the_model_based_concordance_by_hand():
    """Three patients in two folds: only the pair of one fold counts."""
    x = np.array([0.0, 1.0, 3.0])
    both = side(x, 1.0, 0, folds=2)  # fold 0: patients 0 and 2, fold 1: patient 1
    rows = both.linear_predictor
    expected = 1 / (1 + math.exp(-3.0))
    assert comparison.point(transportability.expected_c(both.outcomes, rows), 3) == pytest.approx(expected, abs=1e-12)
    whole = side(x, 1.0, 0)
    mean = np.mean([1 / (1 + math.exp(-gap)) for gap in (1.0, 2.0, 3.0)])
    assert comparison.point(transportability.expected_c(whole.outcomes, x), 3) == pytest.approx(mean, abs=1e-12)


def test_the_slope_is_the_coefficient_of_a_cox_regression():
    """Oracle: scikit-survival 0.28, Breslow's ties, no penalty."""
    cohort = side(np.random.default_rng(0).normal(size=150), 0.6, 1)
    oracle = CoxPHSurvivalAnalysis(ties="breslow", tol=1e-12).fit(
        cohort.linear_predictor[:, None], Surv.from_arrays(cohort.outcomes.event, cohort.outcomes.time_months)
    )
    assert transportability.calibration_slope(cohort) == pytest.approx(float(oracle.coef_[0]), abs=1e-6)
    assert math.isnan(transportability.calibration_slope(side(np.zeros(20), 0.0, 1)))


def test_a_narrower_case_mix_explains_the_loss_of_a_right_model():
    """The model is right in both cohorts; the second one has half the spread."""
    random = np.random.default_rng(5)
    result = transportability.decompose(
        side(random.normal(size=1500), 1.0, 6), side(0.5 * random.normal(size=1500), 1.0, 7), 100, 7
    )
    assert result.loss.low > 0.03
    assert result.case_mix.value == pytest.approx(result.loss.value, abs=0.02)
    assert result.other.low < 0 < result.other.high


def test_a_wrong_model_in_the_same_case_mix_has_no_part_of_the_case_mix():
    random = np.random.default_rng(8)
    result = transportability.decompose(
        side(random.normal(size=1500), 1.0, 9), side(random.normal(size=1500), 0.2, 10), 100, 7
    )
    assert result.case_mix.value == pytest.approx(0, abs=0.015)
    assert result.other.low > 0.05


def test_the_parts_add_up_and_an_overfitted_spread_is_scaled():
    random = np.random.default_rng(11)
    narrow, wide = side(random.normal(size=400), 1.0, 12, folds=4), side(random.normal(size=300), 1.0, 13)
    overfitted = [Side(s.outcomes, s.risk, 3 * s.linear_predictor) for s in (narrow, wide)]
    result = transportability.decompose(*overfitted, 100, 7)
    assert result.loss.value == pytest.approx(result.case_mix.value + result.other.value, abs=1e-12)
    plain = transportability.decompose(narrow, wide, 100, 7)
    assert result.slope == pytest.approx(plain.slope / 3, rel=1e-5)
    assert result.case_mix.value == pytest.approx(plain.case_mix.value, abs=1e-5)
    assert set(result.as_dict()) == {
        "slope", "development_c", "development_expected", "validation_c", "validation_expected", "loss", "case_mix",
        "other",
    }  # fmt: skip
