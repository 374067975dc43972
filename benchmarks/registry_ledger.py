"""Claim: a ledger of 10,000 signed entries is verified in at most 5 CPU seconds, also by the whole command with packs.

Verified are the bytes of every entry, its hash, the chain, the head, every anchor and every signature. The entries are
those of promotions, each with eight gates and their numbers (6 kB). With --s3, the whole command `mcti ledger verify`
is measured, from the start of Python to its end, on the servers that the environment names (`. .stack/env`): entries
and anchors in S3, packed as `mcti promote` does it, head and aliases in MLflow; and again without packs.
Run: python -m benchmarks.registry_ledger --entries 10000 [--s3]
"""

import argparse
import contextlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mcti import s3
from mcti.registry import ledger, ledger_anchors, ledger_packs, mlflow_client, tracking
from mcti.registry.ledger import LedgerEntry
from mcti.registry.ledger_anchors import Anchor
from mcti.registry.trust import ledger_signatures
from mcti.registry.trust.trust_file import TrustFile
from tests.registry.trust.factories import new_key, sign_entry, trusting

CLAIM_SECONDS = 5.0
MODEL = "ledger-benchmark"
_GATES = ("superiority", "Brier score", "calibration", "subtype a", "site b", "primary baseline", "latency", "memory")


def written(count: int, key: object) -> list[tuple[LedgerEntry, bytes]]:
    """Entries, signed, with the bytes of their objects."""
    rows: list[tuple[LedgerEntry, bytes]] = []
    for number in range(1, count + 1):
        entry = LedgerEntry(
            number=number, id=f"{number:016x}", before=rows[-1][0].hash if rows else "0" * 64,
            time=(datetime(2020, 1, 1, tzinfo=UTC) + timedelta(hours=number)).isoformat(timespec="seconds"),
            who="board", action="promote", model=MODEL, version=1 + number % 2, champion=1 + number % 2,
            previous=None if number == 1 else 2 - number % 2,
            evidence=_evidence(number),
        ).with_hash()  # fmt: skip
        entry = sign_entry(entry, key)  # type: ignore[no-untyped-call]
        rows.append((entry, ledger.to_bytes(entry)))
    return rows


def _evidence(number: int) -> dict[str, object]:
    numbers = {"value": number / 7, "low": number / 11, "high": number / 5, "events": number, "level": 0.0079}
    gates = [{"name": name, "verdict": "pass", "reason": f"{name} of {number}: " + "x" * 120, "numbers": numbers}
             for name in _GATES]  # fmt: skip
    params = {f"setting_{position}": position / 10 for position in range(30)}
    return {"gates": gates, "params": params, "digest": f"{number:064x}", "outcome": "promote", "reason": "x" * 200}


def verify(bodies: Sequence[bytes], head: str, anchors: Sequence[Anchor], trust: TrustFile) -> None:
    """Verify everything; raises AssertionError when it is not accepted."""
    entries = [ledger.parse(body, f"entry {position}") for position, body in enumerate(bodies, start=1)]
    faults = ledger.find_faults(entries, head) + ledger_anchors.find_faults(entries, anchors)
    result = ledger_signatures.summary(entries, [ledger_signatures.check(entry, trust) for entry in entries])
    assert (faults, result.state) == ([], "verified")


def command_seconds(rows: Sequence[tuple[LedgerEntry, bytes]], key: object) -> float:
    """Write the ledger to the servers, print the CPU seconds of the command without and with packs, and remove the
    objects; those with packs.
    """
    base = f"s3://mcti-data/benchmark-{os.getpid()}"
    os.environ.update({"MCTI_LEDGER": base, ledger_anchors.VARIABLE: f"{base}-anchors"})
    folder = ledger.folder(MODEL)
    objects = {f"{folder}{entry.number:08d}.json": body for entry, body in rows}
    anchors = ledger_anchors.folder(MODEL)
    objects |= {f"{anchors}{entry.number:08d}-{entry.hash}.txt": b"anchor" for entry, _ in rows}
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda item: s3.put(*item), objects.items()))
        _register(rows[-1][0])
        trust = Path(scratch, "trust.yaml")
        trust.write_text(trusting(key).model_dump_json())  # type: ignore[no-untyped-call]
        try:
            _measure("without packs", trust)
            ledger_packs.store(folder, len(rows), lambda position: rows[position][1])
            return _measure("with packs", trust)
        finally:
            list(threads.map(s3.remove, [*objects, *s3.addresses(f"{base}/")]))


def _register(last: LedgerEntry) -> None:
    """The model in MLflow with its versions, aliases and head."""
    with tracking.service():
        client = mlflow_client.load().MlflowClient()
        with contextlib.suppress(Exception):
            client.delete_registered_model(MODEL)
        client.create_registered_model(MODEL)
        for _ in range(2):
            client.create_model_version(MODEL, source="s3://mcti-mlflow/none")
        client.set_registered_model_alias(MODEL, "champion", str(last.champion))
        client.set_registered_model_alias(MODEL, "previous", str(last.previous))
        client.set_registered_model_tag(MODEL, ledger.HEAD, f"{last.number}:{last.hash}")


def _measure(name: str, trust: Path) -> float:
    program = str(Path(sys.executable).with_name("mcti"))
    options = ("--name", MODEL, "--set", f"trust.keys={trust}", "--set", "trust.require=signature")
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    output = subprocess.run((program, "ledger", "verify", *options), check=True, capture_output=True, text=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    load = os.getloadavg()[0]
    print(f"mcti ledger verify, {name}: {cpu:.2f} CPU s, {time.monotonic() - started:.1f} s at load {load:.0f}")
    print(output.splitlines()[-1])
    return cpu


def main() -> int:
    """Print the figures and end with 1 if the claim does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=10_000)
    parser.add_argument("--s3", action="store_true", help="also measure the whole command on real servers")
    options = parser.parse_args()
    key = new_key()  # type: ignore[no-untyped-call]
    rows = written(options.entries, key)
    bodies, last = [body for _, body in rows], rows[-1][0]
    anchors = [Anchor(entry.number, entry.hash, "benchmark") for entry, _ in rows]
    before = time.process_time()
    verify(bodies, f"{last.number}:{last.hash}", anchors, trusting(key))  # type: ignore[no-untyped-call]
    seconds = time.process_time() - before
    size = sum(map(len, bodies)) / len(bodies) / 1000
    print(f"{len(bodies)} entries of {size:.1f} kB verified in {seconds:.2f} CPU s; claim: at most {CLAIM_SECONDS}")
    command = command_seconds(rows, key) if options.s3 else 0.0
    print(f"memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")
    return int(max(seconds, command) > CLAIM_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
