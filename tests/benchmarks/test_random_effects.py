"""The random-effects mean against published results and statsmodels 0.15."""

import math

import numpy as np
import pytest

from benchmarks.random_effects import between_cohorts, pool

BCG = np.array(
    [
        [4, 119, 11, 128], [6, 300, 29, 274], [3, 228, 11, 209], [62, 13536, 248, 12619], [33, 5036, 47, 5761],
        [180, 1361, 372, 1079], [8, 2537, 10, 619], [505, 87886, 499, 87892], [29, 7470, 45, 7232],
        [17, 1699, 65, 1600], [186, 50448, 141, 27197], [5, 2493, 3, 2338], [27, 16886, 29, 17825],
    ],
    dtype=np.float64,
)  # fmt: skip
"""Thirteen trials of the BCG vaccine (Colditz et al. 1994): tuberculosis yes and no, vaccinated and control."""


def log_risk_ratios():
    vaccinated, control = BCG[:, :2].sum(1), BCG[:, 2:].sum(1)
    ratio = np.log(BCG[:, 0] / vaccinated) - np.log(BCG[:, 2] / control)
    return ratio, np.sqrt(1 / BCG[:, 0] - 1 / vaccinated + 1 / BCG[:, 2] - 1 / control)


def test_the_trials_of_the_bcg_vaccine():
    """tau² .3181 is the Paule-Mandel estimate of metafor's documentation of these data; the rest is that of
    statsmodels.stats.meta_analysis.combine_effects(method_re="iterated", use_t=True)."""
    estimates, errors = log_risk_ratios()
    pooled = pool(estimates, errors)
    assert pooled.tau**2 == pytest.approx(0.31806845, abs=1e-7)
    assert pooled.value == pytest.approx(-0.71496783, abs=1e-6)
    assert (pooled.low, pooled.high) == pytest.approx((-1.10909838, -0.32083793), abs=1e-6)
    assert pooled.heterogeneity == pytest.approx(0.92117347, abs=1e-8)


def test_equal_estimates_have_no_variance_between_cohorts():
    """The mean and its standard error are those of a common effect, the interval that of t with two degrees."""
    pooled = pool([0.02, 0.02, 0.02], [0.01, 0.01, 0.01])
    assert (pooled.tau, pooled.heterogeneity) == (0.0, 0.0)
    assert pooled.value == pytest.approx(0.02)
    assert pooled.high - pooled.value == pytest.approx(4.302653 * 0.01 / math.sqrt(3), rel=1e-6)


def test_a_cohort_that_deviates_widens_the_interval():
    narrow, wide = (pool([0.02, 0.02, last], [0.01] * 3) for last in (0.03, 0.2))
    assert between_cohorts(np.array([0.02, 0.02, 0.03]), np.full(3, 1e-4)) == 0.0
    assert wide.tau > 0.05
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)


def test_one_cohort_has_no_interval_and_none_is_an_error():
    alone = pool([0.02], [0.01])
    assert alone.value == pytest.approx(0.02)
    assert math.isnan(alone.low)
    with pytest.raises(ValueError, match="cannot be pooled"):
        pool([], [])
    with pytest.raises(ValueError, match="cannot be pooled"):
        pool([0.02, 0.01], [0.01, 0.0])
