"""How well risks and survival probabilities of test patients fit what happened to them.

Orientation everywhere: **higher risk = earlier event**. Risks of different folds come from different models and are
not on one scale, so ranking metrics compare only patients of the same fold: the sums over pairs are taken inside each
fold and added up. Survival probabilities are on one scale and are averaged over all test rows.
Every function returns a `Statistic` (statistics.py), so that its interval and its value come from one formula.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mcti.arrays import BoolArray, FloatArray
from mcti.evaluation.outcomes import Fold, Outcomes
from mcti.evaluation.statistics import MacroF1, MeanOfStatistics, PairBlock, PairMean, RowMean, Skill, Statistic

TIED = 1e-8
"""Two risks closer than this count as tied, as in scikit-survival (`tied_tol`)."""


def harrell_c(event: BoolArray, time_months: FloatArray, risk: FloatArray) -> float:
    """Harrell's C of one set of patients; 1 best, 0.5 chance, below 0.5 the wrong way round.

    C = P(the patient with the earlier event had the higher risk), over pairs i, j that can be ordered: i has the event
    and time_i < time_j, or both times are equal and j is censored there (alive at that time). Two events at one time
    cannot be ordered. A pair with risks within 1e-8 counts half. (Harrell, Lee and Mark 1996, Stat. Med. 15:361-387;
    the rules of scikit-survival's concordance_index_censored.)

    Takes risks, not survival probabilities or times. NaN when no pair can be ordered. event, time_months, risk (n,).
    """
    block = _block(np.arange(len(event)), event, risk, _orderable(event, time_months))
    return float(PairMean((block,))(np.ones((1, len(event))))[0])


def c_index(tested: Outcomes, risk: FloatArray) -> PairMean:
    """Harrell's C within folds: the mean over all pairs that can be ordered *and* lie in one fold; risk (m,).

    = sum_k pairs_k C_k / sum_k pairs_k, the pair-weighted mean of the folds' C (`harrell_c`). Pooling the risks of
    all folds would compare numbers of different models; the plain mean of the folds' C gives a fold of three
    events the voice of one with thirty.
    """
    return PairMean(
        tuple(
            _block(fold.patients, fold.event, risk[part], _orderable(fold.event, fold.time_months))
            for fold, part in tested.parts()
        )
    )


def uno_c(tested: Outcomes, risk: FloatArray, tau_quantile: float) -> PairMean:
    """Uno's C within folds, truncated; as Harrell's, but free of the censoring pattern (Uno et al. 2011, Stat. Med.
    30:1105-1117).

    Each orderable pair whose event lies before tau weighs G(time_i-)^-2; G is the censoring curve and tau the
    `tau_quantile` of the follow-up times of the fold's *training* part. risk (m,).
    """
    blocks = []
    for fold, part in tested.parts():
        counted = fold.event & (fold.time_months < fold.follow_up_quantile(tau_quantile))
        weight = event_weights(fold, counted) ** 2
        orderable = _orderable(counted, fold.time_months, fold.event) * weight[counted, None]
        blocks.append(_block(fold.patients, counted, risk[part], orderable))
    return PairMean(tuple(blocks))


def auc_at(tested: Outcomes, risk: FloatArray, months: float) -> PairMean:
    """Time-dependent AUC within folds: P(risk of one who had the event by `months` > risk of one still without it).

    Cumulative cases, dynamic controls, cases weighed 1/G(time-) with the training part's G (Uno et al. 2007, JASA
    102:527-537; Hung and Chiang 2010). Ties count half. 1 best, 0.5 chance. NaN without a case or without a control.
    """
    blocks = []
    for fold, part in tested.parts():
        case = fold.event & (fold.time_months <= months)
        weight = event_weights(fold, case)[case, None] * (fold.time_months > months)[None]
        blocks.append(_block(fold.patients, case, risk[part], weight))
    return PairMean(tuple(blocks))


def brier_rows(tested: Outcomes, survival: FloatArray, horizons: FloatArray) -> FloatArray:
    """Squared errors of S(t) by patient, weighed for censoring; (m, h), their mean over rows is the Brier score.

    (Graf et al. 1999, Stat. Med. 18:2529-2545) Event by t: S(t)² / G(time-). Alive after t: (1 - S(t))² / G(t).
    Censored up to t: 0, its share is carried by the weights (`status_weights`). 0 best; a constant 0.5 gives 0.25.
    survival (m, h), horizons (h,) months.
    """
    rows = np.zeros(survival.shape)
    for fold, part in tested.parts():
        for column, months in enumerate(horizons):
            had, weight = status_weights(fold, float(months))
            alive = survival[part, column]
            rows[part, column] = weight * np.where(had, alive**2, (1 - alive) ** 2)
    return rows


def brier_at(tested: Outcomes, survival: FloatArray, months: float) -> RowMean:
    """Brier score at one horizon; survival (m,) is S(months) of every test row. See `brier_rows`."""
    return RowMean(tested.patient, brier_rows(tested, survival[:, None], np.array([months]))[:, 0])


def integrated_brier(tested: Outcomes, survival: FloatArray, horizons: FloatArray) -> RowMean:
    """Integrated Brier score: the mean of the Brier score over time, by trapezoids between the horizons given.

    With one horizon it is the Brier score there. survival (m, h), horizons (h,) months, rising.
    """
    rows = brier_rows(tested, survival, horizons)
    if len(horizons) == 1:
        return RowMean(tested.patient, rows[:, 0])
    return RowMean(tested.patient, np.trapezoid(rows, horizons, axis=1) / (horizons[-1] - horizons[0]))


def brier_skill(tested: Outcomes, survival: FloatArray, horizons: FloatArray) -> Skill:
    """1 - IBS / IBS of the training part's Kaplan-Meier curve; above 0: the model knows something of the patient."""
    everyone = kaplan_meier_forecast(tested, horizons)
    return Skill(integrated_brier(tested, survival, horizons), integrated_brier(tested, everyone, horizons))


def kaplan_meier_forecast(tested: Outcomes, horizons: FloatArray) -> FloatArray:
    """(m, h) S(t) of the fold's training part, the same for all its test patients."""
    curves = [np.tile(fold.survival.at(horizons), (len(fold.patients), 1)) for fold in tested.folds]
    return np.concatenate(curves)


def usable_horizons(tested: Outcomes, horizons: FloatArray) -> BoolArray:
    """(h,) where a horizon can be scored: events before it, patients followed beyond it, in test and in training.

    Beyond the follow-up of a training part G is 0, or, where its last patient had the event, a constant that nobody
    was observed under: weights and forecasts there would be extrapolated.
    """
    case = np.array([any((f.event & (f.time_months <= t)).any() for f in tested.folds) for t in horizons])
    beyond = np.array([any((f.time_months > t).any() for f in tested.folds) for t in horizons])
    weighed = np.array([all(f.censoring.at(t) > 0 and t <= f.train_time.max() for f in tested.folds) for t in horizons])
    return np.asarray(case & beyond & weighed, dtype=np.bool_)


def event_weights(fold: Fold, counted: BoolArray) -> FloatArray:
    """(m,) 1 / G(T-) of the test rows of a fold whose event is `counted`, else 0; G of the training part.

    A patient whose event was seen at T had not been censored *before* T: a censoring at T itself would have come after
    the event, by the tie rule of the censoring curve. So the weight takes the left limit of G (Graf et al. 1999, Stat.
    Med. 18:2529-2545; Gerds and Schumacher 2006, Biom. J. 48:1029-1040). scikit-survival 0.28 takes G(T), which at
    tied times gives events too much weight: with G of the scored rows themselves the weights then no longer sum to n.
    0 also where G(T-) is 0: nobody of the training part was followed so long.
    """
    return _inverse(fold.censoring.before(fold.time_months), counted)


def survivor_weight(fold: Fold, months: FloatArray) -> FloatArray:
    """1 / G(t) at each of `months` (h,): the weight of a test row still under observation after t; 0 where G is 0.

    Such a patient was censored neither before t nor at t, so this weight takes G itself.
    """
    return _inverse(fold.censoring.at(months), np.ones(np.shape(months), dtype=np.bool_))


def status_weights(fold: Fold, months: float) -> tuple[BoolArray, FloatArray]:
    """Who of a fold had the event by `months` (m,), and the inverse-censoring weight of each row (m,).

    Event by t: 1 / G(T-); under observation after t: 1 / G(t); censored up to t: 0, the weights of the others carry
    that row. With G of the same rows the weights sum to m at every t, so that a forecast of 0.5 has Brier score 0.25.
    """
    had = np.asarray(fold.event & (fold.time_months <= months), dtype=np.bool_)
    after = fold.time_months > months
    return had, event_weights(fold, had) + after * survivor_weight(fold, np.array([months]))[0]


def _inverse(uncensored: FloatArray, counted: BoolArray) -> FloatArray:
    weight = np.zeros(np.shape(counted))
    np.divide(1.0, uncensored, out=weight, where=counted & (uncensored > 0))
    return weight


def subtype_scores(truth: pd.Series, probability: pd.DataFrame) -> dict[str, float]:
    """Macro AUROC (one against the rest) and macro-F1 of the likeliest class; columns of `probability` are classes.

    Classes without a patient on both sides have no AUROC and are left out of its mean. 1 best; AUROC 0.5 chance.
    """
    everyone, patient = np.ones((1, len(truth))), np.arange(len(truth))
    found = subtype_statistics(patient, truth.to_numpy(), list(probability.columns), probability.to_numpy())
    return {name: float(statistic(everyone)[0]) for name, statistic in found.items()}


def subtype_statistics(
    patient: np.ndarray, truth: np.ndarray, classes: Sequence[str], probability: FloatArray
) -> dict[str, Statistic]:
    """The same two of rows (m,) of patients, as statistics of the drawn patients; probability (m, C)."""
    blocks = []
    for column, name in enumerate(classes):
        here = truth == name
        if 0 < here.sum() < len(here):
            p = probability[:, column]
            score = (p[here, None] > p[~here]) + 0.5 * (p[here, None] == p[~here])
            blocks.append(PairMean((PairBlock(patient[here], patient[~here], np.ones(score.shape), score),)))
    guessed = np.asarray(classes)[probability.argmax(axis=1)]
    return {"subtype_auroc": MeanOfStatistics(tuple(blocks)), "subtype_macro_f1": MacroF1(patient, truth, guessed)}


def _orderable(first: BoolArray, time_months: FloatArray, event: BoolArray | None = None) -> FloatArray:
    """(events, n) 1 where the row's event (those of `first`) is known to come before the column's patient."""
    ended = first if event is None else event
    time: FloatArray = time_months[first][:, None]
    later = (time < time_months) | ((time == time_months) & ~ended)
    return np.where(later, 1.0, 0.0)


def _block(patients: np.ndarray, first: BoolArray, risk: FloatArray, weight: FloatArray) -> PairBlock:
    """A block whose rows are the patients of `first`; weight (first, n)."""
    gap = risk[first, None] - risk
    score = np.where(np.abs(gap) <= TIED, 0.5, (gap > 0).astype(np.float64))
    return PairBlock(patients[first], patients, weight, score)
