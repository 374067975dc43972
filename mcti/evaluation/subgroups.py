"""C among some of the patients: within subtypes, and in subgroups by sex, age, subtype and site."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from mcti.arrays import BoolArray, FloatArray, IntArray
from mcti.evaluation.comparison import Interval, interval, point
from mcti.evaluation.statistics import PairMean

MIN_INTERVAL_EVENTS = 10
"""With fewer events a C is imprecise: it is reported without an interval and marked in reports."""

SMALL_SITES = "sites with few events"
"""The subgroup of all sites with fewer than `MIN_INTERVAL_EVENTS` events."""


def pairs_of_one_label(pairs: PairMean, label: np.ndarray) -> PairMean:
    """Only the pairs whose two patients have the same label (n,).

    With the subtype as label this is the C within subtypes: what a model predicts beyond the subtype. A model that only
    identifies subtypes of different prognosis has a C above 0.5; its C within subtypes is 0.5.
    """
    return _select(pairs, lambda first, second: label[first][:, None] == label[second])


def pairs_among(pairs: PairMean, member: BoolArray) -> PairMean:
    """Only the pairs of two members; member (n,)."""
    return _select(pairs, lambda first, second: member[first][:, None] & member[second])


@dataclass(frozen=True)
class Subgroup:
    """C among the members of a subgroup; without an interval where there are fewer than `MIN_INTERVAL_EVENTS`."""

    name: str
    patients: int
    events: int
    c_index: Interval

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"name": self.name, "patients": self.patients, "events": self.events, "c_index": self.c_index.as_dict()}


def table(pairs: PairMean, patients: pd.DataFrame, tested: IntArray, draws: FloatArray) -> list[Subgroup]:
    """Every subgroup of the evaluated patients with its C; sites with few events form one subgroup.

    pairs: the pairs within folds;  patients: the cohort table (n rows);  tested (t,): its evaluated rows, the only
    candidates for membership;  draws (count, n): stratified resamples.
    """
    event = patients["event"].to_numpy(dtype=np.int64) == 1
    rows = []
    for name, selected in subgroup_members(patients.iloc[tested]):
        member = np.zeros(len(patients), dtype=np.bool_)
        member[tested] = selected
        events, statistic = int(event[member].sum()), pairs_among(pairs, member)
        without_ends = Interval(point(statistic, len(patients)), np.nan, np.nan)
        c = interval(statistic, draws) if events >= MIN_INTERVAL_EVENTS else without_ends
        rows.append(Subgroup(name, int(member.sum()), events, c))
    return rows


def subgroup_members(patients: pd.DataFrame) -> Iterator[tuple[str, BoolArray]]:
    """Name and membership (n,) of each subgroup; a characteristic with one value only gives no subgroup."""
    sex = patients["is_female"].to_numpy(dtype=np.float64, na_value=np.nan)
    age = patients["age"].to_numpy(dtype=np.float64, na_value=np.nan)
    if len(np.unique(sex[np.isfinite(sex)])) == 2:
        yield "women", sex == 1
        yield "men", sex == 0
    if np.isfinite(age).any():
        median = float(np.nanmedian(age))
        yield f"age up to {median:g}", age <= median
        yield f"age over {median:g}", age > median
    yield from _by_value(patients["subtype"].astype(str), "subtype")
    event = patients["event"].to_numpy(dtype=np.int64)
    site = patients["site"].astype(str)
    events = event_counts(site, event)
    yield from _by_value(site.where(site.map(events) >= MIN_INTERVAL_EVENTS, SMALL_SITES), "site")


def event_counts(label: pd.Series, event: np.ndarray) -> dict[str, int]:
    """{label: events}; label (n,), event (n,) 0 or 1."""
    return {str(name): int(count) for name, count in pd.Series(event).groupby(label.to_numpy()).sum().items()}


def _by_value(label: pd.Series, characteristic: str) -> Iterator[tuple[str, BoolArray]]:
    values = sorted(label.unique())
    if len(values) > 1:
        for value in values:
            name = value if value == SMALL_SITES else f"{characteristic} {value}"
            yield name, (label == value).to_numpy()


def _select(pairs: PairMean, keep: Callable[[IntArray, IntArray], BoolArray]) -> PairMean:
    return PairMean(tuple(replace(b, weight=b.weight * keep(b.first, b.second)) for b in pairs.blocks))
