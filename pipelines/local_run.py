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

from kfp import components, local

from mcti import storage
from mcti.errors import OperationalError, UsageError
from mcti.params import Settings
from mcti.params.result_settings import VARIABLE, neutral_text
from mcti.pipelines import cancellation, resources
from mcti.pipelines.submit import compile_to
from mcti.registry import refusals
from mcti.registry.trust import policy


def run_local(
    settings: Settings, data: str | None, runner: str, out: Path, pipeline: str = "training"
) -> dict[str, str]:
    """Compile a pipeline and execute the compiled file with kfp.local; results and the file are written below `out`.

    Each run has a separate folder, named after the pipeline and the time. The error of a failed task is printed before
    the last line of the output. SIGINT and SIGTERM cancel the run: its tasks are killed and no further task starts.
    After SIGKILL a second process cancels it.

    Raises
        OperationalError: a task failed after its retries, or no Docker engine is reachable.
        UsageError: unknown runner.
    """
    if runner not in ("subprocess", "docker"):
        raise UsageError(f"unknown runner {runner!r}", "--runner", "write subprocess or docker")
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    package = out / "pipeline.yaml"
    compiled = compile_to(settings, data, package, pipeline, local=True)
    run = str(uuid.uuid4())  # as the label of the pods on a cluster
    identity = resources.identity(settings.cluster, compiled["version"]) | {"MCTI_RUN": run}
    identity |= {VARIABLE: neutral_text(settings), **policy.task_environment(settings.trust)}
    folders_before = set(out.iterdir())
    with contextlib.ExitStack() as stack:
        identity |= {refusals.FOLDER: stack.enter_context(_folder_of_refusals(out))}
        _start_runner(stack, settings, runner, out, identity)
        try:
            stack.enter_context(cancellation.cancel_after_process_end(settings, identity, pipeline, runner, run))
            stack.enter_context(_environment(identity))
            # The output of the tasks goes to stderr: stdout may be one JSON document.
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
            stack.enter_context(interpreter())
            stack.enter_context(_cancellable(lambda: cancellation.cancel(settings, pipeline, runner, run)))
            components.load_component_from_file(str(package))()
        except RuntimeError as error:
            what = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).rstrip(".")  # kfp.local writes names in colours
            raise OperationalError(what, str(out), "see the message of the task above") from error
    folder = next(path for path in sorted(set(out.iterdir()) - folders_before) if path.is_dir())
    return {**compiled, "run": run, "folder": str(folder), **_reason(folder)}


@contextlib.contextmanager
def _folder_of_refusals(out: Path) -> Iterator[str]:
    """A folder below `out`, which containers can write to, until the end of the run."""
    with tempfile.TemporaryDirectory(prefix=".refused-", dir=out, ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o777)
        yield folder


def _start_runner(
    stack: contextlib.ExitStack, settings: Settings, runner: str, out: Path, identity: Mapping[str, str]
) -> None:
    """Initialise kfp.local; the package docker is imported for its own runner only."""
    if runner == "subprocess":
        local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(out))
        return
    from mcti.pipelines import containers

    local.init(containers.runner(out, settings.cluster, identity), pipeline_root=str(out))
    stack.enter_context(containers.exit_codes_read())


def _reason(folder: Path) -> dict[str, str]:
    """The result of the gate for the new version; of a retraining without a new version, why it ended before."""
    reports = ("promote/verdict", "monitor/monitoring/result.json", "detect-new-data/report")
    for report in (path for name in reports for path in folder.glob(f"**/{name}")):
        return {"reason": storage.read_json(report).get("reason", "no rule of monitor fired: the champion is kept")}
    return {}


@contextlib.contextmanager
def _environment(identity: Mapping[str, str]) -> Iterator[None]:
    """Inside, this process and so its tasks have the variables of `resources.identity`."""
    before = dict(os.environ)
    os.environ.update(identity)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def interpreter() -> Iterator[None]:
    """Inside, `sys.executable` has no blanks: kfp.local 2.17 writes it into a shell command without quotes."""
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

    The process ends immediately: the threads of kfp.local would wait for the other tasks and retry each of them.
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
