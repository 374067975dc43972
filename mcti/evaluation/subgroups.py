"""The same C among some of the patients: within subtypes, and in subgroups by sex, age, subtype and site."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from mcti.arrays import BoolArray, FloatArray, IntArray
from mcti.evaluation.comparison import Interval, interval, point
from mcti.evaluation.statistics import PairMean

MIN_INTERVAL_EVENTS = 10
"""Below about ten events a C says little (docs/protocol.md 12): it is shown without an interval, and marked."""


def within(pairs: PairMean, label: np.ndarray) -> PairMean:
    """Only pairs whose two patients carry the same label (n,): what the model knows beyond the label.

    Where a subtype has its own prognosis a model that tells subtypes apart has a C above 0.5 without ranking anybody
    inside a subtype; this C is 0.5 then.
    """
    return _kept(pairs, lambda first, second: label[first][:, None] == label[second])


def among(pairs: PairMean, member: BoolArray) -> PairMean:
    """Only pairs of two members (n,)."""
    return _kept(pairs, lambda first, second: member[first][:, None] & member[second])


@dataclass(frozen=True)
class Subgroup:
    """C among the members of a subgroup with their numbers; without an interval with fewer than ten events."""

    name: str
    patients: int
    events: int
    c_index: Interval

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"name": self.name, "patients": self.patients, "events": self.events, "c_index": self.c_index.as_dict()}


def table(
    pairs: PairMean, patients: pd.DataFrame, tested: IntArray, draws: FloatArray, confidence: float
) -> list[Subgroup]:
    """Every subgroup of the evaluated patients, with interval; smaller sites are put together.

    patients: the cohort's table;  tested (t,): its evaluated rows, of which alone the subgroups are made. With fewer
    than ten events C stands without an interval, beside its patients and events: it says little by itself.
    """
    event = patients["event"].to_numpy(dtype=np.int64) == 1
    found = []
    for name, some in members(patients.iloc[tested]):
        member = np.zeros(len(patients), dtype=np.bool_)
        member[tested] = some
        events, statistic = int(event[member].sum()), among(pairs, member)
        alone = Interval(point(statistic, len(patients)), np.nan, np.nan)
        c = interval(statistic, draws, confidence) if events >= MIN_INTERVAL_EVENTS else alone
        found.append(Subgroup(name, int(member.sum()), events, c))
    return found


def members(patients: pd.DataFrame) -> Iterator[tuple[str, BoolArray]]:
    """Name and (n,) membership of each subgroup; a feature that does not divide the cohort gives none."""
    sex = patients["is_female"].to_numpy(dtype=np.float64, na_value=np.nan)
    age = patients["age"].to_numpy(dtype=np.float64, na_value=np.nan)
    if len(np.unique(sex[np.isfinite(sex)])) == 2:
        yield "women", sex == 1
        yield "men", sex == 0
    if np.isfinite(age).any():
        middle = float(np.nanmedian(age))
        yield f"age up to {middle:g}", age <= middle
        yield f"age over {middle:g}", age > middle
    yield from _by_word(patients["subtype"].astype(str), "subtype")
    event = patients["event"].to_numpy(dtype=np.int64)
    site = patients["site"].astype(str)
    busy = event_counts(site, event)
    yield from _by_word(site.where(site.map(busy) >= MIN_INTERVAL_EVENTS, "the smaller ones"), "site")


def event_counts(label: pd.Series, event: np.ndarray) -> dict[str, int]:
    """Events by label."""
    return {str(name): int(count) for name, count in pd.Series(event).groupby(label.to_numpy()).sum().items()}


def _by_word(label: pd.Series, what: str) -> Iterator[tuple[str, BoolArray]]:
    words = sorted(label.unique())
    if len(words) > 1:
        for word in words:
            yield f"{what} {word}", (label == word).to_numpy()


def _kept(pairs: PairMean, keep: Any) -> PairMean:
    return PairMean(tuple(replace(b, weight=b.weight * keep(b.first, b.second)) for b in pairs.blocks))
