"""Comparison of a model with a comparator on the same patients: differences by metric and group, resampled together."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from mcti.arrays import BoolArray, FloatArray
from mcti.cohort import left_truncation
from mcti.errors import DataError
from mcti.evaluation import calibration, comparison, metrics, subgroups
from mcti.evaluation.comparison import Interval
from mcti.evaluation.outcomes import Outcomes
from mcti.evaluation.predictions import Predictions
from mcti.evaluation.statistics import PairMean, Statistic

SURVIVAL_PREFIX = "S_"


@dataclass(frozen=True)
class ScoredModel:
    """Out-of-fold predictions of one model, scored within its own folds; rows as in `outcomes`."""

    outcomes: Outcomes
    predictions: Predictions


@dataclass(frozen=True)
class PairedComparison:
    """A model and a comparator on the patients whom both predicted out of fold.

    patients      (n rows) patient_id, time_months, event; follow-up from the table of `model`; sorted by patient_id
    horizons      (h,) months at which both have S(t) and both can be scored
    tau_quantile  truncation of Uno's C (`metrics.uno_c`)
    Each method returns the statistic of the model and that of the comparator.
    """

    patients: pd.DataFrame
    model: ScoredModel
    comparator: ScoredModel
    horizons: FloatArray
    tau_quantile: float = metrics.UNO_TAU_QUANTILE

    @classmethod
    def from_tables(
        cls, model: pd.DataFrame, comparator: pd.DataFrame, tau_quantile: float = metrics.UNO_TAU_QUANTILE
    ) -> "PairedComparison":
        """From two tables with patient_id, fold, risk, S_<months>…; that of `model` also has time_months and event.

        The weights for censoring come from the follow-up of all common patients and are the same for both models. Where
        only `model` has entries under observation, both models are scored with them.

        Raises DataError when only the comparator has them: `model` has the follow-up.
        """
        if left_truncation.has_entries(comparator) and not left_truncation.has_entries(model):
            what = f"only the comparator has the column {left_truncation.COLUMN}, which all estimates would ignore"
            hint = "evaluate the model again on the cohort with this column"
            raise DataError(what, "the predictions of the model", hint)
        common = set(model["patient_id"]) & set(comparator["patient_id"])
        patients = model[model["patient_id"].isin(common)].drop_duplicates("patient_id").sort_values("patient_id")
        entry = [left_truncation.COLUMN] if left_truncation.has_entries(patients) else []
        patients = patients[["patient_id", "time_months", "event", *entry]].reset_index(drop=True)
        horizons = _common_horizons(model, comparator)
        tables = [table[table["patient_id"].isin(common)] for table in (model, comparator)]
        sides = [_score(table, patients, horizons) for table in tables]
        usable = np.ones(len(horizons), dtype=bool)
        for side in sides if len(patients) else ():
            usable &= metrics.usable_horizons(side.outcomes, horizons)
        first, second = (
            ScoredModel(side.outcomes, Predictions(side.predictions.risk, side.predictions.survival[:, usable]))
            for side in sides
        )
        return cls(patients, first, second, horizons[usable], tau_quantile)

    @property
    def events(self) -> int:
        """Number of common patients with the event."""
        return int(self.event.sum())

    @cached_property
    def event(self) -> BoolArray:
        """(n,) whether each common patient had the event."""
        return np.asarray(self.patients["event"].to_numpy(dtype=np.int64) == 1)

    def uno_c(self, member: BoolArray | None = None) -> tuple[PairMean, PairMean]:
        """Uno's C, higher is better; `member` (n,): only pairs of these patients."""
        return self._pairs(lambda side: metrics.uno_c(side.outcomes, side.predictions.risk, self.tau_quantile), member)

    def harrell_c(self) -> tuple[PairMean, PairMean]:
        """Harrell's C, higher is better."""
        return self._pairs(lambda side: metrics.c_index(side.outcomes, side.predictions.risk), None)

    def ibs(self) -> tuple[Statistic, Statistic]:
        """Integrated Brier score over the common horizons, lower is better."""
        first, second = (
            metrics.integrated_brier(side.outcomes, side.predictions.survival, self.horizons)
            for side in (self.model, self.comparator)
        )
        return first, second

    def ici(self) -> tuple[Statistic, Statistic]:
        """Integrated calibration index at the last common horizon, lower is better."""
        months = float(self.horizons[-1])
        first, second = (
            calibration.ici(side.outcomes, side.predictions.survival[:, -1], months)
            for side in (self.model, self.comparator)
        )
        return first, second

    def group_members(self, labels: pd.DataFrame) -> Iterator[tuple[str, BoolArray]]:
        """Name and membership (n,) of each value of each column of `labels` (patient_id and label columns)."""
        rows = labels.drop_duplicates("patient_id").set_index("patient_id").reindex(self.patients["patient_id"])
        for column in rows.columns:
            values = rows[column].fillna("").astype(str)
            for value in sorted(set(values) - {""}):
                yield f"{column} {value}", (values == value).to_numpy()

    def _pairs(
        self, statistic: Callable[[ScoredModel], PairMean], member: BoolArray | None
    ) -> tuple[PairMean, PairMean]:
        first, second = statistic(self.model), statistic(self.comparator)
        if member is None:
            return first, second
        return subgroups.pairs_among(first, member), subgroups.pairs_among(second, member)


@dataclass(frozen=True)
class PairedBootstrap:
    """The resamples of one comparison, drawn once and used for every metric."""

    draws: comparison.Draws

    @classmethod
    def draw(cls, pair: PairedComparison, count: int) -> "PairedBootstrap":
        """`count` paired resamples of the common patients."""
        return cls(comparison.Draws.sample(pair.event, count, comparison.SEED))

    def difference(self, pair: tuple[Statistic, Statistic], confidence: float) -> Interval:
        """Model minus comparator with its two-sided percentile interval; confidence in (0, 1)."""
        return self.differences(pair, (confidence,))[0]

    def differences(self, pair: tuple[Statistic, Statistic], confidences: Sequence[float]) -> list[Interval]:
        """The intervals of one difference at several confidence levels (each between 0 and 1), from one bootstrap."""
        draws = self.draws.matching(pair[0])
        model, comparator = point_estimates(pair, draws.shape[1])
        resampled = pair[0](draws) - pair[1](draws)
        return [comparison.percentiles(model - comparator, resampled, level) for level in confidences]


def point_estimates(pair: Sequence[Statistic], patients: int) -> tuple[float, ...]:
    """The value of each statistic, in its unit, on the cohort of `patients` patients."""
    return tuple(comparison.point(statistic, patients) for statistic in pair)


def _common_horizons(model: pd.DataFrame, comparator: pd.DataFrame) -> FloatArray:
    both = [name for name in model.columns if str(name).startswith(SURVIVAL_PREFIX) and name in comparator.columns]
    return np.array(sorted(float(str(name).removeprefix(SURVIVAL_PREFIX)) for name in both))


def _score(table: pd.DataFrame, patients: pd.DataFrame, horizons: FloatArray) -> ScoredModel:
    rows = table.sort_values(["fold", "patient_id"])
    tested: dict[int, tuple[list[str], list[str]]] = {
        int(str(fold)): ([], list(part["patient_id"])) for fold, part in rows.groupby("fold")
    }
    columns = [f"{SURVIVAL_PREFIX}{months:g}" for months in horizons]
    predictions = Predictions(rows["risk"].to_numpy(dtype=float), rows[columns].to_numpy(dtype=float))
    # Both models use one censoring curve, that of all common patients: folds that differ must not cause a difference.
    return ScoredModel(Outcomes.from_folds(patients, tested).with_weights_of_all(), predictions)
