"""Absolute risk with competing events: curves of Aalen and Johansen, and metrics of a predicted cumulative incidence.

F1(t) is the probability of the event by t, where a competing event may come first; 1 - S(t) of a cause-specific curve
is larger. Shapes: m test rows, h horizons, n patients of the cohort table.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from mcti.arrays import BoolArray, FloatArray, IntArray
from mcti.concordance import order_scores
from mcti.evaluation import calibration
from mcti.evaluation.calibration import Ici, ObservedToExpected, WeightedStatus
from mcti.evaluation.curves import KaplanMeier
from mcti.evaluation.metrics import UNO_TAU_QUANTILE, event_weights, status_weights
from mcti.evaluation.outcomes import Fold, Outcomes
from mcti.evaluation.statistics import PairBlock, PairMean, RowMean, Skill


@dataclass(frozen=True)
class Incidence:
    """Aalen-Johansen estimate of the probability of having had an event by each time.

    times (k,)  months, rising;  values (k,)  probability from that time on
    low, high (k,)  pointwise 95 % interval on the log-minus-log scale (Aalen's variance)
    """

    times: FloatArray
    values: FloatArray
    low: FloatArray
    high: FloatArray

    def at(self, months: FloatArray | float) -> FloatArray:
        """Probability by each of `months` (any shape): 0 before the first time, the last value after the last."""
        heights = np.concatenate([[0.0], self.values])
        return np.asarray(heights[np.searchsorted(self.times, months, side="right")], dtype=np.float64)


def aalen_johansen(event: BoolArray, competing: BoolArray, time_months: FloatArray) -> tuple[Incidence, Incidence]:
    """Cumulative incidence of the event and of the competing event, sum over u <= t of S(u-) d_u / n_u.

    S is the Kaplan-Meier curve of both events together, d_u the events of one kind and n_u the patients at risk (Aalen
    and Johansen 1978, Scand. J. Stat. 5:141-150); by scikit-survival. event, competing, time_months (n,).
    """
    if not event.any() or not competing.any():
        curves = KaplanMeier.fit(event, time_months), KaplanMeier.fit(competing, time_months)
        return _without_other(curves[0]), _without_other(curves[1])
    from sksurv.nonparametric import cumulative_incidence_competing_risks

    status = event + 2 * competing.astype(np.int64)
    times, values, ends = cumulative_incidence_competing_risks(status, time_months, conf_type="log-log")
    return _curve(times, values[1], ends[1]), _curve(times, values[2], ends[2])


def _without_other(curve: KaplanMeier) -> Incidence:
    """The incidence of the only kind of event that occurs, which scikit-survival refuses; 0 for the other kind."""
    low, high = curve.band()
    return Incidence(curve.times, 1 - curve.values, 1 - high, 1 - low)


def _curve(times: FloatArray, values: FloatArray, ends: FloatArray) -> Incidence:
    """A curve with the ends (2, k) of its interval, which are not defined before the first event."""
    low, high = (np.where(np.isfinite(end), end, values) for end in ends)
    return Incidence(times, values, low, high)


@dataclass(frozen=True)
class CompetingOutcomes:
    """The test parts of all folds with competing events.

    by_event     event: the event of interest, a competing event counts as censored
    by_any       event: either event, so that its censoring curves count only true censorings
    competing (n,)  whether each patient of the cohort table had a competing event
    """

    by_event: Outcomes
    by_any: Outcomes
    competing: BoolArray

    @classmethod
    def of(cls, outcomes: Outcomes, competing: BoolArray) -> "CompetingOutcomes":
        """From cause-specific outcomes and the competing events (n,) of the cohort table."""
        folds = tuple(
            replace(
                fold,
                event=fold.event | competing[fold.patients],
                train_event=fold.train_event | competing[fold.train_patients],
            )
            for fold in outcomes.folds
        )
        return cls(outcomes, replace(outcomes, event=outcomes.event | competing, folds=folds), competing)

    @property
    def patient(self) -> IntArray:
        """(m,) the row of the cohort table of every test row."""
        return self.by_event.patient

    def parts(self) -> Iterator[tuple[Fold, Fold, BoolArray, slice]]:
        """Each fold: by the event, by either event, the competing events (k,) of its test rows, and its test rows."""
        for fold, (either, part) in zip(self.by_event.folds, self.by_any.parts(), strict=True):
            yield fold, either, self.competing[fold.patients], part


def marginal_incidence(tested: CompetingOutcomes, horizons: FloatArray) -> FloatArray:
    """(m, h) F1(t) of the Aalen-Johansen curve of the fold's training part, the same for all its test patients."""
    rows = []
    for fold in tested.by_event.folds:
        competing = tested.competing[fold.train_patients]
        curve, _ = aalen_johansen(fold.train_event, competing, fold.train_time)
        rows.append(np.tile(curve.at(horizons), (len(fold.patients), 1)))
    return np.concatenate(rows)


def c_index(tested: CompetingOutcomes, risk: FloatArray, tau_quantile: float = UNO_TAU_QUANTILE) -> PairMean:
    """C for competing risks within folds, truncated at tau. 1 best, 0.5 chance.

    = P(the patient with the event has the higher risk), over pairs in which the other patient is free of both events
    at that time, or had a competing event at any time: such a patient never has the event. Pairs of the first kind have
    the weight G(T_i-)^-2, those of the second, with a competing event at T_j <= T_i, 1 / (G(T_i-) G(T_j-)). G is the
    censoring curve and tau the quantile of the follow-up of the fold's training part (Wolbers et al. 2009, Epidemiology
    20:555-561; weights of Wolbers et al. 2014, Biostatistics 15:526-539). Without competing events it is Uno's C.

    risk (m,): a higher value means a higher probability of the event;  tau_quantile in (0, 1]
    """
    blocks = []
    for fold, either, competing, part in tested.parts():
        counted = fold.event & (fold.time_months < fold.follow_up_quantile(tau_quantile))
        weight = _pair_weights(fold, either, counted, competing)
        score = order_scores(risk[part][counted], risk[part])
        blocks.append(PairBlock(fold.patients[counted], fold.patients, weight, score))
    return PairMean(tuple(blocks))


def _pair_weights(fold: Fold, either: Fold, counted: BoolArray, competing: BoolArray) -> FloatArray:
    """(a, k) weight of each pair of a counted event with each test row of the fold."""
    inverse = event_weights(either, np.ones(len(competing), dtype=np.bool_))
    first: FloatArray = fold.time_months[counted][:, None]
    # At equal times an event precedes a censoring; a patient with a competing event at that time had it by then.
    at_risk = (first < fold.time_months) | ((first == fold.time_months) & ~either.event)
    ended = competing & (fold.time_months <= first)
    weight = inverse[counted][:, None]
    return np.asarray(at_risk * weight**2 + ended * weight * inverse[None], dtype=np.float64)


def weighted_status(tested: CompetingOutcomes, months: float) -> WeightedStatus:
    """Whether each test row had the event by `months`, with its weight; a competing event by then is a known status.

    Either event by t: 1 / G(T-). Under observation after t: 1 / G(t). Censored up to t: 0.
    """
    had, weight = np.zeros(len(tested.patient)), np.zeros(len(tested.patient))
    for _, either, competing, part in tested.parts():
        ended, weight[part] = status_weights(either, months)
        had[part] = ended & ~competing
    return WeightedStatus(tested.patient, had, weight)


def brier_rows(tested: CompetingOutcomes, incidence: FloatArray, horizons: FloatArray) -> FloatArray:
    """(m, h) squared errors of F1(t) of each test row, weighted for censoring. Their mean is the Brier score.

    (1{event by t} - F1(t))², with the weights of `weighted_status` (Schoop et al. 2011, Biom. J. 53:88-112).
    incidence (m, h) at `horizons` (h,) months.
    """
    columns = []
    for column, months in enumerate(horizons):
        status = weighted_status(tested, float(months))
        columns.append(status.weight * (status.had - incidence[:, column]) ** 2)
    return np.stack(columns, axis=1)


def brier_at(tested: CompetingOutcomes, incidence: FloatArray, months: float) -> RowMean:
    """Brier score of F1 at one horizon, lower is better; incidence (m,) is F1(months). See `brier_rows`."""
    return RowMean(tested.patient, brier_rows(tested, incidence[:, None], np.array([months]))[:, 0])


def integrated_brier(tested: CompetingOutcomes, incidence: FloatArray, horizons: FloatArray) -> RowMean:
    """Mean of the Brier score of F1 over time, by the trapezoidal rule between the horizons; lower is better.

    With one horizon it is the Brier score at that horizon. incidence (m, h), horizons (h,) months, rising.
    """
    rows = brier_rows(tested, incidence, horizons)
    if len(horizons) == 1:
        return RowMean(tested.patient, rows[:, 0])
    return RowMean(tested.patient, np.trapezoid(rows, horizons, axis=1) / (horizons[-1] - horizons[0]))


def brier_skill(tested: CompetingOutcomes, incidence: FloatArray, horizons: FloatArray) -> Skill:
    """1 - IBS / IBS of the Aalen-Johansen curve of the training part. Higher is better; 0 is no gain."""
    reference = marginal_incidence(tested, horizons)
    return Skill(integrated_brier(tested, incidence, horizons), integrated_brier(tested, reference, horizons))


def observed_to_expected(tested: CompetingOutcomes, incidence: FloatArray, months: float) -> ObservedToExpected:
    """Observed / expected number of events by `months`; 1 is right. incidence (m,) is F1(months).

    With the censoring curve of the same rows the observed number is m times the Aalen-Johansen estimate.
    """
    return ObservedToExpected(weighted_status(tested, months), incidence)


def ici(tested: CompetingOutcomes, incidence: FloatArray, months: float) -> Ici:
    """Integrated calibration index of F1(months) (m,): mean absolute difference to the observed probability."""
    return calibration.ici_of(weighted_status(tested, months), 1 - incidence)


def calibration_groups(
    tested: CompetingOutcomes, incidence: FloatArray, months: float, groups: int = 5
) -> dict[str, FloatArray]:
    """Predicted and observed probability of the event by `months` in groups of equal size by predicted F1.

    predicted: the mean of F1 in the group. observed, low, high: Aalen-Johansen of the group with its 95 % interval;
    NaN where no patient of the group was followed up to `months`. incidence (m,). Each array (g,), g <= groups.
    """
    order = np.argsort(incidence, kind="stable")
    columns: dict[str, list[float]] = {"predicted": [], "observed": [], "low": [], "high": []}
    for rows in (part for part in np.array_split(order, groups) if part.size):
        patients = tested.patient[rows]
        event, time = tested.by_event.event[patients], tested.by_event.time_months[patients]
        curve, _ = aalen_johansen(event, tested.competing[patients], time)
        observed = _observed(curve, months) if time.max() >= months else (np.nan, np.nan, np.nan)
        for name, value in zip(columns, (float(incidence[rows].mean()), *observed), strict=True):
            columns[name].append(value)
    return {name: np.array(values) for name, values in columns.items()}


def _observed(curve: Incidence, months: float) -> tuple[float, float, float]:
    """Estimate at `months` with the ends of its interval; before the first event 0 with an unknown upper end."""
    step = int(np.searchsorted(curve.times, months, side="right")) - 1
    if step < 0 or curve.values[step] == 0:
        return 0.0, 0.0, float("nan")
    return float(curve.values[step]), float(curve.low[step]), float(curve.high[step])
