"""Cases with known results; coverage by a small simulation (the large one: benchmarks/evaluation_coverage.py)."""

import math

import numpy as np
import pytest

from mcti.evaluation import comparison, metrics
from mcti.evaluation.outcomes import Outcomes
from mcti.evaluation.statistics import RowMean
from tests.evaluation.factories import make_folds, make_patients


def test_every_resample_has_the_cohorts_events_and_size():
    event = np.array([True] * 7 + [False] * 30)
    draws = comparison.resamples(event, 200, seed=1)
    assert set(draws[:, event].sum(axis=1)) == {7}
    assert set(draws[:, ~event].sum(axis=1)) == {30}
    np.testing.assert_array_equal(draws, comparison.resamples(event, 200, seed=1))
    assert (draws != comparison.resamples(event, 200, seed=2)).any()


def test_unstratified_resamples_vary_in_events_and_are_used_for_absolute_risks(tied):
    """Stratified draws fix the number of events, and with it most of what moves a Brier score."""
    draws = comparison.Draws.sample(tied.event, 200, seed=1)
    assert len(set(draws.unstratified[:, tied.event].sum(axis=1))) > 10
    assert set(draws.unstratified.sum(axis=1)) == {150}
    survival = np.full(len(tied.patient), 0.7)
    assert draws.matching(metrics.brier_at(tied, survival, 36)) is draws.unstratified
    assert draws.matching(metrics.c_index(tied, survival)) is draws.stratified


def test_the_interval_of_a_mean_agrees_with_normal_theory():
    """1000 values: the percentile interval of a mean is mean ± 1.96 sd / sqrt(n), up to resampling noise of 10 %."""
    values = np.random.default_rng(0).normal(3, 2, size=1000)
    event = np.arange(1000) % 2 == 0
    result = comparison.interval(RowMean(np.arange(1000), values), comparison.resamples(event, 4000, 0), 0.95)
    half = 1.96 * values.std() / math.sqrt(1000)
    assert result.value == pytest.approx(values.mean(), abs=1e-12)
    assert result.high - result.low == pytest.approx(2 * half, rel=0.1)


def test_a_model_does_not_differ_from_itself(tied):
    risk = np.random.default_rng(0).normal(size=len(tied.patient))
    statistic = metrics.c_index(tied, risk)
    result = comparison.paired(statistic, statistic, comparison.resamples(tied.event, 200, 0), 0.95)
    assert vars(result.interval) == {"value": 0, "low": 0, "high": 0}
    assert result.p == 1


def test_the_paired_interval_is_narrower_than_two_single_ones(tied):
    """Two nearly equal models: their single intervals are wide, the interval of their difference is not."""
    risk = np.random.default_rng(0).normal(size=len(tied.patient))
    nearly = risk + 0.05 * np.random.default_rng(1).normal(size=len(risk))
    ours, theirs = metrics.c_index(tied, risk), metrics.c_index(tied, nearly)
    draws = comparison.resamples(tied.event, 500, 0)
    single = comparison.interval(ours, draws, 0.95)
    paired = comparison.paired(ours, theirs, draws, 0.95).interval
    assert paired.high - paired.low < 0.3 * (single.high - single.low)


def test_nadeau_bengio_equals_the_worked_out_interval():
    """Differences 1, 2, 3: mean 2, s² = 1; variance of the mean 1/3 + 1/4 = 7/12; t(2, .975) = 4.302653."""
    result = comparison.nadeau_bengio([1.0, 2.0, 3.0], test_share=0.25, confidence=0.95)
    half = 4.302653 * math.sqrt(7 / 12)
    assert result.interval.low == pytest.approx(2 - half, abs=1e-5)
    assert result.interval.high == pytest.approx(2 + half, abs=1e-5)
    t = 2 / math.sqrt(7 / 12)
    assert result.p == pytest.approx(1 - t / math.sqrt(2 + t**2), abs=1e-12)  # closed form of Student's t, 2 df


def test_nadeau_bengio_leaves_undefined_folds_out():
    assert comparison.nadeau_bengio([1.0, math.nan, 3.0], 0.25, 0.95).folds == 2
    assert math.isnan(comparison.nadeau_bengio([1.0, math.nan], 0.25, 0.95).p)


def test_holm_equals_the_worked_out_values():
    """.01 x 4, then max(.04, .02 x 3), then .03 x 2 -> .06, then .9; an undefined p stays so and is not counted."""
    result = comparison.holm({"a": 0.03, "b": 0.01, "c": 0.9, "d": 0.02, "e": math.nan})
    assert [result[k] for k in "abcd"] == pytest.approx([0.06, 0.04, 0.9, 0.06])
    assert math.isnan(result["e"])


def test_there_is_no_interval_where_most_resamples_are_undefined():
    patients = make_patients(40)
    patients["event"] = [1, *[0] * 39]
    tested = Outcomes.from_folds(patients, make_folds(patients, 4))
    statistic = metrics.auc_at(tested, np.zeros(40), 1e9)  # no patient is followed so long: no control
    result = comparison.interval(statistic, comparison.resamples(tested.event, 100, 0), 0.95)
    assert result.as_dict() == {"value": None, "low": None, "high": None}


@pytest.mark.slow
def test_intervals_of_c_have_about_their_nominal_coverage():
    """200 cohorts of 150 patients with a known risk; the true C from 4000 patients. The binomial error of the share
    at 95 % is 1.5 points, so 90.5 to 99.5 is what three of these allow; 500 simulations: benchmarks/."""
    truth = make_patients(4000, seed=999)
    true_c = metrics.harrell_c(truth["event"].to_numpy() == 1, truth["time_months"].to_numpy(), truth["x"].to_numpy())
    covered = 0
    for seed in range(200):
        patients = make_patients(150, seed)
        tested = Outcomes.from_folds(patients, make_folds(patients))
        statistic = metrics.c_index(tested, patients["x"].to_numpy()[tested.patient])
        result = comparison.interval(statistic, comparison.resamples(tested.event, 300, seed), 0.95)
        covered += result.low <= true_c <= result.high
    assert 0.905 <= covered / 200 <= 0.995
