"""Claim: no fault of clients, network or clocks makes promotions lose or repeat an entry, or an alias go back.

Each history runs promoters, an operator who rolls back and repairs, and readers as processes on a real SeaweedFS and a
real MLflow server. They are killed, suspended, partitioned by a TCP proxy, lose replies, have clocks that differ by up
to 400 s, and the servers are suspended. A history is correct if the final ledger has no fault, no entry is lost or
double, and the aliases `champion` and `previous` are linearizable for reads that the ledger confirms. The command ends
with 1 if a history is not correct. It also counts the histories in which the aliases as MLflow has them, without the
confirmation, are not linearizable: MLflow has no conditional write.
Run: python -m benchmarks.registry_histories --histories 200 [--planted "unconditional put"]
"""

import argparse
import dataclasses
import json
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

from mcti.local import stack
from mcti.registry.trust import keys
from tests.histories.clients import PLANTED
from tests.histories.evaluation import Verdict
from tests.histories.run import History, Proxy, run
from tests.registry.trust.factories import new_key, private_pem

_CLIENTS = History(seed=0, folder=Path()).clients


def histories(options: argparse.Namespace, root: Path) -> list[Verdict]:
    """Run all histories on a stack of their own; one line of JSON each."""
    started = stack.up(root)
    (root / "key.pem").write_bytes(private_pem(new_key()))  # type: ignore[no-untyped-call]
    os.environ[keys.KEY] = str(root / "key.pem")
    servers = tuple(server.pid for server in started.servers)
    verdicts = []
    with Proxy(_CLIENTS) as proxy:
        for seed in range(options.seed, options.seed + options.histories):
            folder = root / "histories" / str(seed)
            history = History(seed, folder, servers, seconds=options.seconds, planted=options.planted)
            verdicts.append(run(history, proxy))
            print(json.dumps({"seed": seed, **dataclasses.asdict(verdicts[-1])}), flush=True)
    return verdicts


def main() -> int:
    """Print a line per history and the totals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--histories", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the first history; the next ones count up")
    parser.add_argument("--seconds", type=float, default=8.0, help="time with faults, per history")
    parser.add_argument("--planted", choices=sorted(PLANTED), default="", help="a fault of the product to find")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mcti-histories-") as scratch:
        try:
            verdicts = histories(options, Path(scratch))
        finally:
            stack.down(Path(scratch))
    operations, faults = Counter[str](), Counter[str]()
    for verdict in verdicts:
        operations.update(verdict.operations)
        faults.update(verdict.faults)
    wrong = [verdict for verdict in verdicts if verdict.violations]
    print(f"{len(verdicts)} histories, {sum(operations.values())} operations, "
          f"{sum(verdict.entries for verdict in verdicts)} entries: {len(wrong)} not correct")  # fmt: skip
    print(f"operations: {dict(sorted(operations.items()))}")
    print(f"faults: {dict(sorted(faults.items()))}; client clocks differ in each history")
    stale = sum(verdict.stale_aliases for verdict in verdicts)
    print(f"histories in which the aliases without confirmation are not linearizable: {stale}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
