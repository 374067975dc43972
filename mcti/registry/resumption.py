"""A pipeline run that is retried after its end: KFP's "retry" repeats failed tasks, but never the exit task.

By then the exit task has ended the run of MLflow and released the lease of the retraining. The first repeated step
resumes the run and acquires the lease again. A step that fails in such a run ends it, since no exit task does.
"""

from typing import Any

from mcti.errors import OperationalError
from mcti.registry import lease, lineage

LEASE = "mcti.lease"
LEASE_HOURS = "mcti.lease_hours"
RESUMED = "mcti.resumed"
"""Tags of the MLflow run of the pipeline run: address of its lease, its duration in hours, whether it was retried."""


class LeaseTaken(OperationalError):
    """Another run holds the lease of the model."""


def resume(client: Any, run_id: str) -> None:
    """Set the MLflow run `run_id` to RUNNING, if it has ended, and acquire the lease of its retraining again.

    Raises LeaseTaken when another run is retraining the model.
    """
    run = client.get_run(run_id)
    if run.info.status == "RUNNING":
        return
    _acquire_lease(run.data.tags)
    client.log_values(run_id, tags={RESUMED: "true"})
    client.update_run(run_id, status="RUNNING")


def end_resumed(client: Any, run_id: str, reason: str) -> None:
    """End a resumed run as FAILED and release its lease; the next retry resumes it again."""
    run = client.get_run(run_id)
    if run.data.tags.get(RESUMED) != "true" or run.info.status != "RUNNING":
        return
    client.log_values(run_id, tags={"mcti.error": reason[:5000]})
    client.set_terminated(run_id, "FAILED")
    if run.data.tags.get(LEASE):
        lease.release(run.data.tags[LEASE], lineage.pipeline_run())


def _acquire_lease(tags: dict[str, str]) -> None:
    address = tags.get(LEASE)
    if not address:
        return
    holder = lease.acquire(address, lineage.pipeline_run(), float(tags.get(LEASE_HOURS) or 48)).holder
    if holder != lineage.pipeline_run():
        hint = "retry this run after that run has ended, or keep its result"
        raise LeaseTaken(f"run {holder} is retraining the model", address, hint)
