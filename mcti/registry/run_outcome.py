"""The outcome of a pipeline run: the marker of its last task, and the conclusion of the exit task.

KFP gives the exit task a final status, which is not reliable on a cluster: COMPLETE, FAILED or RUNNING (RUNNING also
after full success, after a driver failed, and after termination), the message always empty. So the last task of each
branch of a pipeline, which runs only if everything before it succeeded and which is never taken from the cache, writes
a marker:

* `<remote>/runs/<run>/outcome.json`, where `cluster.remote` is set. It is the primary marker: the pipelines require
  their object store, whereas MLflow may be unavailable at that moment.
* the tags `mcti.result` and `mcti.reason` of the MLflow run of the pipeline run, which ends as FINISHED at once: the
  "retry" of a run repeats its failed tasks, but never the exit task.
"""

import logging
import warnings
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from mcti import storage
from mcti.errors import DataError, MctiError, OperationalError
from mcti.registry import kfp_api, pipeline_run, refusals

LAST_TASK = "conclude"  # and conclude-verdict, conclude-2, … in the compiled file
_log = logging.getLogger(__name__)
_NO_MARKER = "the last task did not run: a task or a driver failed, or the run was terminated"


class RunOutcome(BaseModel):
    """The outcome of a run.

    state       FINISHED | FAILED | KILLED as MLflow calls it; UNKNOWN where no source could be read
    reason      one line: the result of a successful run, or what failed
    source      the source of state and reason;  reported  the final status that KFP passed to the exit task
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    run: str
    state: Literal["FINISHED", "FAILED", "KILLED", "UNKNOWN"]
    reason: str = ""
    source: str = ""
    reported: str = ""


def record_success(run: str, remote: str, reason: str) -> None:
    """Write the marker of a successful run, and end its run of MLflow.

    Raises OperationalError when the marker cannot be written: the task is then retried.
    """
    if remote:
        outcome = RunOutcome(run=run, state="FINISHED", reason=reason, source=LAST_TASK)
        storage.write_json(_marker(remote, run), outcome.model_dump(mode="json"))
    pipeline_run.close("FINISHED", reason, required=not remote)


def determine(run: str, remote: str, reported: str | None) -> RunOutcome:
    """The outcome of `run`, from the marker, then from KFP's API; `reported` decides only where neither can be read.

    remote      DVC's remote, "" for none;  reported  `PipelineTaskFinalStatus.state`
    """
    marker, read = _read_marker(run, remote)
    if marker is not None:
        return marker.model_copy(update={"reported": reported or ""})
    api = kfp_api.reported(run)
    if api is not None and api.terminated:
        state, reason, source = "KILLED", "the run was terminated", "Kubeflow's API"
    elif api is not None and not read and any(name.startswith(LAST_TASK) for name in api.succeeded):
        state, reason, source = "FINISHED", "", "Kubeflow's API"
    elif api is not None and api.failed:
        state, reason, source = "FAILED", f"failed: {', '.join(api.failed)}", "Kubeflow's API"
    elif read:
        state, reason, source = "FAILED", _NO_MARKER, "no marker of the last task"
    else:
        state, reason, source = _from_status(reported), "", "the final status"
    return RunOutcome(run=run, state=state, reason=reason, source=source, reported=reported or "")


def end(run: str, remote: str, reported: str | None, out: Path) -> RunOutcome:
    """The exit task: determine the outcome, write it to `out`, end the run of MLflow, delete the cached refusals.

    An unknown state counts as failed in MLflow.
    """
    outcome = determine(run, remote, reported)
    storage.write_json(out, outcome.model_dump(mode="json"))
    pipeline_run.close("FAILED" if outcome.state == "UNKNOWN" else outcome.state, outcome.reason)
    refusals.clear()
    _log.info("run %s: %s %s", run, outcome.state, outcome.reason)
    return outcome


def _marker(remote: str, run: str) -> str:
    return storage.join(remote, "runs", run, "outcome.json")


def _read_marker(run: str, remote: str) -> tuple[RunOutcome | None, bool]:
    """The marker, and whether any source of it could be read."""
    marker, read = None, False
    if remote:
        marker, read = _read_object(_marker(remote, run))
    if marker is None and pipeline_run.tracking_enabled():
        marker, tags_read = _read_tags(run)
        read = read or tags_read
    return marker, read


def _read_object(address: str) -> tuple[RunOutcome | None, bool]:
    try:
        return RunOutcome.model_validate(storage.read_json(address)), True
    except DataError:  # no such object
        return None, True
    except (OperationalError, ValidationError) as error:
        warnings.warn(f"the marker of the last task cannot be read: {error}", stacklevel=2)
        return None, False


def _read_tags(run: str) -> tuple[RunOutcome | None, bool]:
    try:
        tags = pipeline_run.tags()
    except MctiError as error:
        warnings.warn(f"the tags of the run cannot be read: {error}", stacklevel=2)
        return None, False
    if tags.get(pipeline_run.RESULT) != "FINISHED":
        return None, True
    reason = tags.get(pipeline_run.REASON, "")
    return RunOutcome(run=run, state="FINISHED", reason=reason, source="MLflow"), True


def _from_status(reported: str | None) -> Literal["FINISHED", "FAILED", "UNKNOWN"]:
    """The status of kfp.local is reliable; of a cluster's status only FAILED is."""
    return {"SUCCEEDED": "FINISHED", "FAILED": "FAILED"}.get(reported or "", "UNKNOWN")  # type: ignore[return-value]
