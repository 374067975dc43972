"""Claim: the real study needs less than 1 / 2.5 of the processor time that it needed in an earlier commit.

Run    python -m benchmarks.study_speed REV [--cohort hnsc] [--rounds 2] [--models NAME…]
Reads  FOLDER (default ../shared/data/tcga), as benchmarks/tcga_study.py
REV is checked out as a git worktree, the peer. One fold by site with seed 0 is fitted by every model without transfer,
as peer, current, peer, current, in new processes; `mcti` also with a later seed, which has no negative controls. Prints
the CPU seconds of each model, the processor time of the whole study of a fold (each model times its seeds and schemes),
and the ratio peer / current with the ratio of each round. Exits with 1 where the claim fails: docs/performance.md.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.tcga_study import DATA, ROOT

CHILD = """
import json, sys, time, torch
from threadpoolctl import threadpool_limits
from benchmarks import tcga_study as study
folder, name, *chosen = sys.argv[1:]
sys.argv = ["tcga_study", "--data", folder, "--cohorts", name]
args = study._arguments()
args.models = [m for m in args.models if "transfer" not in m and (not chosen or m in chosen)]
torch.set_num_threads(1)
cohort = study._cohort(args, name)
planned = [unit for unit in study.units([cohort], args) if unit.fold == 0]
split = next(part for part in cohort.folds["site"] if part.fold == 0)
together = study.jobs(planned) if hasattr(study, "jobs") else planned
first = lambda job: job[0] if isinstance(job, tuple) else job
result = {}
with threadpool_limits(1):
    study.predict(cohort, split, together[0])  # imports
    for job in together:
        unit = first(job)
        model = "mcti, later seeds" if unit.model == "mcti" and unit.seed else unit.model
        if model not in result:
            started = time.process_time()
            study.predict(cohort, split, job)
            result[model] = [time.process_time() - started, 0]
        elif (unit.seed, unit.scheme) == (0, "site"):
            raise SystemExit(f"{model} is fitted twice")
        result[model][1] += 1
print(json.dumps(result))
"""
"""Prints {model, the first of its training run: [CPU seconds of one fit, number of fits of a fold]}."""


def measure(checkout: Path, data: Path, cohort: str, models: list[str]) -> dict[str, list[float]]:
    """The figures of CHILD for the code of a checkout."""
    environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(data), cohort, *models],
        cwd=checkout, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"the study of {checkout} failed:\n{done.stderr[-2000:]}")
    figures: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return figures


def total(figures: dict[str, list[float]]) -> float:
    """CPU seconds of all fits of a fold."""
    return sum(seconds * count for seconds, count in figures.values())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rev", help="commit of the peer")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the cohorts")
    parser.add_argument("--cohort", default="hnsc")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--models", nargs="+", default=[], metavar="NAME", help="default: all")
    options = parser.parse_args()
    if not options.data.is_dir():
        print(f"the cohorts are not at {options.data}: nothing to measure")
        return 0
    with tempfile.TemporaryDirectory(prefix="mcti-study-") as scratch:
        peer = Path(scratch, "peer")
        subprocess.run(["git", "-C", ROOT, "worktree", "add", "--detach", "--quiet", peer, options.rev], check=True)
        try:
            rounds = [
                tuple(measure(side, options.data, options.cohort, options.models) for side in (peer, ROOT))
                for _ in range(options.rounds)
            ]
        finally:
            subprocess.run(["git", "-C", ROOT, "worktree", "remove", "--force", peer], check=True)
    return report(rounds)


def report(rounds: list[tuple[dict[str, list[float]], ...]]) -> int:
    """Print the figures; 0 where the ratio of the sums reaches the claim, otherwise 1."""
    for model in dict.fromkeys(model for pair in rounds for side in pair for model in side):
        cells = [f"{side[model][0]:6.2f} x{side[model][1]:<3}" if model in side else " " * 11 for side in rounds[0]]
        print(f"{model:22} peer {cells[0]} current {cells[1]}", flush=True)
    old, new = (sum(total(pair[side]) for pair in rounds) for side in (0, 1))
    ratios = " ".join(f"{total(before) / total(after):.2f}" for before, after in rounds)
    print(
        f"whole study of a fold: {old / len(rounds):.0f} and {new / len(rounds):.0f} CPU s, {old / new:.2f}x ({ratios})"
    )
    return 0 if old / new >= 2.5 else 1


if __name__ == "__main__":
    sys.exit(main())
