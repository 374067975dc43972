"""Two models on the same patients: how far one leads the other, by metric and by group, resampled together."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from mcti.arrays import BoolArray, FloatArray
from mcti.evaluation import calibration, comparison, metrics, subgroups
from mcti.evaluation.comparison import Interval
from mcti.evaluation.outcomes import Outcomes
from mcti.evaluation.predictions import Predictions
from mcti.evaluation.statistics import PairMean, Statistic

SURVIVAL = "S_"


@dataclass(frozen=True)
class ScoredModel:
    """One model's out-of-fold predictions, scored within its own folds; rows of `outcomes` are those of the pair."""

    outcomes: Outcomes
    predicted: Predictions


@dataclass(frozen=True)
class PairedComparison:
    """Two models on the patients whom both predicted without having seen them.

    patients  (n rows) patient_id, time_months, event; follow-up is that of `ours`, the newer one; sorted by patient
    horizons  (h,) months at which both give S(t) and both can be scored
    """

    patients: pd.DataFrame
    ours: ScoredModel
    theirs: ScoredModel
    horizons: FloatArray
    tau_quantile: float = 0.8

    @classmethod
    def from_tables(cls, ours: pd.DataFrame, theirs: pd.DataFrame, tau_quantile: float = 0.8) -> "PairedComparison":
        """From two tables patient_id, fold, risk, S_<months>…; `ours` also has time_months and event.

        Weights for censoring come from the follow-up of all common patients, the same for both.
        """
        common = set(ours["patient_id"]) & set(theirs["patient_id"])
        patients = ours[ours["patient_id"].isin(common)].drop_duplicates("patient_id").sort_values("patient_id")
        patients = patients[["patient_id", "time_months", "event"]].reset_index(drop=True)
        asked = _months(ours, theirs)
        sides = [_side(table[table["patient_id"].isin(common)], patients, asked) for table in (ours, theirs)]
        usable = np.ones(len(asked), dtype=bool)
        for side in sides if len(patients) else ():
            usable &= metrics.usable_horizons(side.outcomes, asked)
        first, second = (
            ScoredModel(side.outcomes, Predictions(side.predicted.risk, side.predicted.survival[:, usable]))
            for side in sides
        )
        return cls(patients, first, second, asked[usable], tau_quantile)

    @property
    def events(self) -> int:
        """Common patients with the event."""
        return int(self.event.sum())

    @cached_property
    def event(self) -> BoolArray:
        """(n,) who had the event."""
        return np.asarray(self.patients["event"].to_numpy(dtype=np.int64) == 1)

    def uno_c(self, member: BoolArray | None = None) -> tuple[PairMean, PairMean]:
        """Uno's C of both, higher is better; `member` (n,): pairs of these patients alone."""
        return self._pairs(lambda side: metrics.uno_c(side.outcomes, side.predicted.risk, self.tau_quantile), member)

    def harrell_c(self) -> tuple[PairMean, PairMean]:
        """Harrell's C of both, higher is better."""
        return self._pairs(lambda side: metrics.c_index(side.outcomes, side.predicted.risk), None)

    def ibs(self) -> tuple[Statistic, Statistic]:
        """Integrated Brier score of both over the common horizons, lower is better."""
        first, second = (
            metrics.integrated_brier(side.outcomes, side.predicted.survival, self.horizons)
            for side in (self.ours, self.theirs)
        )
        return first, second

    def ici(self) -> tuple[Statistic, Statistic]:
        """Integrated calibration index of both at the last common horizon, lower is better."""
        months = float(self.horizons[-1])
        first, second = (
            calibration.ici(side.outcomes, side.predicted.survival[:, -1], months) for side in (self.ours, self.theirs)
        )
        return first, second

    def group_members(self, labels: pd.DataFrame) -> Iterator[tuple[str, BoolArray]]:
        """Name and (n,) membership of every value of every label column (patient_id and labels, one row a patient)."""
        rows = labels.drop_duplicates("patient_id").set_index("patient_id").reindex(self.patients["patient_id"])
        for column in rows.columns:
            words = rows[column].fillna("").astype(str)
            for word in sorted(set(words) - {""}):
                yield f"{column} {word}", (words == word).to_numpy()

    def _pairs(
        self, statistic: Callable[[ScoredModel], PairMean], member: BoolArray | None
    ) -> tuple[PairMean, PairMean]:
        first, second = statistic(self.ours), statistic(self.theirs)
        if member is None:
            return first, second
        return subgroups.among(first, member), subgroups.among(second, member)


@dataclass(frozen=True)
class PairedBootstrap:
    """The bootstrap of one comparison: both kinds of draws (comparison.Draws), made once."""

    draws: comparison.Draws

    @classmethod
    def draw(cls, paired: PairedComparison, count: int, seed: int) -> "PairedBootstrap":
        """`count` paired resamples of the common patients."""
        return cls(comparison.Draws.sample(paired.event, count, seed))

    def difference(self, pair: tuple[Statistic, Statistic], confidence: float) -> Interval:
        """The first minus the second with its two-sided percentile interval."""
        return self.differences(pair, (confidence,))[0]

    def differences(self, pair: tuple[Statistic, Statistic], confidences: Sequence[float]) -> list[Interval]:
        """The same at several levels, from one bootstrap."""
        draws = self.draws.matching(pair[0])
        ours, theirs = point_estimates(pair, draws.shape[1])
        drawn = pair[0](draws) - pair[1](draws)
        return [comparison.percentiles(ours - theirs, drawn, level) for level in confidences]


def point_estimates(pair: Sequence[Statistic], patients: int) -> tuple[float, ...]:
    """Each statistic on every patient once."""
    return tuple(comparison.point(statistic, patients) for statistic in pair)


def _months(ours: pd.DataFrame, theirs: pd.DataFrame) -> FloatArray:
    both = [name for name in ours.columns if str(name).startswith(SURVIVAL) and name in theirs.columns]
    return np.array(sorted(float(str(name).removeprefix(SURVIVAL)) for name in both))


def _side(table: pd.DataFrame, patients: pd.DataFrame, horizons: FloatArray) -> ScoredModel:
    rows = table.sort_values(["fold", "patient_id"])
    tested: dict[int, tuple[list[str], list[str]]] = {
        int(str(fold)): ([], list(part["patient_id"])) for fold, part in rows.groupby("fold")
    }
    columns = [f"{SURVIVAL}{months:g}" for months in horizons]
    predicted = Predictions(rows["risk"].to_numpy(dtype=float), rows[columns].to_numpy(dtype=float))
    plain = Outcomes.from_folds(patients, tested)
    # One censoring curve for both sides, of all common patients: a difference must not come from how folds were cut.
    everybody = (plain.event, plain.time_months)
    folds = tuple(dataclasses.replace(f, train_event=everybody[0], train_time=everybody[1]) for f in plain.folds)
    return ScoredModel(dataclasses.replace(plain, folds=folds), predicted)
