"""The one way aliases move: a line of the ledger first, then what it says; and how to find and mend what was cut.

What the last line says is what the aliases must be. A promotion that dies before its line has not happened; one that
dies after it is finished by `mend`.
"""

from collections.abc import Mapping
from typing import Any

from mcti.errors import DataError
from mcti.registry import ledger, models
from mcti.registry.gates import PROMOTE, GateEvaluation
from mcti.registry.ledger import LedgerEntry

ROLLBACK, REPAIR = "rollback", "repair"
_HEAD = "mcti.ledger_head"


def decide(
    client: Any,
    lines: list[LedgerEntry],
    name: str,
    version: int,
    judgement: GateEvaluation,
    evidence: Mapping[str, Any],
) -> LedgerEntry:
    """Write the decision down after `lines`, as `checked` gave them, then move the aliases when it is to promote.

    Raises
        s3.Conflict: another decision was written since `lines` were read; nothing was moved.
        DataError: an alias was moved by hand, or a version deleted, while this one was judged; nothing was moved.
    """
    found = findings(client, name, lines)
    if found and ledger.length(name) == len(lines):  # else a rival's line is what they speak of: the put will tell
        _refuse(name, found)
    champion, previous = _said(lines)
    after = (version, champion) if judgement.outcome == PROMOTE else (champion, previous)
    told = {**judgement.model_dump(mode="json"), **evidence}
    return _write(client, lines, judgement.outcome, name, version, after, told)


def rollback(client: Any, name: str) -> LedgerEntry:
    """Give the alias `champion` back to the version before it; one that was deleted by hand is passed over.

    Raises
        DataError: there is no version before.
    """
    lines = ledger.read(name)
    _refuse(name, [fault for fault in findings(client, name, lines) if not fault.startswith(_GONE)])
    champion = _said(lines)[0]
    former = _former(client, lines, champion)
    if former is None:
        raise DataError("there is no previous champion", f"model {name}", "promote a version first")
    after = (former, _former(client, lines, former))
    told = {"withdrawn": champion, "reason": f"version {champion} was withdrawn"}
    return _write(client, lines, ROLLBACK, name, former, after, told)


def checked(client: Any, name: str) -> list[LedgerEntry]:
    """The ledger's lines, when the chain is whole and the aliases are what it says.

    Raises
        DataError: a line was edited, lost or reordered, or an alias moved without the ledger.
    """
    lines = ledger.read(name)
    _refuse(name, findings(client, name, lines))
    return lines


def findings(client: Any, name: str, lines: list[LedgerEntry]) -> list[str]:
    """All faults of the chain, every version deleted by hand, every alias that is not what the last line says."""
    found = ledger.faults(lines, _head(client, name))
    gone = _gone(client, name, lines)
    found += [f"{_GONE} {number}, {alias} by the ledger, was deleted by hand" for alias, number in gone.items()]
    for alias, is_now, wanted in zip(
        (models.CHAMPION, models.PREVIOUS), _aliases(client, name), _said(lines), strict=True
    ):
        if is_now != wanted and alias not in gone:
            found.append(
                f"alias {alias} is {_told(is_now)}, the ledger says {_told(wanted)}: moved by hand, or a promotion was "
                "cut or is under way"
            )
    return found


def hint(client: Any, name: str) -> list[str]:
    """Set the aliases to what the last line says; what was wrong with them.

    A champion that was deleted by hand cannot come back: the one before it takes its place, and a line says so.

    Raises
        DataError: the chain itself is broken; that no command can mend.
    """
    lines = ledger.read(name)
    broken = ledger.faults(lines, _head(client, name))
    if broken:
        raise DataError(broken[0], f"ledger of {name}", "restore the ledger's objects from a backup of the bucket")
    found = findings(client, name, lines)
    gone = _gone(client, name, lines)
    if gone:
        champion = _said(lines)[0]
        champion = _former(client, lines, champion) if models.CHAMPION in gone else champion
        after = (champion, _former(client, lines, champion))
        number = gone.get(models.CHAMPION, gone.get(models.PREVIOUS, 0))
        _write(client, lines, REPAIR, name, number, after, {"deleted": gone, "reason": "; ".join(found)})
    elif lines:
        _apply(client, lines[-1])
    return found


_GONE = "version"
"""How a finding of a deleted version begins."""


def _write(
    client: Any,
    lines: list[LedgerEntry],
    action: str,
    name: str,
    version: int,
    after: tuple[int | None, int | None],
    evidence: Mapping[str, Any],
) -> LedgerEntry:
    champion, previous = after
    line = ledger.append(
        lines,
        action=action,
        model=name,
        version=version,
        champion=champion,
        previous=previous,
        evidence=dict(evidence),
    )
    _apply(client, line)
    # Where this process slept between line and aliases, a later line was mended in the meantime: it has the last word.
    if ledger.length(name) > line.number:
        _apply(client, ledger.read(name)[-1])
    return line


def _apply(client: Any, line: LedgerEntry) -> None:
    for alias, number in ((models.PREVIOUS, line.previous), (models.CHAMPION, line.champion)):
        if number is not None:
            client.set_registered_model_alias(line.model, alias, str(number))
        elif models.version_by_alias(client, line.model, alias) is not None:
            client.delete_registered_model_alias(line.model, alias)
    client.set_registered_model_tag(line.model, _HEAD, f"{line.number}:{line.hash}")


def _refuse(name: str, found: list[str]) -> None:
    if found:
        hint = "see `mcti ledger verify`; `mcti promote --repair` sets the aliases to what the ledger says"
        raise DataError(found[0], f"ledger of {name}", hint)


def _told(version: int | None) -> str:
    return "not set" if version is None else f"version {version}"


def _said(lines: list[LedgerEntry]) -> tuple[int | None, int | None]:
    """Champion and previous by the last line."""
    return (lines[-1].champion, lines[-1].previous) if lines else (None, None)


def _aliases(client: Any, name: str) -> tuple[int | None, int | None]:
    found = (models.version_by_alias(client, name, alias) for alias in (models.CHAMPION, models.PREVIOUS))
    champion, previous = (None if version is None else int(version.version) for version in found)
    return champion, previous


def _gone(client: Any, name: str, lines: list[LedgerEntry]) -> dict[str, int]:
    """Versions that the ledger holds to be champion or previous and that are not there any more, by alias."""
    said = zip((models.CHAMPION, models.PREVIOUS), _said(lines), strict=True)
    return {alias: number for alias, number in said if number is not None and not models.exists(client, name, number)}


def _former(client: Any, lines: list[LedgerEntry], champion: int | None) -> int | None:
    """The last champion before this one that is still there: whoever was deleted by hand cannot come back."""
    former, passed = _before(lines, champion), {champion}
    while former is not None and former not in passed:
        if models.exists(client, lines[-1].model, former):
            return former
        passed.add(former)
        former = _before(lines, former)
    return None


def _before(lines: list[LedgerEntry], champion: int | None) -> int | None:
    """Who was champion before `champion` became it."""
    promoted = [line for line in lines if line.action == PROMOTE and line.champion == champion]
    return promoted[-1].previous if promoted else None


def _head(client: Any, name: str) -> str | None:
    tags = client.get_registered_model(name).tags
    return str(tags[_HEAD]) if _HEAD in tags else None
