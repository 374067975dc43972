"""Claim: a task of the training pipeline needs at most half the time of the same task of commit b427cb5.

Run    python -m benchmarks.pipeline_tasks [REV] [--rounds 1]
Each of the two commits is cloned and installed with its own locked packages. In each clone `mcti pipeline run-local`
executes its compiled pipeline, each task as a new process, on the demo cohort with 60 patients, two shards of slides
and three folds, with S3 and MLflow of its own. The first run of each compiles the bytecode and is not measured; then
the two alternate. Printed are the medians of processor time (user and system, with the processes of the task) and wall
time of each task, from the start of its process to its end. A cluster adds the start of two pods to each task, and an
image the start of a container; neither is measured here.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COHORT = """
import sys
from pathlib import Path
from mcti.local import stack
from tests.stack import small_project
project = Path.cwd()
small_project.shrink_settings(project)
small_project.make_raw_data(project)
stack.up(project)
small_project.dvc(project, "add", "data/raw", "--quiet")
"""
RUN = "import sys; sys.executable = {interpreter!r}; sys.argv[0] = 'mcti'; from mcti.cli import main; main()"
MEASURED = """
import json, os, sys, time
log, *command = sys.argv[1:]
started = time.monotonic()
process = os.fork()
if process == 0:
    os.execv(command[0], command)
_, status, used = os.wait4(process, 0)
words = iter(command)
task = next((next(words) for word in words if word == "--function_to_execute"), "")
with open(log, "a") as file:
    cost = {"task": task, "cpu": used.ru_utime + used.ru_stime, "wall": time.monotonic() - started}
    print(json.dumps(cost), file=file)
sys.exit(os.waitstatus_to_exitcode(status) % 256)
"""
Costs = dict[str, list[tuple[float, float]]]
"""Task -> (processor time, wall time) in seconds of each of its processes."""


def install(rev: str, out: Path) -> None:
    """A clone of commit `rev` with its environment, its small cohort and its running servers."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(out)], check=True)
    subprocess.run(["git", "checkout", "--quiet", rev], cwd=out, check=True)
    quiet("make", "install", folder=out)
    quiet(str(out / ".venv/bin/python"), "-c", COHORT, folder=out)


def quiet(*command: str, folder: Path) -> None:
    """Run a command in a clone; end with its output when it fails."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MLFLOW_"))}
    environment = kept | {"PATH": f"{folder}/.venv/bin:{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed in {folder}:\n{(done.stdout + done.stderr)[-3000:]}")


def run(clone: Path, out: Path) -> Costs:
    """One run of the training pipeline of a clone."""
    out.mkdir(parents=True)
    log, script = out / "costs.jsonl", out / "python"
    (out / "measured.py").write_text(MEASURED, encoding="utf-8")
    words = [sys.executable, "-SEs", out / "measured.py", log, clone / ".venv/bin/python"]
    script.write_text(f'#!/bin/sh\nexec {" ".join(map(str, words))} "$@"\n', encoding="utf-8")
    script.chmod(0o700)
    pipeline = ["pipeline", "run-local", "--out", str(out / "runs"), "--set", "cluster.extract_shards=2"]
    code = RUN.format(interpreter=str(script))
    quiet(str(clone / ".venv/bin/python"), "-c", code, *pipeline, folder=clone)
    costs: Costs = defaultdict(list)
    for line in log.read_text(encoding="utf-8").splitlines():
        cost = json.loads(line)
        if cost["task"]:
            costs[cost["task"]].append((cost["cpu"], cost["wall"]))
    return costs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rev", nargs="?", default="b427cb5")
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mcti-tasks-") as folder:
        clones = {"peer": Path(folder, "peer"), "current": Path(folder, "current")}
        costs: dict[str, Costs] = {side: defaultdict(list) for side in clones}
        try:
            for (side, clone), rev in zip(clones.items(), (options.rev, "HEAD"), strict=True):
                install(rev, clone)
                run(clone, Path(folder, f"{side} 0".replace(" ", "-")))
            for number in range(1, options.rounds + 1):
                for side, clone in clones.items():
                    for task, pairs in run(clone, Path(folder, f"{side}-{number}")).items():
                        costs[side][task] += pairs
        finally:
            for clone in clones.values():
                if (clone / ".venv/bin/mcti").exists():
                    quiet(str(clone / ".venv/bin/mcti"), "stack", "down", folder=clone)
        report(costs["peer"], costs["current"])
    return 0


def report(peer: Costs, current: Costs) -> None:
    """One line per task that both pipelines have, and the tasks of one alone."""
    heads = ("peer, CPU s", "now, CPU s", "ratio", "peer, wall s", "now, wall s", "ratio")
    print(f"{'task':<18}" + "".join(f"{head:>13}" for head in heads))
    for task in [task for task in peer if task in current]:
        (cpu, wall), (new_cpu, new_wall) = (
            [statistics.median(values) for values in zip(*costs[task], strict=True)] for costs in (peer, current)
        )
        numbers = (cpu, new_cpu, new_cpu / cpu, wall, new_wall, new_wall / wall)
        print(f"{task:<18}" + "".join(f"{number:>13.2f}" for number in numbers), flush=True)
    for side, only in (("peer", set(peer) - set(current)), ("current", set(current) - set(peer))):
        if only:
            print(f"only in {side}: {', '.join(sorted(only))}")


if __name__ == "__main__":
    sys.exit(main())
