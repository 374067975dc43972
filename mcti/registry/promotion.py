"""Moving aliases: an entry of the ledger is written first, then the aliases follow it; finding and repairing faults.

The aliases must be those of the last entry. A promotion that is interrupted before its entry is written has not
happened; one that is interrupted afterwards is completed by `repair`, or by the next promotion if a trusted key signed
the entry.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mcti.errors import DataError
from mcti.registry import ledger, ledger_anchors, ledger_packs, models
from mcti.registry.gates import PROMOTE, GateEvaluation
from mcti.registry.ledger import LedgerEntry
from mcti.registry.ledger_anchors import Anchor

ROLLBACK, REPAIR, SIGN = "rollback", "repair", "sign"
_DELETED = "version"  # first word of a fault about a deleted version
Signing = Callable[[LedgerEntry], LedgerEntry]
"""As the argument `sign` of `ledger.append`."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Aliases:
    """The versions with the aliases `champion` and `previous`; None: not set."""

    champion: int | None
    previous: int | None

    @classmethod
    def of_last(cls, entries: list[LedgerEntry]) -> "Aliases":
        """As the last entry states them."""
        return cls(entries[-1].champion, entries[-1].previous) if entries else cls(None, None)

    @classmethod
    def read(cls, client: Any, name: str) -> "Aliases":
        """As they are in the registry."""
        numbers = client.get_registered_model(name).aliases
        versions = (numbers.get(alias) for alias in (models.CHAMPION, models.PREVIOUS))
        return cls(*(None if version is None else int(version) for version in versions))

    def items(self) -> tuple[tuple[str, int | None], ...]:
        """(alias, version) of both."""
        return (models.CHAMPION, self.champion), (models.PREVIOUS, self.previous)


def decide(
    client: Any,
    entries: list[LedgerEntry],
    version: Any,
    evaluation: GateEvaluation,
    evidence: Mapping[str, Any],
    *,
    sign: Signing | None = None,
) -> LedgerEntry:
    """Record the decision about `version` after `entries`, as `verified_entries` gave them, and move the aliases.

    sign  as in `ledger.append`

    Raises
    s3.Conflict when another decision was recorded since `entries` were read; no alias was moved.
    DataError when an alias was moved or a version deleted during the evaluation; no alias was moved.
    """
    name = version.name
    faults = find_faults(client, name, entries)
    if faults and ledger.length(name) == len(entries):  # otherwise a concurrent entry causes them: the put will fail
        _refuse(name, faults)
    aliases = Aliases.of_last(entries)
    if evaluation.outcome == PROMOTE:
        aliases = Aliases(int(version.version), aliases.champion)
    record = {**evaluation.model_dump(mode="json"), **evidence}
    return _write(client, entries, evaluation.outcome, name, int(version.version), aliases, record, sign)


def rollback(client: Any, name: str, *, sign: Signing | None = None) -> LedgerEntry:
    """Return the alias `champion` to the version before; a version that was deleted is skipped.

    sign  as in `ledger.append`

    Raises DataError when there is no version before, or the ledger has other faults.
    """
    entries = ledger.read(name)
    _refuse(name, [fault for fault in find_faults(client, name, entries) if not fault.startswith(_DELETED)])
    champion = Aliases.of_last(entries).champion
    former = _former(client, entries, champion)
    if former is None:
        raise DataError("there is no previous champion", f"model {name}", "promote a version first")
    aliases = Aliases(former, _former(client, entries, former))
    record = {"withdrawn": champion, "reason": f"version {champion} was withdrawn"}
    return _write(client, entries, ROLLBACK, name, former, aliases, record, sign)


def sign_ledger(
    client: Any, name: str, entries: list[LedgerEntry], evidence: Mapping[str, Any], sign: Signing
) -> LedgerEntry:
    """Add a signed entry after `entries`, as `verified_entries` gave them: it pins them, and moves no alias.

    Raises s3.Conflict when another entry was written since `entries` were read.
    """
    aliases = Aliases.of_last(entries)
    return _write(client, entries, SIGN, name, aliases.champion or 0, aliases, evidence, sign)


def verified_entries(
    client: Any, name: str, *, trusted: Callable[[LedgerEntry], bool] | None = None
) -> list[LedgerEntry]:
    """The entries of the ledger, if the chain is complete and the aliases agree with it.

    trusted  whether a trusted key signed an entry: then the aliases are set to a last entry whose writer was
             interrupted before it could set them; None: they are not. Without a signature, who can write to the ledger
             could move the aliases, too.

    Raises DataError when an entry was edited, lost or reordered, or an alias was moved without the ledger.
    """
    entries = ledger.read(name)
    faults = find_faults(client, name, entries)
    if faults and trusted is not None and _is_interrupted(client, name, entries) and trusted(entries[-1]):
        _follow(client, entries[-1])
        _log.warning("the command of entry %d (%s) was interrupted, and is completed", len(entries), entries[-1].action)
        faults = find_faults(client, name, entries)
    _refuse(name, faults)
    return entries


def _is_interrupted(client: Any, name: str, entries: list[LedgerEntry]) -> bool:
    """Whether MLflow has the head of the entry before the last one, and each alias as one of both states it."""
    if not entries or chain_faults(client, name, entries) or _deleted(client, name, entries):
        return False
    former = entries[:-1]
    head = f"{former[-1].number}:{former[-1].hash}" if former else None
    states = zip(
        Aliases.read(client, name).items(),
        Aliases.of_last(entries).items(),
        Aliases.of_last(former).items(),
        strict=True,
    )
    return ledger.head(client, name) == head and all(actual in {last, before} for actual, last, before in states)


def find_faults(
    client: Any, name: str, entries: list[LedgerEntry], anchors: Sequence[Anchor] | None = None
) -> list[str]:
    """All faults of the chain, every deleted version, and every alias that differs from the last entry.

    anchors  as `ledger_anchors.read` gave them after `entries` were read; None: they are read
    """
    faults = chain_faults(client, name, entries, anchors)
    deleted = _deleted(client, name, entries)
    faults += [f"{_DELETED} {number}, {alias} in the ledger, was deleted manually" for alias, number in deleted.items()]
    expected = dict(Aliases.of_last(entries).items())
    for alias, actual in Aliases.read(client, name).items():
        if actual != expected[alias] and alias not in deleted:
            head = ledger.head(client, name)
            cause = ledger.cause_of_difference(entries[-1], head) if entries else "it was set manually"
            states = f"{ledger.version_name(actual)}, in the ledger {ledger.version_name(expected[alias])}"
            faults.append(f"alias {alias} is {states}: {cause}")
    return faults


def chain_faults(
    client: Any, name: str, entries: list[LedgerEntry], anchors: Sequence[Anchor] | None = None
) -> list[str]:
    """All faults of the chain, also in comparison with the head in MLflow and the anchors in S3.

    anchors  as in `find_faults`
    """
    head, anchors = ledger.head(client, name), ledger_anchors.read(name) if anchors is None else anchors
    ahead = {f"{entry.number}:{entry.hash}" for entry in entries}.isdisjoint({head}) if head else False
    if ahead or any(anchor.number > len(entries) for anchor in anchors):  # lost entries, or a concurrent writer
        entries = ledger.read(name)
    return ledger.find_faults(entries, head) + ledger_anchors.find_faults(entries, anchors)


def repair(client: Any, name: str, *, sign: Signing | None = None) -> list[str]:
    """Set the aliases to the state of the last entry; the faults that were found. sign: as in `ledger.append`.

    A champion that was deleted cannot be restored: the champion before it replaces it, and an entry records that.

    Raises DataError when the chain itself is damaged: its objects must be restored from a backup.
    """
    entries = ledger.read(name)
    damaged = chain_faults(client, name, entries)
    if damaged:
        raise DataError(damaged[0], f"ledger of {name}", "restore the ledger's objects from a backup of the bucket")
    faults = find_faults(client, name, entries)
    deleted = _deleted(client, name, entries)
    if deleted:
        champion = Aliases.of_last(entries).champion
        champion = _former(client, entries, champion) if models.CHAMPION in deleted else champion
        aliases = Aliases(champion, _former(client, entries, champion))
        number = deleted.get(models.CHAMPION, deleted.get(models.PREVIOUS, 0))
        record = {"deleted": deleted, "reason": "; ".join(faults)}
        _write(client, entries, REPAIR, name, number, aliases, record, sign)
    elif entries:
        _apply(client, entries[-1])
    return faults


def _write(
    client: Any,
    entries: list[LedgerEntry],
    action: str,
    name: str,
    version: int,
    aliases: Aliases,
    evidence: Mapping[str, Any],
    sign: Signing | None = None,
) -> LedgerEntry:
    entry = ledger.append(
        entries,
        sign=sign,
        action=action,
        model=name,
        version=version,
        champion=aliases.champion,
        previous=aliases.previous,
        evidence=dict(evidence),
    )
    _follow(client, entry)
    written = [*entries, entry]
    ledger_packs.store(ledger.folder(name), len(written), lambda position: ledger.to_bytes(written[position]))
    return entry


def _follow(client: Any, entry: LedgerEntry) -> None:
    """Set the aliases to the last entry, which is a later one if this process was suspended after it wrote its own.

    The length is compared before and after: MLflow cannot move an alias on a condition, so a suspension between the
    comparison and the move can still return an alias to this entry, until the second comparison or a repair.
    """
    applied = 0
    while applied < (length := ledger.length(entry.model)):
        last = entry if length == entry.number else ledger.read(entry.model)[-1]
        _apply(client, last)
        applied = last.number


def _apply(client: Any, entry: LedgerEntry) -> None:
    for alias, number in ((models.PREVIOUS, entry.previous), (models.CHAMPION, entry.champion)):
        if number is not None:
            client.set_registered_model_alias(entry.model, alias, str(number))
        elif models.version_by_alias(client, entry.model, alias) is not None:
            client.delete_registered_model_alias(entry.model, alias)
    client.set_registered_model_tag(entry.model, ledger.HEAD, f"{entry.number}:{entry.hash}")
    ledger_anchors.store(entry)


def _refuse(name: str, faults: list[str]) -> None:
    if faults:
        raise DataError(faults[0], f"ledger of {name}", ledger.repair_hint(name))


def _deleted(client: Any, name: str, entries: list[LedgerEntry]) -> dict[str, int]:
    """Champion and previous of the ledger that no longer exist, by alias."""
    expected = Aliases.of_last(entries).items()
    return {
        alias: number for alias, number in expected if number is not None and not models.exists(client, name, number)
    }


def _former(client: Any, entries: list[LedgerEntry], champion: int | None) -> int | None:
    """The last champion before this one that still exists."""
    former, passed = _before(entries, champion), {champion}
    while former is not None and former not in passed:
        if models.exists(client, entries[-1].model, former):
            return former
        passed.add(former)
        former = _before(entries, former)
    return None


def _before(entries: list[LedgerEntry], champion: int | None) -> int | None:
    """The champion before `champion` was promoted."""
    promoted = [entry for entry in entries if entry.action == PROMOTE and entry.champion == champion]
    return promoted[-1].previous if promoted else None
