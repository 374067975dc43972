"""Metrics of discrimination, calibration error and subtype prediction on test patients.

Direction: a **higher risk means an earlier event**, everywhere. Risks of different folds come from different models and
are not on one scale. Ranking metrics therefore compare only patients of the same fold: the sums over pairs are taken
inside each fold and added up. Survival probabilities are on one scale and are averaged over all test rows.

Every function returns a `Statistic` (statistics.py), so that the value and its interval come from one formula.
Shapes: m test rows, h horizons, n patients of the cohort table.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mcti.arrays import BoolArray, FloatArray
from mcti.concordance import harrell_c as harrell_c
from mcti.concordance import order_scores, orderable
from mcti.evaluation.outcomes import Fold, Outcomes
from mcti.evaluation.statistics import MacroF1, MeanOfStatistics, PairBlock, PairMean, RowMean, Skill, Statistic

UNO_TAU_QUANTILE = 0.8
"""Quantile of the follow-up up to which Uno's C counts events: one value in the report, the gates and the monitoring,
which compare it with each other."""


def c_index(tested: Outcomes, risk: FloatArray) -> PairMean:
    """Harrell's C within folds: the mean over all pairs that can be ordered *and* belong to one fold.

    = sum_k pairs_k C_k / sum_k pairs_k, the pair-weighted mean of the C of each fold (`harrell_c`). 1 best, 0.5 chance.

    Trap: pooling the risks of all folds would compare numbers of different models. The unweighted mean of the folds'
    C would give a fold of three events the weight of a fold of thirty. risk (m,).
    """
    blocks = []
    for fold, part in tested.parts():
        pairs = orderable(fold.time_months[fold.event], fold.time_months, fold.event, fold.entry_months)
        blocks.append(_block(fold.patients, fold.event, risk[part], pairs))
    return PairMean(tuple(blocks))


def uno_c(tested: Outcomes, risk: FloatArray, tau_quantile: float = UNO_TAU_QUANTILE) -> PairMean:
    """Uno's C within folds, truncated at tau. 1 best, 0.5 chance.

    As Harrell's C, but independent of the censoring pattern: each pair that can be ordered and whose event is before
    tau has the weight G(T-)^-2. G is the censoring curve and tau the `tau_quantile` of the follow-up times, both of the
    fold's *training* part (Uno et al. 2011, Stat. Med. 30:1105-1117). risk (m,), tau_quantile in (0, 1].
    """
    blocks = []
    for fold, part in tested.parts():
        counted = fold.event & (fold.time_months < fold.follow_up_quantile(tau_quantile))
        weight = event_weights(fold, counted) ** 2
        comparable = orderable(fold.time_months[counted], fold.time_months, fold.event, fold.entry_months)
        pairs = comparable * weight[counted, None]
        blocks.append(_block(fold.patients, counted, risk[part], pairs))
    return PairMean(tuple(blocks))


def auc_at(tested: Outcomes, risk: FloatArray, months: float) -> PairMean:
    """Time-dependent AUC within folds. 1 best, 0.5 chance; NaN without a case or without a control.

    = P(a patient with the event by `months` has a higher risk than one under observation after `months`). Cumulative
    cases, dynamic controls; cases are weighted 1 / G(T-) with the censoring curve G of the training part (Uno et al.
    2007, JASA 102:527-537; Hung and Chiang 2010, Can. J. Stat. 38:8-26). Ties count as half. risk (m,).
    """
    blocks = []
    for fold, part in tested.parts():
        case = fold.event & (fold.time_months <= months)
        weight = event_weights(fold, case)[case, None] * fold.followed_after(months)[None]
        blocks.append(_block(fold.patients, case, risk[part], weight))
    return PairMean(tuple(blocks))


def brier_rows(tested: Outcomes, survival: FloatArray, horizons: FloatArray) -> FloatArray:
    """Squared errors of S(t) of each test row, weighted for censoring: (m, h). Their mean is the Brier score.

    Event by t: S(t)² / G(T-). Under observation after t: (1 - S(t))² / G(t). Censored up to t: 0, because the weights
    of the other rows represent that row (Graf et al. 1999, Stat. Med. 18:2529-2545; `status_weights`). 0 best; a
    constant prediction of 0.5 gives 0.25.

    survival (m, h) probabilities of being without the event, horizons (h,) months.
    """
    rows = np.zeros(survival.shape)
    for fold, part in tested.parts():
        for column, months in enumerate(horizons):
            had_event, weight = status_weights(fold, float(months))
            predicted = survival[part, column]
            rows[part, column] = weight * np.where(had_event, predicted**2, (1 - predicted) ** 2)
    return rows


def brier_at(tested: Outcomes, survival: FloatArray, months: float) -> RowMean:
    """Brier score at one horizon, lower is better; survival (m,) is S(months) of every test row. See `brier_rows`."""
    return RowMean(tested.patient, brier_rows(tested, survival[:, None], np.array([months]))[:, 0])


def integrated_brier(tested: Outcomes, survival: FloatArray, horizons: FloatArray) -> RowMean:
    """Integrated Brier score (IBS): the mean of the Brier score over time, lower is better.

    The integral is taken by the trapezoidal rule between the horizons and divided by their span. With one horizon it is
    the Brier score at that horizon. survival (m, h), horizons (h,) months, rising.
    """
    rows = brier_rows(tested, survival, horizons)
    if len(horizons) == 1:
        return RowMean(tested.patient, rows[:, 0])
    return RowMean(tested.patient, np.trapezoid(rows, horizons, axis=1) / (horizons[-1] - horizons[0]))


def brier_skill(tested: Outcomes, survival: FloatArray, horizons: FloatArray) -> Skill:
    """1 - IBS / IBS of the Kaplan-Meier curve of the training part. Higher is better.

    Above 0 the model predicts better than a curve that is the same for all patients. survival (m, h), horizons (h,).
    """
    reference = kaplan_meier_prediction(tested, horizons)
    return Skill(integrated_brier(tested, survival, horizons), integrated_brier(tested, reference, horizons))


def kaplan_meier_prediction(tested: Outcomes, horizons: FloatArray) -> FloatArray:
    """(m, h) S(t) of the Kaplan-Meier curve of the fold's training part, the same for all its test patients."""
    curves = [np.tile(fold.survival.at(horizons), (len(fold.patients), 1)) for fold in tested.folds]
    return np.concatenate(curves)


def usable_horizons(tested: Outcomes, horizons: FloatArray) -> BoolArray:
    """(h,) whether a horizon can be scored: events before it and patients followed beyond it, in test and in training.

    Beyond the follow-up of a training part, G is 0; or, where its last patient had the event, G is a constant under
    which no patient was observed. Weights and predictions would be extrapolated. horizons (h,) months.
    """
    case = np.array([any((f.event & (f.time_months <= t)).any() for f in tested.folds) for t in horizons])
    beyond = np.array([any(f.followed_after(float(t)).any() for f in tested.folds) for t in horizons])
    weighted = np.array(
        [all(f.censoring.at(t) > 0 and t <= f.train_time.max() for f in tested.folds) for t in horizons]
    )
    return np.asarray(case & beyond & weighted, dtype=np.bool_)


def event_weights(fold: Fold, counted: BoolArray) -> FloatArray:
    """Inverse-probability-of-censoring weight (IPCW) of events: (m,) 1 / G(T-) where `counted` (m,) is true, else 0.

    G is the censoring curve of the training part (with late entry: `curves.ObservationCurve`). A patient whose event
    was observed at T had not been censored *before* T. A censoring at T itself would have come after the event, by the
    tie rule of the censoring curve. The weight therefore takes the left limit of G (Graf et al. 1999, Stat. Med.
    18:2529-2545; Gerds and Schumacher 2006, Biom. J. 48:1029-1040).

    Trap: scikit-survival 0.28 takes G(T). At tied times this gives events too much weight: with G of the scored rows
    themselves the weights then no longer add up to m. The weight is also 0 where G(T-) is 0, because no patient of the
    training part was followed up to T.
    """
    return _inverse(fold.censoring.before(fold.time_months), counted)


def survivor_weight(fold: Fold, months: FloatArray) -> FloatArray:
    """1 / G(t) at each of `months` (h,): the weight of a test row under observation after t; 0 where G is 0.

    Such a patient was censored neither before t nor at t, so this weight takes G(t) itself.
    """
    return _inverse(fold.censoring.at(months), np.ones(np.shape(months), dtype=np.bool_))


def status_weights(fold: Fold, months: float) -> tuple[BoolArray, FloatArray]:
    """Whether each test row had the event by `months` (m,), and its inverse-probability-of-censoring weight (m,).

    Event by t: 1 / G(T-). Under observation after t: 1 / G(t). Censored up to t: 0, because the weights of the other
    rows represent that row; so is a patient who enters after t: who had the event before is in no table. With G of the
    same rows the weights add up to m at every t, so that a prediction of 0.5 has a Brier score of exactly 0.25.
    """
    had_event = np.asarray(fold.event & (fold.time_months <= months), dtype=np.bool_)
    after = fold.followed_after(months)
    return had_event, event_weights(fold, had_event) + after * survivor_weight(fold, np.array([months]))[0]


def _inverse(uncensored: FloatArray, counted: BoolArray) -> FloatArray:
    weight = np.zeros(np.shape(counted))
    np.divide(1.0, uncensored, out=weight, where=counted & (uncensored > 0))
    return weight


def subtype_scores(truth: pd.Series, probability: pd.DataFrame) -> dict[str, float]:
    """Macro AUROC (one class against the rest) and macro-F1 of the most probable class. 1 best; AUROC 0.5 is chance.

    A class for which all or no patients are positive has no AUROC and is left out of the mean.
    truth (n,) class names; probability (n, classes), its columns are the class names.
    """
    ones, patient = np.ones((1, len(truth))), np.arange(len(truth))
    statistics = subtype_statistics(patient, truth.to_numpy(), list(probability.columns), probability.to_numpy())
    return {name: float(statistic(ones)[0]) for name, statistic in statistics.items()}


def subtype_statistics(
    patient: np.ndarray, truth: np.ndarray, classes: Sequence[str], probability: FloatArray
) -> dict[str, Statistic]:
    """The two scores of `subtype_scores` as statistics of the drawn patients.

    patient (m,) rows of the cohort table, truth (m,) class names, probability (m, classes).
    """
    blocks = []
    for column, name in enumerate(classes):
        positive = truth == name
        if 0 < positive.sum() < len(positive):
            p = probability[:, column]
            score = (p[positive, None] > p[~positive]) + 0.5 * (p[positive, None] == p[~positive])
            block = PairBlock(patient[positive], patient[~positive], np.ones(score.shape), score)
            blocks.append(PairMean((block,)))
    predicted = np.asarray(classes)[probability.argmax(axis=1)]
    return {
        "subtype_auroc": MeanOfStatistics(tuple(blocks)),
        "subtype_macro_f1": MacroF1(patient, truth, predicted),
    }


def _block(patients: np.ndarray, first: BoolArray, risk: FloatArray, weight: FloatArray) -> PairBlock:
    """A block whose rows are the patients of `first`; weight (a, n)."""
    return PairBlock(patients[first], patients, weight, order_scores(risk[first], risk))
