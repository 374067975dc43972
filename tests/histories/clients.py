"""The clients of a history: each runs in a process of its own, calls the product, and records every operation.

A record has the phase `invoke`, written before the operation, or `return`. Times are those of the monotonic clock,
which all processes of a machine share. The actor (`who`) of an entry identifies the operation that wrote it.
"""

import contextlib
import functools
import json
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

from mcti import s3
from mcti.errors import DataError, MctiError, OperationalError
from mcti.params import TrustParams
from mcti.registry import ledger, models, promotion, tracking
from mcti.registry.gates import GateEvaluation
from mcti.registry.promotion import Aliases
from mcti.registry.rest import ApiError
from mcti.registry.trust import keys, signing

VERSIONS = (1, 2, 3, 4)
_EVALUATION = GateEvaluation(outcome="promote", reason="history", difference=None, gates=())
_SECONDS = 3  # limit of one request


@dataclass
class Client:
    """Settings of one client.

    role    promoter | operator (rolls back and repairs) | reader
    skew    seconds by which its clock is ahead
    planted  name of a fault in `PLANTED`, or ""
    """

    number: int
    role: str
    model: str
    log: Path
    environment: dict[str, str]
    seconds: float
    seed: int
    skew: float = 0.0
    planted: str = ""
    count: int = field(default=0)


def run(client: Client) -> None:
    """Call the product until the time is over; the process is killed, suspended and partitioned meanwhile."""
    os.environ.update(client.environment)
    _skew_clock(client.skew)
    PLANTED[client.planted]()
    draw = random.Random(client.seed)
    service = tracking.client_of(os.environ["MLFLOW_TRACKING_URI"])
    sign = signing.entry_signing(keys.from_environment(), TrustParams())
    actions = {"promoter": _promote, "operator": _operate, "reader": _read}
    end = time.monotonic() + client.seconds
    with client.log.open("a") as stream:
        recorder = Recorder(client, stream)
        while time.monotonic() < end:
            actions[client.role](recorder, service, sign, draw)


class Recorder:
    """Writes the records of a client."""

    def __init__(self, client: Client, stream: Any) -> None:
        self.model, self._client, self._stream = client.model, client, stream

    def operation(self, operation_type: str, action: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Run an operation between its two records. outcome: ok | failed (no effect) | unknown."""
        self._client.count += 1
        name = f"{operation_type}-{self._client.number}-{self._client.count}"
        os.environ["MCTI_ACTOR"] = name
        self._write({"phase": "invoke", "kind": operation_type, "name": name})
        try:
            result = {"outcome": "ok", **action()}
        except (s3.Conflict, DataError) as error:
            result = {"outcome": "failed", "reason": str(error)}
        except (OperationalError, MctiError, ApiError) as error:
            result = {"outcome": "unknown", "reason": str(error)}
        self._write({"phase": "return", "kind": operation_type, "name": name, **result})
        return result

    def _write(self, record: dict[str, Any]) -> None:
        self._stream.write(json.dumps({"time": time.monotonic(), "client": self._client.number, **record}) + "\n")
        self._stream.flush()


def _promote(recorder: Recorder, service: Any, sign: Any, draw: random.Random) -> None:
    def action() -> dict[str, Any]:
        entries = promotion.verified_entries(service, recorder.model)
        before = Aliases.of_last(entries)
        version = draw.choice([number for number in VERSIONS if number != before.champion])
        chosen = models.version_by_number(service, recorder.model, version)
        entry = promotion.decide(service, entries, chosen, _EVALUATION, {}, sign=sign)
        return {"before": dict(before.items()), "entry": entry.number, "hash": entry.hash, "after": _after(entry)}

    _repair_if_interrupted(recorder.operation("promote", action), recorder, service, sign, draw)


def _operate(recorder: Recorder, service: Any, sign: Any, draw: random.Random) -> None:
    def action() -> dict[str, Any]:
        entry = promotion.rollback(service, recorder.model, sign=sign)
        before = {"champion": entry.evidence["withdrawn"]}
        return {"before": before, "entry": entry.number, "hash": entry.hash, "after": _after(entry)}

    _repair_if_interrupted(recorder.operation("rollback", action), recorder, service, sign, draw)
    time.sleep(draw.uniform(0, 0.5))


def _repair_if_interrupted(
    result: dict[str, Any], recorder: Recorder, service: Any, sign: Any, draw: random.Random
) -> None:
    if result["outcome"] == "ok" or draw.random() < 0.5:
        return
    recorder.operation("repair", lambda: {"faults": promotion.repair(service, recorder.model, sign=sign)})


def _read(recorder: Recorder, service: Any, sign: Any, draw: random.Random) -> None:
    alias = draw.choice([models.CHAMPION, models.PREVIOUS])
    source = draw.choice(["confirmed", "ledger", "alias"])
    recorder.operation(source, lambda: {"alias": alias, "value": READS[source](service, recorder.model, alias)})
    time.sleep(draw.uniform(0.05, 0.3))


def _by_alias(service: Any, model: str, alias: str) -> int | None:
    """As MLflow has it."""
    version = models.version_by_alias(service, model, alias)
    return None if version is None else int(version.version)


def _confirmed(service: Any, model: str, alias: str) -> int | None:
    """As every consumer of a model reads it: from MLflow, and the last entry must agree."""
    version = models.confirmed(service, model, alias)
    return None if version is None else int(version.version)


def _by_ledger(service: Any, model: str, alias: str) -> int | None:
    return dict(Aliases.of_last(ledger.read(model)).items())[alias]


READS: dict[str, Callable[[Any, str, str], int | None]] = {
    "confirmed": _confirmed, "ledger": _by_ledger, "alias": _by_alias}  # fmt: skip


def _after(entry: Any) -> dict[str, int | None]:
    return {models.CHAMPION: entry.champion, models.PREVIOUS: entry.previous}


@contextlib.contextmanager
def limited_waiting() -> Iterator[dict[str, str]]:
    """Seconds in place of minutes, so that a history of some seconds contains retries and their end.

    Gives the environment variables that a client needs. S3 clients created inside keep the limits; the process, which
    runs other tests afterwards, does not.
    """
    limits = {
        "AWS_MAX_ATTEMPTS": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": str(_SECONDS), "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
    }  # fmt: skip
    seconds = {"_CONNECT_SECONDS": _SECONDS, "_SILENT_SECONDS": _SECONDS}
    with mock.patch.multiple(s3, **seconds), mock.patch.dict(os.environ, limits):
        yield limits


def _skew_clock(seconds: float) -> None:
    class Skewed(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(seconds=seconds)

    ledger.datetime = Skewed  # type: ignore[misc]


def _unconditional_put() -> None:
    """Entries are written without the condition that their number is free."""
    put = s3.put
    s3.put = lambda location, body, **conditions: put(location, body)


def _lost_reply_is_a_conflict() -> None:
    """An entry whose put was repeated after a lost reply is taken for that of another writer."""
    parse = ledger.parse

    def other(body: bytes, address: str) -> Any:
        return parse(body, address).model_copy(update={"id": "another writer"})

    append = ledger.append

    def without_check(*arguments: Any, **fields: Any) -> Any:
        ledger.parse = other
        try:
            return append(*arguments, **fields)
        finally:
            ledger.parse = parse

    ledger.append = without_check


def _cached_reads() -> None:
    """A client keeps the first value of each read."""
    for source, read in list(READS.items()):
        READS[source] = functools.cache(read)


PLANTED: dict[str, Callable[[], None]] = {
    "": lambda: None,
    "unconditional put": _unconditional_put,
    "lost reply is a conflict": _lost_reply_is_a_conflict,
    "cached reads": _cached_reads,
}
"""Faults of the product that the check must find, by name."""
