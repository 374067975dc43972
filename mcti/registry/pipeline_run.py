"""The pipeline run that this process is a task of: who it is, its run in MLflow, and one for each step below that.

The tasks are told by their environment (pipelines/resources.py): MCTI_RUN, the id of the run in Kubeflow Pipelines;
MCTI_PIPELINE, name and SHA-256 of the definition; MCTI_IMAGE; MCTI_EXPERIMENT of MLflow. Elsewhere nothing is noted.
MLflow only watches here: where it stays away, a step says so and works on.
"""

import functools
import os
import warnings
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from mcti.errors import EnvironmentTrouble, MctiError, NotEnoughEvidence, Rejected
from mcti.registry import lineage, refusals, tracking
from mcti.registry.lineage import Origin

P = ParamSpec("P")
R = TypeVar("R")
_STATES = {"SUCCEEDED": "FINISHED", "CANCELED": "KILLED"}


class NotNoted(UserWarning):
    """MLflow stayed away, and the work went on without a note there."""


def needed() -> str:
    """The id of the pipeline run.

    Raises
        EnvironmentTrouble: this is no task of one, so nothing could be told apart by it.
    """
    found = lineage.pipeline_run()
    if not found:
        mend = "run it as a task: mcti pipeline submit, or run-local"
        raise EnvironmentTrouble("no pipeline run is named", "MCTI_RUN", mend)
    return found


def origin(data: str = "") -> Origin:
    """Where this task's results come from; `data`: MD5 of the folder of sources."""
    return Origin(run=lineage.pipeline_run(), pipeline=os.environ.get("MCTI_PIPELINE", ""), data=data)


def noted(step: Callable[P, R]) -> Callable[P, R]:
    """A step that is a run of MLflow below that of its pipeline run: how it ended, and its headline as metrics.

    Its errors in settings and data are computed once in a run (refusals.kept).
    """

    @functools.wraps(step)
    def wrapped(*arguments: P.args, **named: P.kwargs) -> R:
        name = step.__name__
        note = _quietly(lambda: _open(name), name) if _watched() else None
        try:
            result = step(*arguments, **named)
        except BaseException as error:
            # A "no" of the gate is a result.
            state = "FINISHED" if isinstance(error, Rejected | NotEnoughEvidence) else "FAILED"
            if note is not None:
                _quietly(lambda: _close(note, state, {}), name)
            raise
        if note is not None:
            headline = getattr(result, "headline", dict)
            _quietly(lambda: _close(note, "FINISHED", headline()), name)
        return result

    return refusals.kept(wrapped)


def clear_refusals() -> None:
    """Delete the refusals of this run, so that a repeated run is computed; for the exit task."""
    refusals.clear()


def tell_data(md5: str) -> None:
    """Tag the run of MLflow with the version of the sources, as soon as a task knows it."""
    if _watched() and md5:
        _quietly(lambda: _tag({lineage.SOURCE: md5}), "the version of the sources")


def close(state: str, error: str) -> None:
    """End the run of MLflow as the pipeline ended: `state` in Kubeflow's words, `error` empty where there was none."""
    if _watched():
        _quietly(lambda: _end(state, error), "the end of the run")


def _watched() -> bool:
    return bool(lineage.pipeline_run() and os.environ.get("MLFLOW_TRACKING_URI"))


def _quietly(do: Callable[[], Any], what: str) -> Any:
    try:
        return do()
    except MctiError as error:
        warnings.warn(f"{what} is not noted in MLflow: {error}", NotNoted, stacklevel=3)
        return None


def _open(step: str) -> str:
    with tracking.service() as client:
        joined = os.environ.get("MLFLOW_RUN_ID")
        if joined:  # Kubeflow has opened a run for this task
            client.set_tag(joined, "mcti.step", step)
            return joined
        above = tracking.parent(client)
        number = client.get_run(above).info.experiment_id
        tags = {**tracking.below(above), "mcti.step": step, **lineage.code()}
        return str(client.create_run(number, run_name=step, tags=tags).info.run_id)


def _close(note: str, state: str, numbers: Mapping[str, float]) -> None:
    with tracking.service() as client:
        for name, value in numbers.items():
            client.log_metric(note, name, value)
        if "MLFLOW_RUN_ID" not in os.environ:  # a run of Kubeflow's is ended by Kubeflow
            client.set_terminated(note, state)


def _tag(tags: Mapping[str, str]) -> None:
    with tracking.service() as client:
        run = os.environ.get("MLFLOW_RUN_ID") or tracking.parent(client)
        for name, value in tags.items():
            client.set_tag(run, name, value)


def _end(state: str, error: str) -> None:
    if "MLFLOW_RUN_ID" in os.environ:
        return
    with tracking.service() as client:
        run = tracking.parent(client)
        if error:
            client.set_tag(run, "mcti.error", error[:5000])
        for left in tracking.left_running(client, run):
            client.set_terminated(left, "KILLED")
        client.set_terminated(run, _STATES.get(state, "FAILED"))
