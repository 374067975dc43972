"""Calibration on forecasts whose truth is known."""

import numpy as np

from mcti.evaluation import calibration
from mcti.evaluation.outcomes import Outcomes
from tests.evaluation.made import make_folds, make_patients


def _made(count: int = 3000) -> tuple[Outcomes, np.ndarray]:
    """The true S(36): exp(-36/60 exp(x))."""
    patients = make_patients(count)
    outcomes = Outcomes.of(patients, make_folds(patients))
    return outcomes, np.exp(-0.6 * np.exp(patients["x"].to_numpy()[outcomes.patient]))


def test_the_truth_is_calibrated_in_every_fifth():
    """600 patients a group: the binomial error is at most 2 points, three of them are allowed."""
    outcomes, survival = _made()
    found = calibration.by_fifths(outcomes, survival, 36.0)
    np.testing.assert_allclose(found["observed"], found["predicted"], atol=0.06)
    assert (found["low"] < found["observed"]).all()
    assert (found["observed"] < found["high"]).all()
    assert (np.diff(found["predicted"]) > 0).all()


def test_a_forecast_too_dark_lies_below_the_line():
    outcomes, survival = _made()
    found = calibration.by_fifths(outcomes, survival**3, 36.0)
    assert (found["observed"] < found["predicted"] - 0.02).all()
