"""Restricted mean survival times against lifelines 0.30."""

import numpy as np
import pandas as pd
import pytest
from lifelines import KaplanMeierFitter
from lifelines.utils import restricted_mean_survival_time

from mcti.evaluation import scores
from mcti.evaluation.comparison import Draws, point
from mcti.evaluation.outcomes import Outcomes
from mcti.evaluation.restricted_mean import common_follow_up, rmst_difference
from mcti.evaluation.risk_groups import RiskGroups
from mcti.params import EvaluateParams


def test_restricted_mean_difference_agrees_with_lifelines(tied):
    group = np.random.default_rng(0).integers(0, 2, size=len(tied.patient))
    statistic = rmst_difference(tied, group, 48.0)
    means = []
    for g in (0, 1):
        rows = tied.patient[group == g]
        means.append(
            restricted_mean_survival_time(KaplanMeierFitter().fit(tied.time_months[rows], tied.event[rows]), 48)
        )
    assert point(statistic, 150) == pytest.approx(means[0] - means[1], abs=1e-9)


def test_a_resample_has_the_restricted_mean_of_the_copied_patients(tied):
    group = np.random.default_rng(0).integers(0, 2, size=len(tied.patient))
    draws = np.random.default_rng(1).multinomial(150, np.full(150, 1 / 150), size=3).astype(float)
    for row, value in zip(draws, rmst_difference(tied, group, 48.0)(draws), strict=True):
        means = []
        for g in (0, 1):
            rows = np.repeat(tied.patient[group == g], row[tied.patient[group == g]].astype(int))
            fitted = KaplanMeierFitter().fit(tied.time_months[rows], tied.event[rows])
            means.append(restricted_mean_survival_time(fitted, 48))
        assert value == pytest.approx(means[0] - means[1], abs=1e-9)


def test_the_restricted_mean_ends_with_the_shorter_follow_up():
    """Low group: no event, followed up to month 60 or 29. High group: events at 2 and 10 in four patients, the others
    followed up to month 29. Up to 29 months the low group has 29 event-free months, the high group
    (2 + 10 + 29 + 29) / 4 = 17.5: a difference of 11.5. Up to month 60 the curve of the high group would be
    extrapolated, and the difference would be 27."""
    table = pd.DataFrame(
        {
            "patient_id": list("ABCDEFGH"),
            "time_months": [60.0, 60, 60, 29, 2, 10, 29, 29],
            "event": [0, 0, 0, 0, 1, 1, 0, 0],
        }
    )
    more = table.assign(patient_id="T" + table["patient_id"])
    outcomes = Outcomes.from_folds(pd.concat([table, more]), {0: (list(more["patient_id"]), list(table["patient_id"]))})
    group = np.repeat([0, 1], 4)
    assert common_follow_up(outcomes, group) == 29
    grouped = RiskGroups(group, ("low", "high"), (None, None), np.nan)
    params = EvaluateParams(bootstrap=100, horizons_months=(12.0, 60.0))
    numbers = scores.risk_group_numbers(
        outcomes, grouped, Draws.sample(outcomes.event, 100, 7, outcomes.tested), params
    )
    assert numbers["rmst_months"]["asked_months"] == 60
    assert numbers["rmst_months"]["horizon_months"] == 29
    assert numbers["rmst_months"]["value"] == pytest.approx(11.5)
