"""Predicted cumulative incidence: worked cases, the estimate of Aalen and Johansen, and known exponential hazards."""

import numpy as np
import pandas as pd
import pytest

from mcti.evaluation import competing
from mcti.evaluation.competing import CompetingOutcomes
from mcti.evaluation.competing_predictions import (
    MIN_COVARIATE_EVENTS,
    CompetingHazards,
    between_horizons,
    competing_inputs,
    competing_model,
)
from mcti.evaluation.curves import KaplanMeier
from mcti.evaluation.design_matrix import Inputs
from mcti.evaluation.outcomes import Outcomes
from mcti.model.competing_hazard import cumulative_incidence
from tests.evaluation.factories import make_folds
from tests.evaluation.test_competing import cohort

HORIZONS = np.array([12.0, 24.0, 36.0, 48.0])
EVENT, OTHER = 1 / 50, 1 / 70  # hazards per month of the cohort at x = 0


def test_the_incidence_of_two_steps_equals_the_worked_out_value():
    """S1 0.8 then 0.6, S2 0.9 then 0.9: F1 = 0.2, then 0.2 + 0.9 * 0.2."""
    incidence = cumulative_incidence(np.array([[0.8, 0.6]]), np.array([[0.9, 0.9]]))
    np.testing.assert_allclose(incidence, [[0.2, 0.38]])


def test_two_kaplan_meier_curves_give_the_estimate_of_aalen_and_johansen():
    _, time, status = cohort()
    grid = np.unique(time)
    curves = [KaplanMeier.fit(status == code, time).at(grid)[None] for code in (1, 2)]
    expected, _ = competing.aalen_johansen(status == 1, status == 2, time)
    np.testing.assert_allclose(cumulative_incidence(*curves)[0], expected.at(grid), atol=1e-12)


def test_the_hazard_is_constant_between_the_horizons_and_beyond_them():
    survival = np.exp(-np.array([[0.1, 0.4]]))
    curve = between_horizons(survival, np.array([10.0, 20.0]), np.array([5.0, 10.0, 15.0, 20.0, 30.0]))
    np.testing.assert_allclose(-np.log(curve), [[0.05, 0.1, 0.25, 0.4, 0.7]])


def inputs_of(count, seed=11):
    x, time, status = cohort(count, seed)
    patients = pd.DataFrame(
        {"patient_id": [f"P{i:05d}" for i in range(count)], "site": "s", "age": x, "is_female": 0, "subtype": "a",
         "time_months": time, "event": (status == 1).astype(int), "competing": (status == 2).astype(int)}
    )  # fmt: skip
    return x, status, Inputs(patients, pd.DataFrame(index=range(count)))


def hazards(count, folds=2):
    x, status, inputs = inputs_of(count)
    outcomes = Outcomes.from_folds(inputs.patients, make_folds(inputs.patients, folds))
    tested = CompetingOutcomes.of(outcomes, status == 2)
    return x[tested.patient], tested, CompetingHazards(tested, inputs, HORIZONS, 0)


def truth(x, event=EVENT, other=OTHER):
    """F1 (n, h) of two exponential times: h1 / (h1 + h2) (1 - exp(-(h1 + h2) t)), as the times of `cohort`."""
    first, second = event * np.exp(x), other * np.exp(-0.5 * x)
    total = (first + second)[:, None]
    return first[:, None] / total * (1 - np.exp(-total * HORIZONS))


def test_both_ways_recover_the_known_incidence():
    """The curve of the event is the true one, or that of the Cox regression; the other hazard is always fitted."""
    x, _, fitted = hazards(4000)
    survival = np.exp(-EVENT * np.exp(x)[:, None] * HORIZONS)
    assert np.abs(fitted.incidence(survival) - truth(x)).mean() < 0.01
    assert np.abs(fitted.cause_specific_cox() - truth(x)).mean() < 0.02
    naive = 1 - survival
    assert (naive - truth(x))[:, -1].mean() > 0.08  # what 1 - S(t) overestimates


def test_without_enough_competing_events_their_hazard_is_one_curve():
    x, status, inputs = inputs_of(150)
    few = np.flatnonzero(status == 2)[: MIN_COVARIATE_EVENTS - 1]
    had = np.isin(np.arange(150), few)
    curves = competing_model(competing_inputs(inputs, had), 0).predict(inputs, HORIZONS)[1]
    expected = KaplanMeier.fit(had, inputs.time_months).at(HORIZONS)
    np.testing.assert_allclose(curves, np.tile(expected, (150, 1)))
    enough = competing_model(competing_inputs(inputs, status == 2), 0).predict(inputs, HORIZONS)[1]
    assert np.corrcoef(x, enough[:, -1])[0, 1] > 0.5  # x lowers the hazard of the competing event


def test_no_test_patient_influences_the_hazard_of_the_competing_event():
    _, status, inputs = inputs_of(150)
    outcomes = Outcomes.from_folds(inputs.patients, make_folds(inputs.patients, 3))
    survival = np.full((150, len(HORIZONS)), 0.9) ** np.arange(1, 5)
    tested = CompetingOutcomes.of(outcomes, status == 2)
    first = CompetingHazards(tested, inputs, HORIZONS, 0).incidence(survival)
    other = (status == 2).copy()
    other[outcomes.folds[0].patients] = False

    second = CompetingHazards(CompetingOutcomes.of(outcomes, other), inputs, HORIZONS, 0).incidence(survival)
    part = next(part for _, part in outcomes.parts())
    np.testing.assert_allclose(first[part], second[part])
    assert not np.allclose(first, second)


def test_the_incidence_is_between_0_and_the_cause_specific_probability():
    x, tested, fitted = hazards(300)
    survival = np.exp(-EVENT * np.exp(x)[:, None] * HORIZONS)
    incidence = fitted.incidence(survival)
    assert incidence.shape == (len(tested.patient), len(HORIZONS))
    assert (incidence >= 0).all()
    assert (incidence <= 1 - survival + 1e-12).all()
    assert (np.diff(incidence, axis=1) >= 0).all()
    assert incidence[:, -1] == pytest.approx(truth(x)[:, -1], abs=0.15)
