"""The pipeline run of which this process is a task: its run in MLflow, and one run below that for each step.

The environment identifies the run (pipelines/resources.py): MCTI_RUN, the id of the run in Kubeflow Pipelines;
MCTI_PIPELINE, name and SHA-256 of the definition; MCTI_IMAGE; MCTI_EXPERIMENT of MLflow. Outside a pipeline run nothing
is logged. When MLflow is unavailable, a step issues a warning and continues.
"""

import functools
import os
import warnings
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar

from mcti import redaction
from mcti.errors import MctiError, NotEnoughEvidence, OperationalError, Rejected
from mcti.registry import lineage, refusals, tracking
from mcti.registry.lineage import Origin
from mcti.registry.resumption import LEASE, LEASE_HOURS, LeaseTaken, end_resumed

P = ParamSpec("P")
R = TypeVar("R")
RESULT, REASON = "mcti.result", "mcti.reason"
"""Tags of the MLflow run of the pipeline run: its final state (as the status) and the reason."""
_current_run: ContextVar[str | None] = ContextVar("mcti.registry.pipeline_run", default=None)


class TrackingUnavailable(UserWarning):
    """MLflow was unavailable; the step continued without logging."""


def required_run_id() -> str:
    """The id of the pipeline run.

    Raises OperationalError when this process is not a task of a pipeline run.
    """
    run = lineage.pipeline_run()
    if not run:
        hint = "run this step as a task: mcti pipeline submit, or run-local"
        raise OperationalError("the id of the pipeline run is missing", "MCTI_RUN", hint)
    return run


def origin(data: str = "") -> Origin:
    """The origin of this task's results; `data`: MD5 of the folder of source tables and slides."""
    return Origin(run=lineage.pipeline_run(), pipeline=os.environ.get("MCTI_PIPELINE", ""), data=data)


def tracked(step: Callable[P, R]) -> Callable[P, R]:
    """Log a step as a run of MLflow below that of its pipeline run: its final state, and its headline as metrics.

    Its errors in settings and data are cached for the retries of the task (refusals.cache_refusals).
    """

    @functools.wraps(step)
    def wrapped(*arguments: P.args, **options: P.kwargs) -> R:
        name = step.__name__
        run_id = warn_on_error(lambda: _open(name), name) if tracking_enabled() else None
        token = _current_run.set(run_id)
        try:
            result = step(*arguments, **options)
        except BaseException as error:
            # A rejection by the gates is a result.
            state = "FINISHED" if isinstance(error, Rejected | NotEnoughEvidence) else "FAILED"
            reason = redaction.text(f"{name}: {error}") if state == "FAILED" else ""
            if run_id is not None:
                warn_on_error(lambda: _close(run_id, state, {}, reason), name)
            raise
        finally:
            _current_run.reset(token)
        if run_id is not None:
            headline = getattr(result, "headline", dict)
            warn_on_error(lambda: _close(run_id, "FINISHED", headline()), name)
        return result

    return refusals.cache_refusals(wrapped)


def tag_data_version(md5: str) -> None:
    """Tag the run of MLflow with the version of the source data."""
    if tracking_enabled() and md5:
        warn_on_error(lambda: _tag({lineage.SOURCE: md5}), "the version of the source data")


def tag_lease(address: str, hours: float) -> None:
    """Tag the MLflow run with its lease and the maximum age of the lease (unit: hours).

    A step that is retried after the end of the run acquires the lease again.
    """
    if tracking_enabled():
        warn_on_error(lambda: _tag({LEASE: address, LEASE_HOURS: str(hours)}), "the lease")


def close(state: str, reason: str, *, required: bool = False) -> None:
    """End the run of MLflow with the final state of the pipeline.

    state       FINISHED | FAILED | KILLED;  reason  one line, "" for none
    required    raise an error of MLflow: there is no other record of the final state
    """
    if tracking_enabled() and required:
        _end(state, reason)
    elif tracking_enabled():
        warn_on_error(lambda: _end(state, reason), "the end of the run")


def tags() -> dict[str, str]:
    """The tags of the MLflow run of this task's pipeline run.

    Raises OperationalError when MLflow does not respond.
    """
    with tracking.service() as client:
        return dict(client.get_run(tracking.parent(client)).data.tags)


def tracking_enabled() -> bool:
    """Whether this is a task of a pipeline run and a tracking server is configured."""
    return bool(lineage.pipeline_run()) and tracking.server_configured()


def current_run() -> str | None:
    """The MLflow run of the step that runs now (`tracked`); None outside a pipeline run or without MLflow."""
    return _current_run.get()


def warn_on_error(action: Callable[[], Any], subject: str) -> Any:
    """The result of `action`; None, with a warning, when MLflow is unavailable."""
    try:
        return action()
    except LeaseTaken:
        raise
    except MctiError as error:
        warnings.warn(f"{subject} is not logged in MLflow: {error}", TrackingUnavailable, stacklevel=3)
        return None


def _open(step: str) -> str:
    with tracking.service() as client:
        joined = tracking.joined_run(client)
        if joined:  # Kubeflow created a run for this task
            client.log_values(joined, tags={**tracking.origin_tags(), "mcti.step": step})
            return joined
        parent = tracking.resumed_parent(client)
        number = client.get_run(parent).info.experiment_id
        tags = {**tracking.child_tags(parent), "mcti.step": step, **lineage.code()}
        return str(client.create_run(number, run_name=step, tags=tags).info.run_id)


def _close(run_id: str, state: str, numbers: Mapping[str, float], reason: str = "") -> None:
    with tracking.service() as client:
        for name, value in numbers.items():
            client.log_metric(run_id, name, value)
        if reason:
            client.log_values(run_id, tags={"mcti.error": reason[:5000]})
        if os.environ.get("MLFLOW_RUN_ID"):  # Kubeflow ends its own run
            return
        client.set_terminated(run_id, state)
        if reason:
            end_resumed(client, tracking.parent(client), reason)


def _tag(tags: Mapping[str, str]) -> None:
    with tracking.service() as client:
        client.log_values(tracking.joined_run(client) or tracking.parent(client), tags=tags)


def _end(state: str, reason: str) -> None:
    with tracking.service() as client:
        run = tracking.parent(client)
        tags = {RESULT: state, REASON: reason[:5000], "mcti.error": reason[:5000] if state != "FINISHED" else ""}
        existing = client.get_run(run).data.tags
        # An empty tag only where it replaces that of an earlier attempt.
        client.log_values(run, tags={name: value for name, value in tags.items() if value or existing.get(name)})
        if os.environ.get("MLFLOW_RUN_ID"):
            return
        for unfinished in tracking.unfinished_runs(client, run):
            client.set_terminated(unfinished, "KILLED")
        client.set_terminated(run, state)
