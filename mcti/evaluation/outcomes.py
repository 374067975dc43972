"""Who was tested in which fold, how it ended, and what the fold's training part knew."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from mcti.arrays import BoolArray, FloatArray, IntArray
from mcti.errors import DataError
from mcti.evaluation.curves import KaplanMeier, StepFunction, censoring_curve


@dataclass(frozen=True)
class Fold:
    """One test part with the follow-up of its training part.

    patients (m,) rows of the cohort's table, train_patients (k,) likewise;  event, time_months (m,) of the test
    patients;  train_event, train_time (k,).
    """

    number: int
    patients: IntArray
    train_patients: IntArray = field(repr=False)
    event: BoolArray
    time_months: FloatArray
    train_event: BoolArray = field(repr=False)
    train_time: FloatArray = field(repr=False)

    @cached_property
    def censoring(self) -> StepFunction:
        """G of the training part: nothing of the test part enters the weights of its scores."""
        return censoring_curve(self.train_event, self.train_time)

    @cached_property
    def survival(self) -> KaplanMeier:
        """The Kaplan-Meier curve of the training part, the forecast that knows no patient."""
        return KaplanMeier.fit(self.train_event, self.train_time)

    def follow_up_quantile(self, share: float) -> float:
        """Quantile of the training part's follow-up times in months."""
        return float(np.quantile(self.train_time, share))


@dataclass(frozen=True)
class Outcomes:
    """All test parts; one row a patient and fold, in the order of the folds and, inside, of the cohort's table.

    patient_ids (n,) the cohort;  event, time_months (n,);  folds.
    """

    patient_ids: tuple[str, ...]
    event: BoolArray
    time_months: FloatArray
    folds: tuple[Fold, ...]

    @classmethod
    def from_folds(cls, patients: pd.DataFrame, folds: Mapping[int, tuple[Sequence[str], Sequence[str]]]) -> "Outcomes":
        """From the cohort's table and {fold: (training patients, test patients)}.

        Raises
            DataError: the folds name a patient that the cohort does not have, or a patient is trained on and tested
            in one fold.
        """
        ids = tuple(patients["patient_id"].astype(str))
        row = {name: i for i, name in enumerate(ids)}
        event = patients["event"].to_numpy(dtype=np.int64) == 1
        time = patients["time_months"].to_numpy(dtype=np.float64)
        made = []
        for number, (train, test) in sorted(folds.items()):
            _check_apart(number, train, test)
            tested, trained = _rows(row, test, number), _rows(row, train, number)
            made.append(Fold(number, tested, trained, event[tested], time[tested], event[trained], time[trained]))
        return cls(ids, event, time, tuple(made))

    @cached_property
    def patient(self) -> IntArray:
        """(m,) the cohort's row of every test row."""
        return np.concatenate([fold.patients for fold in self.folds])

    @cached_property
    def tested(self) -> IntArray:
        """(t,) the cohort's rows of the patients who are in some test part, ascending, each once."""
        return np.unique(self.patient)

    @property
    def tested_event(self) -> BoolArray:
        """(t,) whether the event of each evaluated patient was seen."""
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
        """(folds + 1,) where each fold begins among the test rows."""
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
            "split this cohort anew",
        )
    return np.sort(np.array([row[name] for name in names], dtype=np.int64))


def _check_apart(number: int, train: Sequence[str], test: Sequence[str]) -> None:
    both = sorted(set(train) & set(test))
    if both:
        raise DataError(
            f"patient {both[0]!r} is trained on and tested ({len(both)} such patients)",
            f"folds, fold {number}",
            "split the cohort anew",
        )
