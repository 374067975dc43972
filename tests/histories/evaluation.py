"""The check of a history: no lost and no double entry, and each alias is a linearizable register.

The registers are `champion` and `previous`. A promotion compares and sets: its client read the state before it. A
rollback of the champion compares, too; of `previous` it only writes. An update whose client was killed or had no answer
took effect if and only if the ledger has its entry, at any time after its invocation.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mcti.registry.ledger import LedgerEntry
from tests.histories.linearizability import Operation, is_linearizable

UPDATES, READS = ("promote", "rollback"), ("confirmed", "ledger")
ALIASES = ("champion", "previous")


@dataclass(frozen=True)
class Verdict:
    """The result of a history. violations: empty if it is correct, otherwise one sentence each.

    operations  number of operations by kind and outcome;  faults: number of injected ones
    stale_aliases  whether the aliases as MLflow has them are not linearizable; it has no conditional write
    """

    violations: tuple[str, ...]
    operations: dict[str, int]
    faults: dict[str, int]
    entries: int
    stale_aliases: bool


def evaluate(
    records: Iterable[Mapping[str, Any]],
    entries: Sequence[LedgerEntry],
    faults: Sequence[str],
    injected: dict[str, int],
) -> Verdict:
    """Check the records of all clients against the final ledger. faults: of the ledger after a repair."""
    calls = _calls(records)
    violations = [f"the final ledger has a fault: {fault}" for fault in faults]
    violations += _entry_violations(calls, entries)
    for alias in ALIASES:
        if not is_linearizable(_operations(calls, entries, alias, READS), None):
            violations.append(f"alias {alias} is not linearizable")
    stale = not all(is_linearizable(_operations(calls, entries, alias, ("alias",)), None) for alias in ALIASES)
    counts = Counter(f"{call['kind']}: {call.get('outcome', 'killed')}" for call in calls.values())
    return Verdict(tuple(violations), dict(sorted(counts.items())), injected, len(entries), stale)


def _calls(records: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Each operation by its name, with `invoked`, and with `returned` and its result where it returned."""
    calls: dict[str, dict[str, Any]] = {}
    for record in records:
        call = calls.setdefault(record["name"], {"name": record["name"], "kind": record["kind"]})
        if record["phase"] == "invoke":
            call["invoked"] = record["time"]
        else:
            call |= {key: record[key] for key in record if key not in ("phase", "time")} | {"returned": record["time"]}
    return calls


def _entry_violations(calls: Mapping[str, Mapping[str, Any]], entries: Sequence[LedgerEntry]) -> list[str]:
    """Lost, double and unexplained entries, and those of operations that reported that nothing was written."""
    written = Counter(entry.who for entry in entries)
    by_name = {entry.who: entry for entry in entries}
    violations = [f"operation {name} wrote {count} entries" for name, count in written.items() if count > 1]
    violations += [
        f"entry {entry.number} is of no operation: {entry.who}" for entry in entries if entry.who not in calls
    ]
    for name, call in calls.items():
        entry, outcome = by_name.get(name), call.get("outcome")
        if call["kind"] not in UPDATES:
            violations += [f"{name} wrote entry {entry.number}"] if entry else []
        elif outcome == "ok" and (entry is None or (entry.number, entry.hash) != (call["entry"], call["hash"])):
            violations.append(f"{name} reported entry {call['entry']}, which the ledger has lost")
        elif outcome == "failed" and entry is not None:
            violations.append(f"{name} reported that nothing was written, but wrote entry {entry.number}")
    return violations


def _operations(
    calls: Mapping[str, Mapping[str, Any]], entries: Sequence[LedgerEntry], alias: str, reads: Sequence[str]
) -> list[Operation]:
    by_name = {entry.who: entry for entry in entries}
    operations = []
    for name, call in calls.items():
        if call["kind"] in UPDATES:
            operations += _update(call, by_name.get(name), alias)
        elif call["kind"] in reads and call.get("outcome") == "ok" and call["alias"] == alias:
            operations.append(Operation("read", call["invoked"], call["returned"], call["value"], label=name))
    return operations


def _update(call: Mapping[str, Any], entry: LedgerEntry | None, alias: str) -> list[Operation]:
    """The update of an alias; none where there is no entry, and the client did not report one."""
    if call.get("outcome") == "ok":
        before, after = call["before"], call["after"]
        action = "cas" if alias in before else "write"
        times = (call["invoked"], call["returned"])
        return [Operation(action, *times, after[alias], before.get(alias), call["name"])]  # type: ignore[arg-type]
    if entry is None:
        return []
    return [Operation("write", call["invoked"], math.inf, getattr(entry, alias), label=call["name"])]
