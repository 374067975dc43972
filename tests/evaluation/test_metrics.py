"""Oracles: scikit-survival 0.28 and lifelines 0.30 (second implementations), and cases with known results."""

import numpy as np
import pandas as pd
import pytest
from sksurv.metrics import brier_score, concordance_index_censored, concordance_index_ipcw, cumulative_dynamic_auc
from sksurv.util import Surv

from mcti.evaluation import metrics
from mcti.evaluation.comparison import point
from mcti.evaluation.outcomes import Fold, Outcomes
from tests.evaluation.factories import make_folds, make_patients

EXACT = 1e-12  # the same sums in another order, in float64


def _risk(tested: Outcomes, seed: int = 3) -> np.ndarray:
    """Noisy risks rounded to a tenth, so that many are tied."""
    return np.round(np.random.default_rng(seed).normal(size=len(tested.patient)), 1)


def _value(statistic, tested):
    return point(statistic, len(tested.patient_ids))


def test_c_equals_the_worked_out_value():
    """Events at 1 and 3, censored at 2 and 4: pairs (1,2) (1,3) (1,4) (3,4); the risks get two right and tie one."""
    event, time = np.array([True, False, True, False]), np.array([1.0, 2.0, 3.0, 4.0])
    assert metrics.harrell_c(event, time, np.array([2.0, 1.0, 2.0, 3.0])) == pytest.approx((1 + 0.5 + 0 + 0) / 4)


def test_c_is_one_when_the_earlier_event_has_the_higher_risk():
    event, time = np.ones(5, dtype=bool), np.arange(1.0, 6.0)
    assert metrics.harrell_c(event, time, -time) == 1.0
    assert metrics.harrell_c(event, time, time) == 0.0


def test_c_without_an_orderable_pair_is_nan():
    assert np.isnan(metrics.harrell_c(np.zeros(4, dtype=bool), np.arange(4.0) + 1, np.arange(4.0)))


@pytest.mark.parametrize("seed", range(5))
def test_c_agrees_with_scikit_survival_and_lifelines_ties_included(seed):
    from lifelines.utils import concordance_index

    patients = make_patients(120, seed, months=1)
    event, time = patients["event"].to_numpy() == 1, patients["time_months"].to_numpy()
    risk = np.round(patients["x"].to_numpy(), 1)
    ours = metrics.harrell_c(event, time, risk)
    assert ours == pytest.approx(concordance_index_censored(event, time, risk)[0], abs=EXACT)
    assert ours == pytest.approx(concordance_index(time, -risk, event), abs=EXACT)  # lifelines expects -risk


def test_c_of_folds_is_the_pair_weighted_mean_of_their_c(tied):
    risk, right, pairs = _risk(tied), 0.0, 0
    for fold, part in tied.parts():
        c, agreeing, disagreeing, tied_risk, _ = concordance_index_censored(fold.event, fold.time_months, risk[part])
        right, pairs = right + c * (total := agreeing + disagreeing + tied_risk), pairs + total
    assert _value(metrics.c_index(tied, risk), tied) == pytest.approx(right / pairs, abs=EXACT)


def test_shifting_the_risks_of_one_fold_changes_no_ranking_metric(tied):
    risk = _risk(tied)
    shifted = risk + 100.0 * tied.fold_number
    for make in (
        metrics.c_index,
        lambda t, r: metrics.uno_c(t, r, 0.8),
        lambda t, r: metrics.auc_at(t, r, 36),
    ):
        assert _value(make(tied, shifted), tied) == pytest.approx(_value(make(tied, risk), tied), abs=EXACT)


def test_a_resample_has_the_score_of_the_copied_patients(tied):
    """Oracle: scikit-survival on a table with a copy of each patient per draw."""
    risk = _risk(tied)
    draws = np.random.default_rng(0).multinomial(150, np.full(150, 1 / 150), size=4).astype(float)
    ours = metrics.c_index(tied, risk)(draws)
    for row, value in zip(draws, ours, strict=True):
        right, pairs = 0.0, 0
        for fold, part in tied.parts():
            copies = np.repeat(np.arange(len(fold.patients)), row[fold.patients].astype(int))
            c, *counts, _ = concordance_index_censored(fold.event[copies], fold.time_months[copies], risk[part][copies])
            right, pairs = right + c * sum(counts), pairs + sum(counts)
        assert value == pytest.approx(right / pairs, abs=EXACT)


def _one_fold(count: int = 400, months: int = 0) -> tuple[Outcomes, np.ndarray, np.ndarray]:
    """One fold without tied times, with the training and test tables in the format of scikit-survival.

    At tied times scikit-survival 0.28 weighs an event by 1/G(T) in place of 1/G(T-) and the two differ by intent.
    """
    patients = make_patients(count, 1, months=months)
    ids = list(patients["patient_id"])
    # The longest-followed patients are trained on, or scikit-survival refuses test times beyond them.
    longest = list(patients.sort_values("time_months")["patient_id"][-8:])
    train = sorted({*ids[: count // 2], *longest})
    tested = Outcomes.from_folds(patients, {0: (train, [i for i in ids if i not in set(train)])})
    fold = tested.folds[0]
    train_table = Surv.from_arrays(fold.train_event, fold.train_time)
    return tested, train_table, Surv.from_arrays(fold.event, fold.time_months)


def test_uno_c_agrees_with_scikit_survival():
    tested, train, test = _one_fold()
    risk = _risk(tested)
    tau = tested.folds[0].follow_up_quantile(0.8)
    oracle = concordance_index_ipcw(train, test, risk, tau=tau)[0]
    assert _value(metrics.uno_c(tested, risk, 0.8), tested) == pytest.approx(oracle, abs=EXACT)


def test_auc_agrees_with_scikit_survival():
    tested, train, test = _one_fold()
    risk = _risk(tested)
    for months in (12.0, 36.0, 60.0):
        oracle = cumulative_dynamic_auc(train, test, risk, [months])[0][0]
        assert _value(metrics.auc_at(tested, risk, months), tested) == pytest.approx(oracle, abs=EXACT)


def test_brier_agrees_with_scikit_survival():
    tested, train, test = _one_fold()
    horizons = np.array([12.0, 36.0, 60.0])
    survival = np.sort(np.random.default_rng(0).random((len(test), 3)), axis=1)[:, ::-1]
    oracle = brier_score(train, test, survival, horizons)[1]
    ours = [_value(metrics.brier_at(tested, survival[:, h], t), tested) for h, t in enumerate(horizons)]
    np.testing.assert_allclose(ours, oracle, atol=EXACT)
    integrated = np.trapezoid(oracle, horizons) / 48
    assert _value(metrics.integrated_brier(tested, survival, horizons), tested) == pytest.approx(integrated, abs=EXACT)


WHOLE_MONTHS = ([1, 2, 2, 3, 4, 5, 6], [1, 1, 0, 1, 0, 1, 0])


def _scored_on_itself(time, event) -> Outcomes:
    """All patients as one test part whose censoring curve is that of the same patients."""
    event, time = np.array(event) == 1, np.array(time, dtype=np.float64)
    rows, ids = np.arange(len(time)), tuple(f"P{i}" for i in range(len(time)))
    return Outcomes(ids, event, time, (Fold(0, rows, rows, event, time, event, time),))


def _whole_months(seed: int) -> tuple[np.ndarray, np.ndarray]:
    patients = make_patients(90, seed, months=1)
    return np.minimum(patients["time_months"].to_numpy(), 40), patients["event"].to_numpy()


@pytest.mark.parametrize("times", [WHOLE_MONTHS, *(_whole_months(seed) for seed in range(4))])
def test_a_prediction_of_one_half_scores_a_quarter_at_every_month_with_ties(times):
    """(1/2)² whatever happened: the weights sum to n at every t (Graf et al. 1999)."""
    tested = _scored_on_itself(*times)
    for months in np.unique(times[0])[:-1]:
        half = np.full(len(times[0]), 0.5)
        assert _value(metrics.brier_at(tested, half, float(months)), tested) == pytest.approx(0.25, abs=EXACT)


def test_weights_at_ties_equal_the_worked_out_values():
    """Months 1, 2, 2, 3, 4, 5, 6. The censoring at 2 leaves 4 of the 5 who stand after the event at 2: G(2) = 4/5,
    G(2-) = 1. By month 2 the two events weigh 1, the four who stand 5/4, the one censored at 2 nothing."""
    (fold,) = _scored_on_itself(*WHOLE_MONTHS).folds
    had, weight = metrics.status_weights(fold, 2.0)
    assert had.tolist() == [True, True, False, False, False, False, False]
    np.testing.assert_allclose(weight, [1, 1, 0, 1.25, 1.25, 1.25, 1.25], rtol=EXACT)


@pytest.mark.parametrize("seed", range(4))
def test_the_weights_of_the_events_add_up_to_one_minus_kaplan_meier(seed):
    """Oracle: KaplanMeierFitter of lifelines 0.30. Satten and Datta 2001 (Am. Stat. 55:207-210): the mean of event
    weights 1/G(T-) up to t is 1 - S(t), ties included."""
    from lifelines import KaplanMeierFitter

    time, event = _whole_months(seed)
    (fold,) = _scored_on_itself(time, event).folds
    fitted = KaplanMeierFitter().fit(time, event)
    for months in np.unique(time)[:-1]:
        had, weight = metrics.status_weights(fold, float(months))
        assert weight[had].sum() / len(time) == pytest.approx(1 - fitted.predict(months), abs=1e-9)


def test_all_weighted_metrics_use_the_weights_of_the_tie_rule():
    """Uno's C, AUC, ROC curve, calibration and decision curve on whole months, from the weights worked out above.

    By month 2.5 the events at 1 and 2 weigh 1 each. Risks put the event at 2 below all others: AUC and ROC area are
    the share of the other event's weight, 1/2. Uno's C with tau beyond 6: events at 1, 2, 3, 5 have G(T-) = 1, 1, 4/5
    and 8/15 (4 of 5 remain at 2, 2 of 3 at 4) and order 6, 5 (the censoring at 2 is after the event), 3 and 1 patients.
    """
    from mcti.evaluation import calibration, roc
    from mcti.evaluation.net_benefit import net_benefit

    tested = _scored_on_itself(*WHOLE_MONTHS)
    risk = np.array([9.0, 0, 1, 1, 1, 1, 1])
    assert _value(metrics.auc_at(tested, risk, 2.5), tested) == pytest.approx(0.5)
    false, true, _ = roc.curve_at(tested, risk, 2.5)
    assert np.trapezoid(true, false) == pytest.approx(0.5)
    known = calibration.weighted_status(tested, 2.0)
    np.testing.assert_allclose(known.weight, [1, 1, 0, 1.25, 1.25, 1.25, 1.25], rtol=EXACT)
    benefit = net_benefit(tested, np.zeros(7), 2.0, 0.5)  # all treated: 2/7 events, 5/7 without
    assert _value(benefit, tested) == pytest.approx(2 / 7 - 5 / 7)
    squared = 1 / np.array([1, 1, 4 / 5, 8 / 15]) ** 2
    pairs = squared * np.array([6, 5, 3, 1])
    right = squared * np.array([6, 0, 3 / 2, 1 / 2])  # the event at 1 above all, that at 2 below all, the rest tied
    oracle = right[:3].sum() / pairs[:3].sum()  # tau, the 80 % quantile of the times, is 4.8: before the event at 5
    assert _value(metrics.uno_c(tested, risk, 0.8), tested) == pytest.approx(oracle, abs=EXACT)


def test_the_kaplan_meier_prediction_has_no_skill_and_true_probabilities_have(tied):
    horizons = np.array([12.0, 36.0])
    everyone = metrics.kaplan_meier_prediction(tied, horizons)
    assert _value(metrics.brier_skill(tied, everyone, horizons), tied) == 0
    x = make_patients(150, months=1)["x"].to_numpy()[tied.patient]
    truth = np.exp(-np.exp(x)[:, None] * horizons / 60)
    assert _value(metrics.brier_skill(tied, truth, horizons), tied) > 0.1


def test_a_fold_without_events_does_not_contribute():
    patients = make_patients(100)
    folds = make_folds(patients, 4)
    patients.loc[patients["patient_id"].isin(folds[2][1]), "event"] = 0
    tested = Outcomes.from_folds(patients, folds)
    statistic = metrics.c_index(tested, _risk(tested))
    assert np.isnan(_value(statistic.only(2), tested))
    assert np.isfinite(_value(statistic, tested))


def test_horizons_beyond_the_follow_up_are_not_usable(tied):
    assert list(metrics.usable_horizons(tied, np.array([0.1, 12.0, 36.0, 1e4]))) == [False, True, True, False]


def test_a_horizon_beyond_the_last_training_event_is_not_usable_though_g_is_positive():
    """The longest followed training patient has the event at 50: G stays above 0, but no patient was observed at 60."""
    patients = make_patients(60, 2)
    patients.loc[:29, ["time_months", "event"]] = [30.0, 1]
    patients.loc[0, "time_months"] = 50.0
    ids = list(patients["patient_id"])
    tested = Outcomes.from_folds(patients, {0: (ids[:30], ids[30:])})
    assert tested.folds[0].censoring.at(60.0) > 0
    assert list(metrics.usable_horizons(tested, np.array([45.0, 60.0]))) == [True, False]


def test_subtype_scores_equal_the_worked_out_values():
    truth = pd.Series(["A", "A", "B", "B"])
    probability = pd.DataFrame({"A": [0.9, 0.4, 0.3, 0.6], "B": [0.1, 0.6, 0.7, 0.4]})
    scores = metrics.subtype_scores(truth, probability)
    assert scores["subtype_auroc"] == 0.75  # of the four A-B pairs (.9,.3) (.9,.6) (.4,.3) stand right, (.4,.6) not
    assert scores["subtype_macro_f1"] == 0.5  # each class: one hit, one miss, one false alarm


def test_subtype_scores_agree_with_scikit_learn_also_under_resampling():
    """Oracle: roc_auc_score and f1_score of scikit-learn with the counts of the draws as weights."""
    from sklearn.metrics import f1_score, roc_auc_score

    generator = np.random.default_rng(0)
    truth, classes = generator.choice(["a", "b", "c"], 60), ["a", "b", "c"]
    probability = generator.dirichlet(np.ones(3), 60).round(1)
    draws = generator.multinomial(60, np.full(60, 1 / 60), size=4).astype(np.float64)
    statistics = metrics.subtype_statistics(np.arange(60), truth, classes, probability)
    guessed = np.array(classes)[probability.argmax(axis=1)]
    for weights, area, f1 in zip(
        draws, statistics["subtype_auroc"](draws), statistics["subtype_macro_f1"](draws), strict=True
    ):
        areas = [roc_auc_score(truth == c, probability[:, i], sample_weight=weights) for i, c in enumerate(classes)]
        assert area == pytest.approx(np.mean(areas), abs=1e-12)
        assert f1 == pytest.approx(f1_score(truth, guessed, average="macro", sample_weight=weights), abs=1e-12)
