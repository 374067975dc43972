"""How much chance of a false promotion each look at one set of test patients may use up (docs/registry.md).

Ten challengers held one after the other against the same patients at 2.5 % each would let through a model that is no
better in about one chain of five. So one test set has a budget, `promote.alpha`, and each judgement on it (a look)
may use the part that a spending function leaves it (Lan and DeMets 1983, Biometrika 70:659-663). The looks are those
of the ledger. Later challengers are other models, not more data on the same one, so that nothing is known of how
looks depend on each other: each takes its own increment of the budget and no more, which by Boole's inequality holds
whatever the dependence.
"""

import hashlib
import math
from collections.abc import Iterable, Sequence
from statistics import NormalDist
from typing import Any

from pydantic import BaseModel, ConfigDict

from mcti.params import PromoteParams
from mcti.registry.ledger import LedgerEntry

SKETCH = 64
SHARED = 0.5
"""From this share of common patients on (Jaccard) two test sets count as one: a patient more is no fresh start."""


class Look(BaseModel):
    """The place of one judgement among those on its test set.

    test_set  SHA-256 over the patients and what happened to them;  sketch: the smallest hashes of the patients' ids
    number    1 for the first look;  spent: part of the budget used before;  alpha: one-sided level of this look
    """

    model_config = ConfigDict(frozen=True)
    test_set: str
    sketch: tuple[str, ...]
    number: int
    of: int
    spent: float
    alpha: float
    pair: str  # challenger and champion: judging the same two again is the same look


def look(
    lines: Sequence[LedgerEntry], patients: Iterable[tuple[str, float, int]], pair: str, params: PromoteParams
) -> Look:
    """The look that a judgement of `pair` on these patients (id, months, event) would be, after `lines`.

    The same pair on the very same patients has its former number and level; a test set of which half is new starts
    with a budget of its own.
    """
    rows = sorted(patients)
    test_set, sketch = _digest(rows), sketch_of(row[0] for row in rows)
    before = [Look.model_validate(tree) for tree in (line.evidence.get("look") for line in lines) if tree]
    again = next((old for old in before if old.pair == pair and old.test_set == test_set), None)
    if again is not None:
        return again
    taken = {(old.pair, old.test_set): old.alpha for old in before if overlap(old.sketch, sketch) >= SHARED}
    number = len(taken) + 1
    # What was granted counts, not what the plan says now: settings may have changed on the way.
    spent = math.fsum(taken.values())
    left = max(params.alpha - spent, 0.0)
    planned = budget(number, params) - budget(number - 1, params)
    return Look(
        test_set=test_set,
        sketch=sketch,
        number=number,
        of=params.looks,
        spent=spent,
        alpha=min(planned, left),
        pair=pair,
    )


def budget(looks: int, params: PromoteParams) -> float:
    """Part of `alpha` that may be used up after so many of `params.looks` looks; all of it at the last one.

    pocock           alpha ln(1 + (e - 1) t): nearly even, the first looks a little more
    obrien-fleming   2 - 2 Phi(z(alpha / 2) / sqrt t): next to nothing at first, most at the end
    """
    share = min(looks / params.looks, 1.0)
    if share <= 0:
        return 0.0
    if params.spending == "pocock":
        return params.alpha * math.log(1 + (math.e - 1) * share)
    normal = NormalDist()
    return 2 - 2 * normal.cdf(normal.inv_cdf(1 - params.alpha / 2) / math.sqrt(share))


def sketch_of(patients: Iterable[str]) -> tuple[str, ...]:
    """The smallest 64-bit hashes of the ids, by which the overlap of two sets is estimated (Broder 1997)."""
    return tuple(sorted({hashlib.sha256(patient.encode()).hexdigest()[:16] for patient in patients})[:SKETCH])


def overlap(one: Sequence[str], other: Sequence[str]) -> float:
    """Jaccard index of the two sets behind the sketches: exact for up to 64 patients, else within about 0.06."""
    union = sorted({*one, *other})[:SKETCH]
    both = {*one} & {*other}
    return sum(name in both for name in union) / len(union) if union else 0.0


def _digest(rows: Sequence[Any]) -> str:
    text = "\n".join(f"{patient}\0{months!r}\0{event}" for patient, months, event in rows)
    return hashlib.sha256(text.encode()).hexdigest()
