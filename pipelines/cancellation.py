"""Cancellation of a local run: its tasks are stopped, its lease is released, its MLflow run is closed.

`cancel` does this in the process of the run. SIGKILL leaves that process no time, so a second process, started by
`cancel_after_process_end`, waits for its end and then calls `cancel`.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping

import psutil

from mcti.params import Settings, from_json
from mcti.registry import pipeline_run, refusals
from mcti.steps.retraining import finish

_COMPLETED = "completed\n"


def cancel(settings: Settings, pipeline: str, runner: str, run: str) -> None:
    """Stop the tasks of a local run; release the lease and close the MLflow run, as the exit task does on a cluster.

    pipeline    training | retraining | inference | pretraining
    runner      subprocess | docker
    """
    _kill_tasks(runner, run)
    if pipeline == "retraining" and settings.cluster.remote is not None:
        finish(settings.register_.name, settings.cluster.remote, run)
    pipeline_run.close("KILLED", "cancelled")
    refusals.clear()
    _kill_tasks(runner, run)  # tasks that another thread of kfp.local has retried in the meantime


@contextlib.contextmanager
def cancel_after_process_end(
    settings: Settings, environment: Mapping[str, str], pipeline: str, runner: str, run: str
) -> Iterator[None]:
    """Inside, a second process cancels the run when this process ends without leaving the context.

    environment     variables that identify the run; the second process sets them before it calls `cancel`
    """
    arguments = [settings.model_dump_json(by_alias=True), dict(environment), pipeline, runner, run]
    # -P: a folder `mcti` in the working directory must not be imported. A new session: Ctrl-C must not reach it.
    command = [sys.executable, "-P", "-m", "mcti.pipelines.cancellation"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True
    ) as observer:
        observer.stdin.write(json.dumps(arguments) + "\n")  # type: ignore[union-attr]
        observer.stdin.flush()  # type: ignore[union-attr]
        try:
            yield
        finally:
            observer.communicate(_COMPLETED)


def main() -> None:
    """Read the arguments of `cancel` from the first line of stdin; call it when stdin ends without a second line."""
    first = sys.stdin.readline()
    if not first or sys.stdin.readline():
        return
    text, environment, pipeline, runner, run = json.loads(first)
    os.environ.update(environment)
    cancel(from_json(Settings, text, "the settings of the run"), pipeline, runner, run)


def _kill_tasks(runner: str, run: str) -> None:
    """Kill every process, and every container, whose environment holds the id of this run."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # it has ended in the meantime, or belongs to another user
            if process.environ().get("MCTI_RUN") == run:
                process.kill()
    if runner == "docker":
        from mcti.pipelines import containers

        containers.kill(run)


if __name__ == "__main__":
    main()
