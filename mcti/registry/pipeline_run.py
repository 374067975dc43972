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

from mcti import redaction
from mcti.errors import MctiError, NotEnoughEvidence, OperationalError, Rejected
from mcti.registry import lineage, refusals, tracking
from mcti.registry.lineage import Origin
from mcti.registry.resumption import LEASE, LEASE_HOURS, LeaseTaken, end_again

P = ParamSpec("P")
R = TypeVar("R")
RESULT, REASON = "mcti.result", "mcti.reason"
"""Tags of the run of MLflow that stands for the pipeline run: how it ended (as its status), and why."""


class TrackingUnavailable(UserWarning):
    """MLflow stayed away, and the work went on without a note there."""


def required_run_id() -> str:
    """The id of the pipeline run.

    Raises
        OperationalError: this is no task of one, so nothing could be told apart by it.
    """
    found = lineage.pipeline_run()
    if not found:
        hint = "run it as a task: mcti pipeline submit, or run-local"
        raise OperationalError("no pipeline run is named", "MCTI_RUN", hint)
    return found


def origin(data: str = "") -> Origin:
    """Where this task's results come from; `data`: MD5 of the folder of sources."""
    return Origin(run=lineage.pipeline_run(), pipeline=os.environ.get("MCTI_PIPELINE", ""), data=data)


def tracked(step: Callable[P, R]) -> Callable[P, R]:
    """A step that is a run of MLflow below that of its pipeline run: how it ended, and its headline as metrics.

    Its errors in settings and data are computed once in a run (refusals.kept).
    """

    @functools.wraps(step)
    def wrapped(*arguments: P.args, **named: P.kwargs) -> R:
        name = step.__name__
        note = _quietly(lambda: _open(name), name) if tracking_enabled() else None
        try:
            result = step(*arguments, **named)
        except BaseException as error:
            # A "no" of the gate is a result.
            state = "FINISHED" if isinstance(error, Rejected | NotEnoughEvidence) else "FAILED"
            reason = redaction.text(f"{name}: {error}") if state == "FAILED" else ""
            if note is not None:
                _quietly(lambda: _close(note, state, {}, reason), name)
            raise
        if note is not None:
            headline = getattr(result, "headline", dict)
            _quietly(lambda: _close(note, "FINISHED", headline()), name)
        return result

    return refusals.cache_refusals(wrapped)


def tag_data_version(md5: str) -> None:
    """Tag the run of MLflow with the version of the sources, as soon as a task knows it."""
    if tracking_enabled() and md5:
        _quietly(lambda: _tag({lineage.SOURCE: md5}), "the version of the sources")


def tag_lease(address: str, hours: float) -> None:
    """Tag the run of MLflow with its lease: a step that starts again after the run's end takes it again."""
    if tracking_enabled():
        _quietly(lambda: _tag({LEASE: address, LEASE_HOURS: str(hours)}), "the lease")


def close(state: str, reason: str, *, required: bool = False) -> None:
    """End the run of MLflow as the pipeline ended.

    state       FINISHED | FAILED | KILLED;  reason  one line, "" for none
    required    an error of MLflow is raised: no other marker says how the run ended
    """
    if tracking_enabled() and required:
        _end(state, reason)
    elif tracking_enabled():
        _quietly(lambda: _end(state, reason), "the end of the run")


def tags() -> dict[str, str]:
    """The tags of the run of MLflow that stands for this task's pipeline run.

    Raises
        OperationalError: MLflow does not answer.
    """
    with tracking.service() as client:
        return dict(client.get_run(tracking.parent(client)).data.tags)


def tracking_enabled() -> bool:
    """Whether this is a task of a pipeline run, and MLflow is named."""
    return bool(lineage.pipeline_run()) and tracking.server_configured()


def _quietly(do: Callable[[], Any], what: str) -> Any:
    try:
        return do()
    except LeaseTaken:
        raise
    except MctiError as error:
        warnings.warn(f"{what} is not noted in MLflow: {error}", TrackingUnavailable, stacklevel=3)
        return None


def _open(step: str) -> str:
    with tracking.service() as client:
        joined = tracking.joined_run(client)
        if joined:  # Kubeflow has opened a run for this task
            for name, value in {**tracking.origin_tags(), "mcti.step": step}.items():
                client.set_tag(joined, name, value)
            return joined
        above = tracking.resumed_parent(client)
        number = client.get_run(above).info.experiment_id
        tags = {**tracking.below(above), "mcti.step": step, **lineage.code()}
        return str(client.create_run(number, run_name=step, tags=tags).info.run_id)


def _close(note: str, state: str, numbers: Mapping[str, float], reason: str = "") -> None:
    with tracking.service() as client:
        for name, value in numbers.items():
            client.log_metric(note, name, value)
        if reason:
            client.set_tag(note, "mcti.error", reason[:5000])
        if os.environ.get("MLFLOW_RUN_ID"):  # a run of Kubeflow's is ended by Kubeflow
            return
        client.set_terminated(note, state)
        if reason:
            end_again(client, tracking.parent(client), reason)


def _tag(tags: Mapping[str, str]) -> None:
    with tracking.service() as client:
        run = tracking.joined_run(client) or tracking.parent(client)
        for name, value in tags.items():
            client.set_tag(run, name, value)


def _end(state: str, reason: str) -> None:
    with tracking.service() as client:
        run = tracking.parent(client)
        told = {RESULT: state, REASON: reason[:5000], "mcti.error": reason[:5000] if state != "FINISHED" else ""}
        known = client.get_run(run).data.tags
        for name, value in told.items():
            if value or known.get(name):  # no empty tag, unless it hides what an earlier attempt left
                client.set_tag(run, name, value)
        if os.environ.get("MLFLOW_RUN_ID"):
            return
        for left in tracking.left_running(client, run):
            client.set_terminated(left, "KILLED")
        client.set_terminated(run, state)
