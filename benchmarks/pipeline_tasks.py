"""Claim: the last tasks of the training pipeline need at most half the time of the same tasks of commit b427cb5.

Run    python -m benchmarks.pipeline_tasks [REV] [--rounds 3] [--tasks register promote …]
Each of the two commits is cloned, with its own locked packages, servers and one `mcti pipeline run-local` of the demo
cohort with 60 patients, which records the process of each task. Then the recorded processes of the two run in turn:
the program that a pod runs, with a new model and a new remote in every round. Printed per task: medians of processor
time (user and system, with the processes of the task) and wall time, and wall time from the start of the process to
the first line that mcti logs (its end where it logs none) and to the call of the step. The start of a pod or container
is not included.
"""

import argparse
import ast
import itertools
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TASKS = ("evaluate", "register", "promote", "publish", "visualize", "outcome")
EARLIER_NAMES = {"visualize": "show"}
COHORT = """
from pathlib import Path
from mcti.local import stack
from tests.stack import small_project
project = Path.cwd()
settings = small_project.SETTINGS | {"cluster": {"remote": "s3://mcti-data/dvc", "extract_shards": 2}}
small_project.shrink_settings(project, settings)
small_project.make_raw_data(project)
stack.up(project)
small_project.dvc(project, "add", "data/raw", "--quiet")
small_project.dvc(project, "push", "--quiet")
"""
RUN = "import sys; sys.executable = {interpreter!r}; sys.argv[0] = 'mcti'; from mcti.cli import main; main()"
RECORDER = """
import json, os, pathlib, sys
log, *command = sys.argv[1:]
if "--function_to_execute" in command:
    values = dict(zip(command, command[1:]))
    source = pathlib.Path(values["--component_module_path"]).read_text()
    task = {"command": command, "source": source, "environment": dict(os.environ)}
    parameters = json.loads(values["--executor_input"])["inputs"].get("parameterValues", {})
    if parameters.get("name", "features") == "features":  # of three tasks `publish` the one with the most files
        pathlib.Path(log, values["--function_to_execute"] + ".json").write_text(json.dumps(task))
os.execv(command[0], command)
"""
CALLED = "the step is called"
BYTECODE = {"PYTHONDONTWRITEBYTECODE": ""}
"""Modules are compiled once, as in the image."""
LOGGED = re.compile(r"\d{4}-\d\d-\d\dT\S+ [A-Z]+ ")
"""A line of mcti's log."""


@dataclass(frozen=True)
class Cost:
    """One process: seconds of the processor, and seconds from its start to its end, first line and call of the step."""

    cpu: float
    wall: float
    first_line: float
    called: float


class Side:
    """One commit: its clone, and the recorded tasks of one run of its pipeline."""

    def __init__(self, rev: str, folder: Path) -> None:
        self.clone, self.recorded = folder / "clone", folder / "recorded"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(self.clone)], check=True)
        subprocess.run(["git", "checkout", "--quiet", rev], cwd=self.clone, check=True)
        self.run("make", "install")

    @property
    def python(self) -> str:
        """The interpreter of the clone."""
        return str(self.clone / ".venv/bin/python")

    def run(self, *command: str) -> None:
        """Run a command in the clone; end with its output when it fails."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MLFLOW_"))}
        path = f"{self.clone}/.venv/bin:{os.environ['PATH']}"
        environment = kept | BYTECODE | {"PATH": path, "PYTHONPATH": str(self.clone), "DVC_NO_ANALYTICS": "1"}
        done = subprocess.run(command, cwd=self.clone, env=environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(command)} failed in {self.clone}:\n{(done.stdout + done.stderr)[-3000:]}")

    def record(self, raw: Path | None) -> None:
        """Run the pipeline once and record its tasks; raw: tables and slides of the other commit."""
        if raw is not None:
            shutil.copytree(raw, self.clone / "data/raw", dirs_exist_ok=True)
        self.run(self.python, "-c", COHORT)
        self.recorded.mkdir()
        recorder, script = self.recorded / "recorder.py", self.recorded / "python"
        recorder.write_text(RECORDER, encoding="utf-8")
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -SEs {recorder} {self.recorded} {self.python} "$@"\n')
        script.chmod(0o700)
        out = str(self.recorded / "runs")
        self.run(self.python, "-c", RUN.format(interpreter=str(script)), "pipeline", "run-local", "--out", out)

    def stop(self) -> None:
        """Stop the servers."""
        if (self.clone / ".stack").exists():
            self.run(str(self.clone / ".venv/bin/mcti"), "stack", "down")

    def measure(self, task: str, number: int) -> Cost:
        """Run a recorded task again; each number has its own model, version and remote."""
        path = self.recorded / f"{task}.json"
        if not path.exists():
            path = self.recorded / f"{EARLIER_NAMES[task]}.json"
        recorded = json.loads(path.read_text(encoding="utf-8"))
        command = list(recorded["command"])
        module = self.recorded / "measured.py"
        module.write_text(announced(recorded["source"]), encoding="utf-8")
        command[command.index("--component_module_path") + 1] = str(module)
        position = command.index("--executor_input") + 1
        command[position] = renewed(task, command[position], number)
        started = time.monotonic()
        process = subprocess.Popen(
            command, cwd=self.clone, env=recorded["environment"] | BYTECODE, text=True, bufsize=1,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        lines = [(line, time.monotonic() - started) for line in process.stdout or ()]
        _, status, used = os.wait4(process.pid, 0)
        process.returncode, wall = os.waitstatus_to_exitcode(status), time.monotonic() - started
        if process.returncode:
            sys.exit(f"{task} failed in {self.clone}:\n{''.join(line for line, _ in lines)[-3000:]}")
        first = next((at for line, at in lines if LOGGED.match(line)), wall)
        called = next(at for line, at in lines if line.strip() == CALLED)
        return Cost(used.ru_utime + used.ru_stime, wall, first, called)


def announced(source: str) -> str:
    """The component with a line of output after the last import of its function."""
    function = next(node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef))
    imports = [node for node in function.body if isinstance(node, ast.Import | ast.ImportFrom)]
    lines = source.splitlines()
    lines.insert(imports[-1].end_lineno or 0, f"{' ' * imports[-1].col_offset}print({CALLED!r}, flush=True)")
    return "\n".join(lines) + "\n"


def renewed(task: str, executor_input: str, number: int) -> str:
    """The input of a repetition: another name of the model, another remote."""
    tree = json.loads(executor_input)
    values = tree["inputs"].get("parameterValues", {})
    if task == "register":
        params = json.loads(values["params"])
        values["params"] = json.dumps(params | {"name": f"{params['name']}-{number}"})
    if task == "publish":
        values["remote"] += f"-{number}"
    return json.dumps(tree)


def compare(peer: Side, now: Side, tasks: Sequence[str], rounds: int) -> None:
    """Run the tasks of both sides in turn and print a line for each task; `promote` promotes what `register` wrote."""
    costs: dict[tuple[str, Side], list[Cost]] = defaultdict(list)
    for number, task, side in itertools.product(range(rounds), tasks, (peer, now)):
        costs[task, side].append(side.measure(task, number))
    print("seconds of the peer, of HEAD, ratio: processor | wall | to the first line | to the call of the step")
    for task in tasks:
        print(report(task, costs[task, peer], costs[task, now]))


def report(task: str, peer: list[Cost], now: list[Cost]) -> str:
    """The line of a task: medians of both sides and their ratio."""
    cells = []
    for unit in ("cpu", "wall", "first_line", "called"):
        before, after = (statistics.median(getattr(cost, unit) for cost in costs) for costs in (peer, now))
        cells.append(f"{before:8.2f}{after:7.2f}{after / before:6.2f}x")
    return f"{task:<10}" + " |".join(cells)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rev", nargs="?", default="b427cb5")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mcti-tasks-") as folder:
        sides: list[Side] = []
        try:
            for rev in ("HEAD", options.rev):
                Path(folder, rev).mkdir()
                sides.append(Side(rev, Path(folder, rev)))
                sides[-1].record(sides[0].clone / "data/raw" if len(sides) > 1 else None)
            compare(sides[1], sides[0], options.tasks, options.rounds)
        finally:
            for side in sides:
                side.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
