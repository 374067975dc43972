"""Claim: the commands that people wait for are faster than in an earlier commit, on the same data.

Run    python -m benchmarks.against REV [train evaluate search predict explain] [--rounds 2] [--patients 561]
Reads  ../shared/data/tcga (--data): the cohort BRCA as benchmarks/tcga_study.py reads it
REV is checked out as a git worktree, the peer. Each of the two makes its own project (cohort, folds, models) from the
same tables and features, since neither needs to read the files of the other. Each command runs as peer, current, peer,
current. CPU is user and system time of the process and its workers (on a busy machine wall time depends on the other
programs). Prints the seconds of each run, the ratio peer / current of the sums with the least and largest ratio of a
round, and whether the outputs have the same bytes. Bytecode of both is compiled before the first measured run.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks import stage_data
from mcti.storage import tree_md5

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data" / "tcga"
PARAMS = ("--params", "../raw/params.yaml")
SHARED = ("--cohort", "cohort", "--features", "../raw/features", *PARAMS)
MEASUREMENTS: dict[str, tuple[str, ...]] = {
    "train": ("train", *SHARED, "--folds", "folds.csv", "--set", "train.workers=1"),
    "evaluate": ("evaluate", *SHARED, "--folds", "folds.csv", "--models", "models"),
    "search": ("search", *SHARED, "--folds", "folds.csv", "--set", "train.workers=1", "--set", "search.trials=8"),
    "predict": ("predict", "--model", "models", "--new-patients", "../new", "--set", "predict.workers=1"),
    "explain": ("explain", "--model", "models", "--new-patients", "../few"),
}
"""Name -> the command without its `--out`."""


@dataclass(frozen=True)
class Cost:
    """Seconds of one run: of the processor (user and system, workers included) and of the clock."""

    cpu: float
    wall: float


def run(checkout: Path, folder: Path, arguments: tuple[str, ...]) -> Cost:
    """Run `mcti` of a checkout in `folder`; its log goes to `folder`/log."""
    code = "import sys; from mcti.cli import main; sys.argv[0] = 'mcti'; main()"
    environment = os.environ | {"PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": "", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPYCACHEPREFIX"] = str(folder / "bytecode" / hashlib.md5(str(checkout).encode()).hexdigest())
    started = time.perf_counter()
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments], cwd=folder, env=environment, stdout=log, stderr=log
        )
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"mcti {' '.join(arguments)} failed:\n{(folder / 'log').read_text()[-2000:]}")
    return Cost(used.ru_utime + used.ru_stime, time.perf_counter() - started)


def prepare(sides: Mapping[str, Path], folder: Path, data: Path, patients: int, names: list[str]) -> None:
    """The inputs of the measured commands: the same tables, and in folder/SIDE the project of each checkout."""
    stage_data.write(data, folder / "raw", patients=patients)
    for name, count in (("new", 200), ("few", 12)):
        stage_data.write_new_patients(folder / "raw", folder / name, count)
    for side, checkout in sides.items():
        project = folder / side
        project.mkdir()
        run(checkout, project, ("ingest", *PARAMS, "--out", "cohort"))
        run(checkout, project, ("split", *PARAMS, "--cohort", "cohort", "--out", "folds.csv"))
        if {"evaluate", "predict", "explain"} & set(names):
            run(checkout, project, (*MEASUREMENTS["train"], "--out", "models"))


def compare(sides: Mapping[str, Path], folder: Path, name: str, rounds: int) -> None:
    """Measure one command and print its line."""
    costs: dict[str, list[Cost]] = {side: [] for side in sides}
    digests: dict[str, str] = {}
    for side, checkout in sides.items():  # compiles the bytecode of the step
        run(checkout, folder / side, (*MEASUREMENTS[name], "--out", f"out/{name}-warm", "--dry-run"))
    for number in range(rounds):
        for side, checkout in sides.items():
            out = f"out/{name}/{number}/result" + (".csv" if name == "predict" else "")
            written = folder / side / out
            written.parent.mkdir(parents=True)
            costs[side].append(run(checkout, folder / side, (*MEASUREMENTS[name], "--out", out)))
            digests[side] = hashlib.md5(written.read_bytes()).hexdigest() if written.is_file() else tree_md5(written)
    for unit in ("cpu", "wall"):
        old, new = ([getattr(cost, unit) for cost in costs[side]] for side in ("peer", "current"))
        ratios = [a / b for a, b in zip(old, new, strict=True)]
        listed = " ".join(f"{a:.1f}/{b:.1f}" for a, b in zip(old, new, strict=True))
        total, spread = sum(old) / sum(new), f"{min(ratios):.2f}-{max(ratios):.2f}"
        print(f"{name:9} {unit:4} {total:5.2f}x ({spread})  seconds of peer/current: {listed}", flush=True)
    print(f"{name:9} the outputs have the same bytes: {digests['peer'] == digests['current']}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rev", help="commit of the peer")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(MEASUREMENTS)}; default: all")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the cohorts")
    parser.add_argument("--patients", type=int, default=stage_data.PATIENTS)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    names = options.names or list(MEASUREMENTS)
    if unknown := [name for name in names if name not in MEASUREMENTS]:
        parser.error(f"no measurement {unknown[0]!r}: choose of {', '.join(MEASUREMENTS)}")
    if not options.data.is_dir():
        print(f"the cohorts are not at {options.data}: nothing to measure")
        return 0
    with tempfile.TemporaryDirectory(prefix="mcti-against-") as scratch:
        peer, folder = Path(scratch, "peer"), Path(scratch, "work")
        folder.mkdir()
        subprocess.run(["git", "-C", ROOT, "worktree", "add", "--detach", "--quiet", peer, options.rev], check=True)
        sides = {"peer": peer, "current": ROOT}
        try:
            prepare(sides, folder, options.data, options.patients, names)
            for name in names:
                compare(sides, folder, name, options.rounds)
        finally:
            subprocess.run(["git", "-C", ROOT, "worktree", "remove", "--force", peer], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
