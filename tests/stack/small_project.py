"""A clone of this project with a small demo cohort: the same stages, servers and files as `make demo`, in a minute."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.polling import files

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
EVENTS, CENSORED = 24, 36

SETTINGS: dict[str, dict[str, Any]] = {
    "validate": {"min_events": 10},
    "split": {"folds": 3, "inner_folds": 2},
    "search": {"epochs": 1},
    # Each further worker is a process that imports torch; the bits do not depend on their number.
    "train": {"epochs": 2, "batch_patients": 16, "workers": 1},
    "evaluate": {"bootstrap": 100},
    "promote": {"min_events": 5, "bootstrap": 200},
    "predict": {"workers": 1},
}


def clone(folder: Path, origin: Path = ROOT, programs: Path = BIN) -> Path:
    """A fresh clone of the last commit, with this environment in its `.venv`, or with these programs of it."""
    subprocess.run(["git", "clone", "-q", str(origin), str(folder)], check=True)
    (folder / ".venv").symlink_to(programs.parent)
    return folder


def shrink_settings(project: Path, changed: dict[str, dict[str, Any]] = SETTINGS) -> None:
    """Fewer folds, epochs and resamples."""
    path = project / "params.yaml"
    tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    for section, changes in changed.items():
        tree[section] = (tree.get(section) or {}) | changes
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")


def make_raw_data(project: Path, events: int = EVENTS, censored: int = CENSORED) -> None:
    """The tables of the first patients of the demo cohort, and their painted slides; existing slides are kept."""
    from mcti.demo.public_cohort import demo_patients, demo_tables

    clinical, expression, slides = demo_tables()
    kept = clinical.groupby("event", group_keys=False).apply(
        lambda rows: rows.head(events if rows["event"].iloc[0] else censored)
    )
    names = set(kept["patient_id"])
    raw = project / "data" / "raw"
    (raw / "slides").mkdir(parents=True, exist_ok=True)
    for name, table in {"clinical": clinical, "expression": expression, "slides": slides}.items():
        table[table["patient_id"].isin(names)].to_csv(raw / f"{name}.csv", index=False, lineterminator="\n")
    chosen = [patient for patient in demo_patients() if patient.patient_id in names]
    first = len(list((raw / "slides").iterdir()))  # no two slides of a project have the same seed
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(_paint, [(raw / p.path, i, p.grade or 2, p.er_positive) for i, p in enumerate(chosen, first)]))


def _paint(job: tuple[Path, int, int, bool]) -> None:
    from mcti.demo.painting import paint

    path, seed, grade, er_positive = job
    if path.exists():
        return
    paint(path, seed=seed, grade=grade, er_positive=er_positive)


def dvc(project: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """The real dvc, as a user of the clone would call it."""
    command = [str(project / ".venv/bin/dvc"), *arguments]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, check=check, env=environment())


def mcti(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The console script of the clone."""
    return subprocess.run(
        [str(project / ".venv/bin/mcti"), *arguments],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )


def run_with_one_killed_task(
    project: Path, out: Path, kill: Callable[[str], bool], *arguments: str
) -> subprocess.CompletedProcess[str]:
    """`mcti pipeline run-local` in the clone; the first training task that has saved a checkpoint is killed.

    kill    sends SIGKILL to the task whose command names this folder; returns whether there was one
    Raises  AssertionError when none was killed. KFP's log line of the retry is unreliable: concurrent tasks switch its
            logger on and off, so that the line is sometimes lost.
    """
    out.mkdir(parents=True, exist_ok=True)
    words = ["pipeline", "run-local", "--out", str(out), *arguments]
    words += ["--set", "train.checkpoint_seconds=0", "--set", "cluster.steps.train.backoff_seconds=1"]
    with (out / "log").open("w+") as log:
        process = subprocess.Popen(
            [str(project / ".venv/bin/mcti"), *words],
            cwd=project, stdout=subprocess.PIPE, stderr=log, text=True, env=environment(),
        )  # fmt: skip
        while process.poll() is None:
            saved = files(out, "*/*/train/model/.work/*/step_*")
            if saved and kill(str(min(saved).parents[2])):
                break
            time.sleep(0.02)
        else:
            raise AssertionError(f"no training task was killed: {(out / 'log').read_text(encoding='utf-8')[-5000:]}")
        stdout, _ = process.communicate()
        log.seek(0)
        return subprocess.CompletedProcess(words, process.returncode, stdout, log.read())


def kill_process(folder: str) -> bool:
    """SIGKILL the task, which is a process, and the processes that it started."""
    processes = [
        process for process in psutil.process_iter(["cmdline"]) if folder in " ".join(process.info["cmdline"] or ())
    ]
    for process in [child for task in processes for child in (task, *task.children(recursive=True))]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    return bool(processes)


def environment(programs: Path = BIN) -> dict[str, str]:
    """The programs first, and no addresses of another stack."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "MLFLOW_"))}
    return kept | {"DVC_NO_ANALYTICS": "1", "PATH": f"{programs}:{os.environ['PATH']}"}


def kill_after(project: Path, seconds: float) -> bool:
    """Start `dvc repro` and SIGKILL its whole process group; True when it was still running."""
    process = subprocess.Popen(
        [str(project / ".venv/bin/dvc"), "repro"],
        cwd=project, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    time.sleep(seconds)
    running = process.poll() is None
    if running:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return running
