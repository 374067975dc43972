"""Estimates with late entry (left truncation): R survival 3.5-3, and simulated cohorts of which the truth is known."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mcti.errors import DataError
from mcti.evaluation import (
    calibration,
    characteristics,
    decay,
    metrics,
    predictions,
    restricted_mean,
    risk_groups,
    roc,
    transportability,
)
from mcti.evaluation.baselines import fit_predict
from mcti.evaluation.comparison import point
from mcti.evaluation.curves import KaplanMeier, ObservationCurve, censoring_curve, median_follow_up
from mcti.evaluation.design_matrix import Inputs
from mcti.evaluation.metric_differences import changed_follow_up
from mcti.evaluation.outcomes import Outcomes
from mcti.evaluation.paired_comparison import PairedComparison
from mcti.evaluation.predictions import Predictions
from mcti.params import MonitorParams
from tests import left_truncated as lt
from tests.evaluation.factories import make_folds, make_patients

MONTHS = 24.0


def frame(entry, time, event):
    ids = [f"P{number:05d}" for number in range(len(time))]
    return pd.DataFrame({"patient_id": ids, "time_months": time, "event": event.astype(int), "entry_months": entry})


def whole(patients):
    """All patients as one test part, with their own weights."""
    return Outcomes.from_folds(patients, {0: ([], list(patients["patient_id"]))}).with_weights_of_all()


def value(statistic, outcomes):
    return point(statistic, len(outcomes.patient_ids))


@pytest.fixture(scope="module")
def sample():
    """3,000 patients of whom half enter late, with their risk and their true S(24): (outcomes, x, survival)."""
    x, entry, time, event = lt.simulated(3000, seed=7)
    return whole(frame(entry, time, event)), x, np.exp(-0.03 * MONTHS * np.exp(x))


@pytest.fixture(scope="module")
def everyone():
    """The complete truth: 60,000 patients from the origin without censoring: (time, x, survival)."""
    random = np.random.default_rng(1)
    x = random.normal(size=60_000)
    return random.exponential(1 / (0.03 * np.exp(x))), x, np.exp(-0.03 * MONTHS * np.exp(x))


def naive(outcomes):
    """The same patients, all counted from the origin."""
    folds = [dataclasses.replace(fold, entry_months=None, train_entry=None) for fold in outcomes.folds]
    return dataclasses.replace(outcomes, folds=tuple(folds), entry_months=None)


def test_kaplan_meier_with_its_errors_and_intervals_is_that_of_r():
    curve = KaplanMeier.fit(lt.EVENT, lt.TIME, lt.ENTRY)
    np.testing.assert_array_equal(curve.times, lt.TIMES)
    np.testing.assert_array_equal(curve.at_risk, lt.AT_RISK)
    np.testing.assert_allclose(curve.values, lt.SURVIVAL, atol=1e-11)
    np.testing.assert_allclose(np.sqrt(curve.variance) / curve.values, lt.LOG_ERROR, atol=1e-10)
    np.testing.assert_allclose(curve.band()[0], lt.LOW, atol=1e-10)


def test_numbers_at_risk_rise_where_patients_enter():
    """Counted from the definition, on tests/left_truncated.py: entry < t <= time."""
    curve = KaplanMeier.fit(lt.EVENT, lt.TIME, lt.ENTRY)
    months = np.array([0.5, 1.5, 2.5, 4.5, 8.0, 11.5, 13.0])
    expected = [int(((t > lt.ENTRY) & (t <= lt.TIME)).sum()) for t in months]
    assert curve.number_at_risk(months).tolist() == expected == [3, 4, 6, 7, 7, 2, 0]


def test_the_median_follow_up_counts_from_the_entry():
    assert median_follow_up(lt.EVENT, lt.TIME, lt.ENTRY) == KaplanMeier.fit(~lt.EVENT, lt.TIME, lt.ENTRY).quantile(0.5)
    time, none = np.array([10.0, 20.0]), np.zeros(2, dtype=bool)
    assert median_follow_up(none, time, np.array([0.0, 15.0])) == 10.0


def test_without_late_entry_the_observation_curve_is_the_censoring_curve():
    patients = make_patients(200, months=1)
    event, time = patients["event"].to_numpy() == 1, patients["time_months"].to_numpy()
    ours, theirs = ObservationCurve.fit(event, time, np.zeros(200)), censoring_curve(event, time)
    months = np.arange(0.5, time[event].max(), 0.5)
    np.testing.assert_allclose(ours.at(months), theirs.at(months), atol=1e-12)
    np.testing.assert_allclose(ours.before(months), theirs.before(months), atol=1e-12)


def test_the_weights_of_the_same_rows_add_up_to_their_number_and_give_the_kaplan_meier_curve(sample):
    outcomes, _, _ = sample
    (fold,) = outcomes.folds
    for months in (6.0, 24.0, 48.0):
        had, weight = metrics.status_weights(fold, months)
        assert weight.sum() == pytest.approx(3000)
        assert weight[had].sum() / 3000 == pytest.approx(1 - float(fold.survival.at(months)))


def test_the_curve_is_that_of_the_complete_cohort(sample, everyone):
    outcomes, truth = sample[0], float((everyone[0] > MONTHS).mean())
    assert float(outcomes.folds[0].survival.at(MONTHS)) == pytest.approx(truth, abs=0.02)
    assert float(naive(outcomes).folds[0].survival.at(MONTHS)) > truth + 0.1


def test_brier_score_auc_and_calibration_are_those_of_the_complete_cohort(sample, everyone):
    outcomes, x, survival = sample
    time, truth_x, truth_survival = everyone
    had = time <= MONTHS
    brier = float(np.mean((had - (1 - truth_survival)) ** 2))
    auc = float(stats.mannwhitneyu(truth_x[had], truth_x[~had]).statistic / (had.sum() * (~had).sum()))
    assert value(metrics.brier_at(outcomes, survival, MONTHS), outcomes) == pytest.approx(brier, abs=0.01)
    assert value(metrics.auc_at(outcomes, x, MONTHS), outcomes) == pytest.approx(auc, abs=0.02)
    ratio = calibration.observed_to_expected
    assert value(ratio(outcomes, survival, MONTHS), outcomes) == pytest.approx(1, abs=0.04)
    assert value(ratio(naive(outcomes), survival, MONTHS), outcomes) < 0.9
    for coefficient, expected in (("slope", 1.0), ("intercept", 0.0)):
        estimate = value(calibration.recalibration(outcomes, survival, MONTHS, coefficient), outcomes)
        assert estimate == pytest.approx(expected, abs=0.12)
    assert value(calibration.recalibration(naive(outcomes), survival, MONTHS, "intercept"), outcomes) < -0.2


def test_unos_c_is_that_of_the_complete_cohort(sample, everyone):
    outcomes, x, _ = sample
    tau, time = outcomes.folds[0].follow_up_quantile(metrics.UNO_TAU_QUANTILE), everyone[0][:4000]
    early = time < tau
    truth = metrics.harrell_c(early, np.minimum(time, tau), everyone[1][:4000])
    assert value(metrics.uno_c(outcomes, x), outcomes) == pytest.approx(truth, abs=0.015)


def test_harrells_c_compares_patients_under_observation():
    patients = frame(lt.ENTRY, lt.TIME, lt.EVENT)
    outcomes = whole(patients)
    assert value(metrics.c_index(outcomes, lt.X), outcomes) == pytest.approx(lt.CONCORDANCE)


def test_the_area_under_the_roc_curve_is_the_auc(sample):
    outcomes, x, _ = sample
    false, true, _ = roc.curve_at(outcomes, x, MONTHS)
    assert np.trapezoid(true, false) == pytest.approx(value(metrics.auc_at(outcomes, x, MONTHS), outcomes), abs=1e-9)


def test_true_curves_are_distribution_calibrated_only_with_the_entry(sample):
    outcomes, x, _ = sample
    horizons = np.arange(2.0, 61.0, 2.0)
    survival = np.exp(-0.03 * horizons * np.exp(x)[:, None])
    assert calibration.d_calibration(outcomes, survival, horizons).p > 0.01
    assert calibration.d_calibration(naive(outcomes), survival, horizons).p < 1e-6


def test_groups_are_observed_from_the_entry(sample):
    outcomes, _, survival = sample
    groups = calibration.calibration_groups(outcomes, survival, MONTHS)
    np.testing.assert_allclose(groups["observed"], groups["predicted"], atol=0.06)
    biased = calibration.calibration_groups(naive(outcomes), survival, MONTHS)
    assert (biased["observed"] < groups["observed"]).all()


@pytest.mark.parametrize(("group", "expected", "freedom"), [("two", lt.LOG_RANK_2, 1), ("four", lt.LOG_RANK_4, 3)])
def test_the_log_rank_test_is_that_of_r(group, expected, freedom):
    labels = {"two": lt.GROUP, "four": lt.GROUP + 2 * (lt.X > 0.45)}[group]
    p = risk_groups.late_entry_log_rank(lt.EVENT, lt.TIME, lt.ENTRY, labels)
    assert p == pytest.approx(float(stats.chi2.sf(expected, freedom)), abs=1e-9)
    assert risk_groups.log_rank(whole(frame(lt.ENTRY, lt.TIME, lt.EVENT)), labels) == p


def test_without_late_entry_the_log_rank_test_is_that_of_scikit_survival():
    patients = make_patients(120, months=1)
    outcomes, group = whole(patients), (patients["x"].to_numpy() > 0).astype(int)
    event, time = patients["event"].to_numpy() == 1, patients["time_months"].to_numpy()
    p = risk_groups.late_entry_log_rank(event, time, np.zeros(120), group)
    assert p == pytest.approx(risk_groups.log_rank(outcomes, group), rel=1e-8)


def test_the_restricted_mean_is_that_of_r():
    rows = np.arange(12)
    difference = restricted_mean.RmstDifference(rows, rows, lt.EVENT, lt.TIME, 10.0, lt.ENTRY)
    assert difference._mean(rows, np.ones((1, 12)))[0] == pytest.approx(lt.RESTRICTED_MEAN, abs=1e-10)
    twice = difference._mean(np.concatenate([rows, rows]), np.ones((1, 12)))
    assert twice[0] == pytest.approx(lt.RESTRICTED_MEAN, abs=1e-10)


def test_baselines_fit_from_the_entry_on():
    """The clinical Cox model and the Kaplan-Meier curve predict the true S(24) of the patients with x = 0."""
    x, entry, time, event = lt.simulated(1500, seed=3)
    patients = frame(entry, time, event).assign(age=x, is_female=1, subtype="a", site="s", cohort="c")
    patients.loc[patients.index[1000:], "age"] = 0.0
    folds = {0: (list(patients["patient_id"][:1000]), list(patients["patient_id"][1000:]))}
    outcomes = Outcomes.from_folds(patients, folds)
    inputs = Inputs(patients, pd.DataFrame(index=patients["patient_id"]))
    cox = fit_predict("cox_clinical", inputs, outcomes, np.array([MONTHS]), 0)
    assert cox.survival[0, 0] == pytest.approx(np.exp(-0.03 * MONTHS), abs=0.04)
    without = dataclasses.replace(inputs, patients=patients.drop(columns="entry_months"))
    assert fit_predict("cox_clinical", without, outcomes, np.array([MONTHS]), 0).survival[0, 0] > 0.53
    curve = fit_predict("kaplan_meier", inputs, outcomes, np.array([MONTHS]), 0).survival[0, 0]
    assert curve == float(outcomes.folds[0].survival.at(MONTHS))


def test_the_table_of_predictions_carries_the_entry_to_every_later_comparison():
    x, entry, time, event = lt.simulated(200, seed=5)
    patients = frame(entry, time, event)
    outcomes = Outcomes.from_folds(patients, make_folds(patients, 2))
    horizons, rows = np.array([12.0]), outcomes.patient
    survival = np.exp(-0.03 * 12 * np.exp(x[rows]))[:, None]
    table = predictions.with_outcomes(outcomes, Predictions(x[rows], survival), horizons)
    np.testing.assert_array_equal(table["entry_months"], entry)
    pair = PairedComparison.from_tables(table, table.assign(risk=-table["risk"]))
    np.testing.assert_array_equal(pair.model.outcomes.entry_months, entry)
    assert pair.model.outcomes.folds[0].train_entry is not None
    assert changed_follow_up(table, table.assign(entry_months=table["entry_months"] + 0.5)) == 200
    assert changed_follow_up(table, table) == 0
    with pytest.raises(DataError, match="no column entry_months, which those of the comparator have"):
        PairedComparison.from_tables(table.drop(columns="entry_months"), table)


def test_the_calibration_slope_is_the_coefficient_of_r():
    side = transportability.Side(whole(frame(lt.ENTRY, lt.TIME, lt.EVENT)), lt.X, lt.X)
    assert transportability.calibration_slope(side) == pytest.approx(lt.COEFFICIENT, abs=1e-6)


def test_the_curve_of_a_risk_group_is_that_of_r():
    (curve,) = risk_groups.curves_of(whole(frame(lt.ENTRY, lt.TIME, lt.EVENT)), np.zeros(12, dtype=int), 1)
    np.testing.assert_allclose(curve.at(lt.TIMES), lt.SURVIVAL, atol=1e-11)


def test_table_1_has_the_median_follow_up_from_the_entry(sample):
    outcomes, x, _ = sample
    patients = frame(outcomes.entry_months, outcomes.time_months, outcomes.event)
    patients = patients.assign(age=60.0, is_female=1.0, subtype="a", site="s", cohort="c")
    rows = characteristics.table(patients, outcomes, risk_groups.form_groups(outcomes, x, 2)).set_index(
        "characteristic"
    )
    expected = median_follow_up(outcomes.event, outcomes.time_months, outcomes.entry_months)
    assert rows.loc["median follow-up, months (reverse Kaplan-Meier)", "all"].startswith(f"{expected:.1f}"[:4])
    assert expected < median_follow_up(outcomes.event, outcomes.time_months) - 1


def test_the_performance_of_a_right_model_has_no_gap(sample):
    """The mean prediction of those in the table is too low: patients of high risk are rarer among late entries."""
    outcomes, x, survival = sample
    follow_up = (outcomes.event, outcomes.time_months, x, {MONTHS: survival}, None)
    assessed = decay.assess(*follow_up, MonitorParams(bootstrap=100), outcomes.entry_months)
    assert assessed.gap.value == pytest.approx(0, abs=0.02)
    assert assessed.predicted > 1 - survival.mean() + 0.03
