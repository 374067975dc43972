"""The part of the significance level that each evaluation on one set of test patients may spend (docs/registry.md).

Ten challengers, each tested against the same patients at 2.5 %, would promote a model that is not better in about one
series of five. Therefore one test set has a budget, `promote.alpha`, and each evaluation on it (a look) may spend the
increment of a spending function (Lan and DeMets 1983, Biometrika 70:659-663). The looks are read from the ledger.
Later challengers are other models, not more data on the same model, so the dependence between looks is unknown: each
look spends its own increment only, which by Boole's inequality controls the error under any dependence.
"""

import hashlib
import math
from collections.abc import Iterable, Sequence
from statistics import NormalDist
from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from mcti.errors import DataError
from mcti.params import PromoteParams
from mcti.registry.ledger import LedgerEntry

SIGNATURE_SIZE = 64
SAME_TEST_SET = 0.5
"""Jaccard index of their patients from which two test sets share one budget: one new patient is no new test set."""


class Look(BaseModel):
    """One evaluation among those on its test set.

    test_set   SHA-256 over the patients and their outcomes
    signature  the smallest hashes of the patients' ids (MinHash), from which the overlap of two sets is estimated
    number     1 for the first look;  of  planned number of looks
    spent      part of the budget that earlier looks spent;  alpha  one-sided level of this look
    pair       challenger and champion: a repeated evaluation of the same pair is the same look
    """

    model_config = ConfigDict(frozen=True)
    test_set: str
    # Entries of earlier versions of mcti have the signature as `sketch`; a ledger is never rewritten.
    signature: tuple[str, ...] = Field(validation_alias=AliasChoices("signature", "sketch"))
    number: int
    of: int
    spent: float
    alpha: float
    pair: str


def next_look(
    entries: Sequence[LedgerEntry], patients: Iterable[tuple[str, float, int]], pair: str, params: PromoteParams
) -> Look:
    """The look of an evaluation of `pair` on these patients, after the evaluations in `entries`.

    patients  (id, months, event) of each test patient

    A repeated evaluation of the same pair on the same patients has its earlier number and level. A test set of which at
    least half is new has its own budget.

    Raises DataError when an entry has a look that cannot be read: its share of the budget would be unknown
    """
    rows = sorted(patients)
    test_set, signature = _digest(rows), minhash(row[0] for row in rows)
    earlier = [_read(entry) for entry in entries if entry.evidence.get("look")]
    repeated = next((look for look in earlier if look.pair == pair and look.test_set == test_set), None)
    if repeated is not None:
        return repeated
    same_set = (look for look in earlier if overlap(look.signature, signature) >= SAME_TEST_SET)
    granted = {(look.pair, look.test_set): look.alpha for look in same_set}
    number = len(granted) + 1
    # The levels that were granted count, not those of the current plan: the settings may have changed.
    spent = math.fsum(granted.values())
    remaining = max(params.alpha - spent, 0.0)
    planned = budget(number, params) - budget(number - 1, params)
    return Look(
        test_set=test_set,
        signature=signature,
        number=number,
        of=params.looks,
        spent=spent,
        alpha=min(planned, remaining),
        pair=pair,
    )


def _read(entry: LedgerEntry) -> Look:
    """The look of an entry that has one."""
    try:
        return Look.model_validate(entry.evidence["look"])
    except ValidationError as error:
        first = error.errors()[0]
        what = f"evidence.look.{'.'.join(map(str, first['loc']))} cannot be read ({first['msg'].lower()})"
        where = f"entry {entry.number} of the ledger of {entry.model}"
        raise DataError(what, where, "use the version of mcti that wrote it, or register under another name") from error


def budget(looks: int, params: PromoteParams) -> float:
    """Share of `alpha` that may be spent after `looks` of `params.looks` looks; all of it at the last one.

    pocock           alpha ln(1 + (e - 1) t): nearly even, slightly more for the first looks
    obrien-fleming   2 - 2 Phi(z(alpha / 2) / sqrt t): almost nothing at first, most at the end
    """
    share = min(looks / params.looks, 1.0)
    if share <= 0:
        return 0.0
    if params.spending == "pocock":
        return params.alpha * math.log(1 + (math.e - 1) * share)
    normal = NormalDist()
    return 2 - 2 * normal.cdf(normal.inv_cdf(1 - params.alpha / 2) / math.sqrt(share))


def minhash(patients: Iterable[str]) -> tuple[str, ...]:
    """The smallest 64-bit hashes of the ids, from which the overlap of two sets is estimated (Broder 1997)."""
    return tuple(sorted({hashlib.sha256(patient.encode()).hexdigest()[:16] for patient in patients})[:SIGNATURE_SIZE])


def overlap(first: Sequence[str], second: Sequence[str]) -> float:
    """Jaccard index of the two sets behind the signatures: exact for up to 64 patients, otherwise within about 0.06."""
    union = sorted({*first, *second})[:SIGNATURE_SIZE]
    common = {*first} & {*second}
    return sum(name in common for name in union) / len(union) if union else 0.0


def _digest(rows: Sequence[Any]) -> str:
    text = "\n".join(f"{patient}\0{months!r}\0{event}" for patient, months, event in rows)
    return hashlib.sha256(text.encode()).hexdigest()
