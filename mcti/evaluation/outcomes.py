"""Follow-up of the test patients of every fold, with the follow-up of the training part of that fold."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from mcti.arrays import BoolArray, FloatArray, IntArray
from mcti.cohort import left_truncation
from mcti.errors import DataError
from mcti.evaluation.curves import KaplanMeier, ObservationCurve, StepFunction, censoring_curve


@dataclass(frozen=True)
class Fold:
    """The test part of one fold with the follow-up of its training part.

    patients (m,), train_patients (k,)      rows of the cohort table
    event (m,), time_months (m,)            of the test patients
    train_event (k,), train_time (k,)       of the training patients; times in months
    entry_months (m,), train_entry (k,)     entry under observation; None: all patients are observed from the origin
    """

    number: int
    patients: IntArray
    train_patients: IntArray = field(repr=False)
    event: BoolArray
    time_months: FloatArray
    train_event: BoolArray = field(repr=False)
    train_time: FloatArray = field(repr=False)
    entry_months: FloatArray | None = None
    train_entry: FloatArray | None = field(default=None, repr=False)

    @cached_property
    def censoring(self) -> "StepFunction | ObservationCurve":
        """Censoring curve G of the training part: no test patient influences the weights of the scores.

        With late entry, the probability of being under observation takes its place (`ObservationCurve`).
        """
        if self.train_entry is not None:
            return ObservationCurve.fit(self.train_event, self.train_time, self.train_entry)
        return censoring_curve(self.train_event, self.train_time)

    def followed_after(self, months: float) -> BoolArray:
        """(m,) whether each test patient is known to be without the event, and is under observation, after `months`."""
        followed = np.asarray(self.time_months > months, dtype=np.bool_)
        return followed if self.entry_months is None else followed & (self.entry_months <= months)

    @cached_property
    def survival(self) -> KaplanMeier:
        """Kaplan-Meier curve of the training part: a prediction that is the same for all patients."""
        return KaplanMeier.fit(self.train_event, self.train_time, self.train_entry)

    def follow_up_quantile(self, share: float) -> float:
        """Quantile (`share` in [0, 1]) of the follow-up times of the training part, in months."""
        return float(np.quantile(self.train_time, share))


@dataclass(frozen=True)
class Outcomes:
    """All test parts: one row per patient and fold, ordered by fold and then as the cohort table.

    patient_ids (n,), event (n,), time_months (n,) of the cohort;  folds: those of the split.
    entry_months (n,)  entry under observation (left truncation), None: all patients are observed from the origin
    """

    patient_ids: tuple[str, ...]
    event: BoolArray
    time_months: FloatArray
    folds: tuple[Fold, ...]
    entry_months: FloatArray | None = None

    @classmethod
    def from_folds(cls, patients: pd.DataFrame, folds: Mapping[int, tuple[Sequence[str], Sequence[str]]]) -> "Outcomes":
        """Outcomes of a cohort table (one row per patient) and {fold: (training patients, test patients)}.

        Raises
            DataError when the folds name a patient who is not in the cohort
            DataError when a patient is in the training part and in the test part of one fold
        """
        ids = tuple(patients["patient_id"].astype(str))
        row = {name: i for i, name in enumerate(ids)}
        event = patients["event"].to_numpy(dtype=np.int64) == 1
        time = patients["time_months"].to_numpy(dtype=np.float64)
        entry = left_truncation.entries(patients) if left_truncation.has_entries(patients) else None
        parts = []
        for number, (train, test) in sorted(folds.items()):
            _check_disjoint(number, train, test)
            tested, trained = _rows(row, test, number), _rows(row, train, number)
            entries = (None, None) if entry is None else (entry[tested], entry[trained])
            ends = (event[tested], time[tested], event[trained], time[trained])
            parts.append(Fold(number, tested, trained, *ends, *entries))
        return cls(ids, event, time, tuple(parts), entry)

    @cached_property
    def patient(self) -> IntArray:
        """(m,) the row of the cohort table of every test row."""
        return np.concatenate([fold.patients for fold in self.folds])

    @cached_property
    def tested(self) -> IntArray:
        """(t,) rows of the cohort table of the patients in at least one test part, ascending, each once."""
        return np.unique(self.patient)

    def entries(self, rows: IntArray) -> FloatArray | None:
        """(r,) entries in months of these rows of the cohort table; None: all are observed from the origin."""
        return None if self.entry_months is None else self.entry_months[rows]

    def with_weights_of_all(self) -> "Outcomes":
        """The same test parts; the weights for censoring and late entry come from all patients of the cohort table."""
        event, time, entry = self.event, self.time_months, self.entry_months
        folds = [
            dataclasses.replace(fold, train_event=event, train_time=time, train_entry=entry) for fold in self.folds
        ]
        return dataclasses.replace(self, folds=tuple(folds))

    @property
    def late_entries(self) -> int:
        """Number of evaluated patients who entered after the origin."""
        return 0 if self.entry_months is None else int((self.entry_months[self.tested] > 0).sum())

    @property
    def tested_event(self) -> BoolArray:
        """(t,) whether the event of each evaluated patient was observed."""
        return self.event[self.tested]

    @property
    def tested_time(self) -> FloatArray:
        """(t,) follow-up in months of each evaluated patient."""
        return self.time_months[self.tested]

    @cached_property
    def fold_number(self) -> IntArray:
        """(m,) the fold of every test row."""
        return np.concatenate([np.full(len(fold.patients), fold.number, dtype=np.int64) for fold in self.folds])

    @cached_property
    def starts(self) -> IntArray:
        """(folds + 1,) first test row of each fold, and the number of test rows."""
        return np.cumsum([0, *(len(fold.patients) for fold in self.folds)])

    def parts(self) -> Iterable[tuple[Fold, slice]]:
        """Each fold with its slice of the test rows."""
        for fold, start, stop in zip(self.folds, self.starts[:-1], self.starts[1:], strict=True):
            yield fold, slice(int(start), int(stop))


def _rows(row: Mapping[str, int], names: Iterable[str], number: int) -> IntArray:
    missing = sorted(name for name in names if name not in row)
    if missing:
        raise DataError(
            f"patient {missing[0]!r} is not in the cohort ({len(missing)} such patients)",
            f"folds, fold {number}",
            "split this cohort again (mcti split)",
        )
    return np.sort(np.array([row[name] for name in names], dtype=np.int64))


def _check_disjoint(number: int, train: Sequence[str], test: Sequence[str]) -> None:
    both = sorted(set(train) & set(test))
    if both:
        raise DataError(
            f"patient {both[0]!r} is in the training part and in the test part ({len(both)} such patients)",
            f"folds, fold {number}",
            "split the cohort again (mcti split)",
        )
