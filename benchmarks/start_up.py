"""Claim: commands of the registry that read no predictions need at most a third of the processor time of commit
078bf45, imports of the steps at most 0.6 of it.
Run: python -m benchmarks.start_up [REV] [--rounds 3]; it starts its own servers and compares with the code of REV.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from mcti.local import settings, stack
from mcti.params import PromoteParams, RegisterParams
from mcti.steps.promote.step import promote
from mcti.steps.register import register
from tests.registry.factories import Run

ROOT = Path(__file__).parents[1]
NAME = "started"
COMMANDS = {
    "mcti ledger show": f"ledger show --name {NAME}",
    "mcti lineage": f"lineage models:/{NAME}@champion",
    "mcti promote --dry-run, the champion itself": f"promote --name {NAME} --version 2 --dry-run",
    "mcti promote --dry-run, all gates": f"promote --name {NAME} --version 3 --dry-run",
    "mcti promote --repair": f"promote --name {NAME} --repair",
}
CODE = {
    **{name: f"from mcti.cli import main; main({words.split()!r})" for name, words in COMMANDS.items()},
    "import of the step train": "import mcti.steps.train",
    "import of the step ingest": "import mcti.steps.ingest",
    "import of the step register": "import mcti.steps.register",
    "exit task of a pipeline run": "from pathlib import Path; from mcti.registry import run_outcome as r; "
    "r.end('run-1', '', 'SUCCEEDED', Path('outcome.json'))",
}
IN_TASK = ("exit task of a pipeline run",)
TASKS = ("ingest", "train", "evaluate", "register", "promote")
"""Pipeline tasks whose start is measured: the executor of Kubeflow Pipelines and the imports of the component, until
the step is called. Modules that the step imports when it runs are not included."""
TASK_CODE = """
import ast, importlib.util, pathlib, mcti, kfp.dsl.executor_main
package = importlib.util.find_spec("mcti.components") or importlib.util.find_spec("components")
file = pathlib.Path(package.origin).with_name("{name}.py")
function = next(node for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef))
imports = [node for node in function.body if isinstance(node, ast.Import | ast.ImportFrom)]
exec(compile(ast.Module(imports, []), str(file), "exec"))
"""
CODE |= {f"start of the task {name}": TASK_CODE.format(name=name) for name in TASKS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rev", nargs="?", default="078bf45")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="start up ") as folder:
        earlier, project = Path(folder, "earlier"), Path(folder, "project")
        extract(options.rev, earlier)
        project.mkdir()
        stack.up(project)
        try:
            settings.activate(project, force=True)
            register_models(project)
            for name, code in CODE.items():
                compare(name, code, {"earlier": earlier, "now": ROOT}, project, options.rounds)
        finally:
            stack.down(project)


def extract(rev: str, out: Path) -> None:
    """The files of commit `rev`."""
    out.mkdir()
    archive = subprocess.run(["git", "archive", rev], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "x", "-C", str(out)], input=archive, check=True)


def register_models(project: Path) -> None:
    """Two promoted versions and a challenger, so that each command has the usual work."""
    gates = PromoteParams(min_events=2, bootstrap=100, margin=-1, alpha=0.4, ibs_margin=1, calibration_margin=1,
                          group_margin=1, max_latency_ratio=100, benchmark_patches=20)  # fmt: skip
    for seed in range(3):
        run = Run(project / f"run {seed}", seed=seed, patients=40, regimes=True)
        params = RegisterParams(name=NAME, experiment=NAME)
        register(run.models, run.evaluation, run.validation, params, project / "registration.json")
        if seed < 2:
            promote(NAME, gates)


def compare(name: str, code: str, versions: dict[str, Path], project: Path, rounds: int) -> None:
    """Print processor seconds of both versions, measured alternately, and the median of the ratios."""
    environment = {"MCTI_RUN": "run-1"} if name in IN_TASK else {}
    times: dict[str, list[float]] = {key: [] for key in versions}
    for _ in range(rounds):
        for key, packages in versions.items():
            times[key].append(processor_seconds(code, packages, project, environment))
    ratio = statistics.median(now / before for before, now in zip(times["earlier"], times["now"], strict=True))
    earlier, now = (statistics.median(times[key]) for key in ("earlier", "now"))
    print(f"{name}: {earlier:.2f} s before, {now:.2f} s now, {ratio:.2f}x", flush=True)


def processor_seconds(code: str, packages: Path, project: Path, environment: dict[str, str]) -> float:
    """User and system time of a new process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    variables = {**os.environ, "PYTHONPATH": str(packages), "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=project, env=variables, capture_output=True, text=True
    )
    if done.returncode not in (0, 10, 11):  # the verdicts of promote are results
        sys.exit(f"{code} ended with {done.returncode}: {done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
