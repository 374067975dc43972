"""The compiled pipeline on this machine, without a cluster: tasks as processes, or as containers of the image."""

import contextlib
import os
import re
import shlex
import signal
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psutil
from kfp import components, local

from mcti import storage
from mcti.errors import OperationalError, UsageError
from mcti.params import Settings
from mcti.registry import pipeline_run, refusals
from mcti.steps.retraining import finish
from pipelines import containers, guard, resources
from pipelines.submit import compile_to


def run_local(settings: Settings, data: str | None, runner: str, out: Path, kind: str = "training") -> dict[str, str]:
    """Compile the pipeline, then execute exactly that file with kfp.local; results and the file lie below `out`.

    Each run gets a folder of its own, named after the pipeline and the time; the error of a failed task stands in the
    output above the end. SIGINT and SIGTERM cancel it: its tasks are killed, nothing more is started. After SIGKILL the
    guard does so.

    Raises
        OperationalError: a task failed after its retries, or no Docker engine answers.
        UsageError: no such runner.
    """
    if runner not in ("subprocess", "docker"):
        raise UsageError(f"no runner {runner!r}", "--runner", "write subprocess or docker")
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    package = out / "pipeline.yaml"
    about = compile_to(settings, data, package, kind)
    run = str(uuid.uuid4())  # as the label of the pods on a cluster
    engine = (
        containers.runner(out, settings.cluster, run) if runner == "docker" else local.SubprocessRunner(use_venv=False)
    )
    before, identity = set(out.iterdir()), resources.identity(settings.cluster, about["version"]) | {"MCTI_RUN": run}
    local.init(engine, pipeline_root=str(out))
    try:
        # What the tasks print goes to stderr: our stdout may be one JSON document.
        with (
            guard.over(settings, identity, kind, runner, run),
            _told(identity),
            contextlib.redirect_stdout(sys.stderr),
            interpreter(),
            containers.told_how_they_end(),
            _cancellable(lambda: cancel(settings, kind, runner, run)),
        ):
            components.load_component_from_file(str(package))()
    except RuntimeError as error:
        what = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).rstrip(".")  # kfp.local writes names in colours
        raise OperationalError(what, str(out), "see the message of the task above") from error
    folder = next(path for path in sorted(set(out.iterdir()) - before) if path.is_dir())
    return {**about, "run": run, "folder": str(folder), **_reason(folder)}


def _reason(folder: Path) -> dict[str, str]:
    """What the gate said of the new version; else, of a retraining, why it ended before there was one."""
    reports = ("promote/verdict", "monitor/monitoring/result.json", "detect/report")
    for found in (path for name in reports for path in folder.glob(f"**/{name}")):
        return {"reason": storage.read_json(found).get("reason", "no rule of monitor fired: the champion stays")}
    return {}


@contextlib.contextmanager
def _told(identity: Mapping[str, str]) -> Iterator[None]:
    """This process, and so its tasks, are told who they are (resources.identity)."""
    before = dict(os.environ)
    os.environ.update(identity)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def interpreter() -> Iterator[None]:
    """kfp.local 2.17 puts `sys.executable` into a shell's line without quotes: inside, it has a path without blanks."""
    before = sys.executable
    if not any(letter.isspace() for letter in before):
        yield
        return
    with tempfile.TemporaryDirectory(prefix="mcti-python-") as folder:
        script = Path(folder, "python")
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(before)} "$@"\n', encoding="utf-8")
        script.chmod(0o700)
        sys.executable = str(script)
        try:
            yield
        finally:
            sys.executable = before


@contextlib.contextmanager
def _cancellable(cancel: Callable[[], None]) -> Iterator[None]:
    """SIGINT and SIGTERM call `cancel` and end this process with exit code 130.

    At once: kfp.local's threads would wait for the tasks beside the one that was interrupted, and try each again.
    """

    def stop(*_: object) -> None:
        cancel()
        print("cancelled: its tasks are stopped", file=sys.stderr, flush=True)  # noqa: T201
        os._exit(130)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def cancel(settings: Settings, kind: str, runner: str, run: str) -> None:
    """As on a cluster, where the pods of a cancelled run go and its exit task gives the lease back."""
    _kill(runner, run)
    if kind == "retraining" and settings.cluster.remote is not None:
        finish(settings.register_.name, settings.cluster.remote, run)
    pipeline_run.close("KILLED", "cancelled")
    refusals.clear()
    _kill(runner, run)  # what another thread of kfp.local has tried again meanwhile


def _kill(runner: str, run: str) -> None:
    """Stop every task of this run, at once; whoever was born with its id is one."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # it has ended by itself, or is not ours
            if process.environ().get("MCTI_RUN") == run:
                process.kill()
    if runner == "docker":
        containers.kill(run)
