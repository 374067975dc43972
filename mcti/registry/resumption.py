"""A pipeline run that goes on after its end: KFP's "retry" repeats failed tasks, but never the exit task.

The exit task has then ended the run of MLflow and given the lease of the retraining back. The first step that starts
again takes both again; in such a run a step that fails ends it again, since no exit task will.
"""

from typing import Any

from mcti.errors import OperationalError
from mcti.registry import lease, lineage

LEASE = "mcti.lease"
LEASE_HOURS = "mcti.lease_hours"
RESUMED = "mcti.resumed"
"""Tags of the run of MLflow that stands for the pipeline run: address of its lease, hours it lasts, retried or not."""


class LeaseTaken(OperationalError):
    """Another retraining has the model by now."""


def resume(client: Any, above: str) -> None:
    """Make the run of MLflow `above` RUNNING again, if it had ended, and take the lease of its retraining again.

    Raises
        LeaseTaken: another run is retraining the model.
    """
    found = client.get_run(above)
    if found.info.status == "RUNNING":
        return
    _take_lease(found.data.tags)
    client.set_tag(above, RESUMED, "true")
    client.update_run(above, status="RUNNING")


def end_again(client: Any, above: str, reason: str) -> None:
    """End a resumed run as FAILED, and its lease: whoever tries again resumes it again."""
    found = client.get_run(above)
    if found.data.tags.get(RESUMED) != "true" or found.info.status != "RUNNING":
        return
    client.set_tag(above, "mcti.error", reason[:5000])
    client.set_terminated(above, "FAILED")
    if found.data.tags.get(LEASE):
        lease.release(found.data.tags[LEASE], lineage.pipeline_run())


def _take_lease(tags: dict[str, str]) -> None:
    address = tags.get(LEASE)
    if not address:
        return
    holder = lease.acquire(address, lineage.pipeline_run(), float(tags.get(LEASE_HOURS) or 48)).holder
    if holder != lineage.pipeline_run():
        hint = "retry this run when that one has ended, or let its result stand"
        raise LeaseTaken(f"run {holder} is retraining the model by now", address, hint)
