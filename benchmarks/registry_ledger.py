"""Claim: a ledger of 10,000 signed entries is verified in at most 5 CPU seconds.

Verified are the bytes of every entry, its hash, the chain, the head, every anchor and every signature. The entries are
those of promotions, each with eight gates and their numbers (6 kB). Reading the objects from S3 is not part of the
claim; with --s3, it is measured on the servers that the environment names (`. .stack/env`).
Run: python -m benchmarks.registry_ledger --entries 10000 [--s3]
"""

import argparse
import os
import resource
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from mcti import s3
from mcti.registry import ledger, ledger_anchors
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
            who="board", action="promote", model=MODEL, version=number, champion=number, previous=number - 1 or None,
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


def read_from_s3(bodies: Sequence[bytes]) -> tuple[float, float]:
    """CPU seconds of this process and seconds to read the objects, which are written before and removed after."""
    os.environ["MCTI_LEDGER"] = f"s3://mcti-data/benchmark-{os.getpid()}"
    addresses = [f"{ledger.folder(MODEL)}{number:08d}.json" for number in range(1, len(bodies) + 1)]
    for address, body in zip(addresses, bodies, strict=True):
        s3.put(address, body)
    cpu, wall = time.process_time(), time.monotonic()
    for address in s3.addresses(ledger.folder(MODEL)):
        s3.get(address)
    seconds = time.process_time() - cpu, time.monotonic() - wall
    for address in addresses:
        s3.remove(address)
    return seconds


def main() -> int:
    """Print the figures and end with 1 if the claim does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=10_000)
    parser.add_argument("--s3", action="store_true", help="also measure reading the objects")
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
    if options.s3:
        cpu, wall = read_from_s3(bodies)
        print(f"read from S3: {cpu:.1f} CPU s, {wall:.1f} s")
    print(f"memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")
    return int(seconds > CLAIM_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
