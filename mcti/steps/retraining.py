"""The start and the end of a retraining: detection of new data, and the lease of the model."""

from pathlib import Path
from typing import Any

from mcti import pinned, storage, versions
from mcti.errors import DataError, UsageError
from mcti.params import IngestParams
from mcti.registry import lease, lineage, models, pipeline_run, run_outcome, tracking
from mcti.registry.refusals import cache_refusals
from mcti.steps.result import StepResult
from mcti.steps.task_log import logged


class DetectResult(StepResult):
    """Whether to retrain, and the reason; `ingest`: the settings with every source pinned to version `data`.

    lease   address of the object that permits one retraining of this model at a time
    """

    retrain: bool
    reason: str
    data: str
    model: str
    champion: int
    lease: str
    ingest: IngestParams


@logged
@cache_refusals
def detect(name: str, ingest: IngestParams, remote: str, run: str, hours: float, out: Path) -> DetectResult:
    """Compare the newest version of the source data with those that versions of the model were trained on.

    Reads   REMOTE/heads/<ingest.name>.json, the versions of model `name`
    Writes  out (JSON); with new data: the lease of the model, which `run` holds until `finish`

    hours   unit hours: maximum age of the lease; an older one is replaced

    Raises DataError when no version of the source data was declared, or the model has no champion.
    """
    newest = versions.latest_version(remote, ingest.name).md5
    with tracking.service() as client:
        champion = models.confirmed(client, name, models.CHAMPION)
        if champion is None:
            raise DataError(f"model {name} has no champion", "the registry", "run the training pipeline first")
        trained = _trained_on(client, name, newest)
    reason, retrain = f"version {newest} of the source data is new", True
    if trained is not None:
        reason, retrain = f"nothing new: version {trained} of {name} was trained on {newest}", False
    elif (holder := lease.acquire(_lease_of(remote, name), run, hours).holder) != run:
        reason, retrain = f"run {holder} is retraining {name}: this run ends", False
    else:
        pipeline_run.tag_lease(_lease_of(remote, name), hours)
    result = DetectResult(
        retrain=retrain,
        reason=reason,
        data=newest,
        model=f"models:/{name}@{models.CHAMPION}",
        champion=int(champion.version),
        lease=_lease_of(remote, name),
        ingest=pinned_to(ingest, remote, newest),
    )
    storage.write_json(out, result.model_dump(mode="json", by_alias=True))
    return result


def finish(name: str, remote: str, run: str) -> bool:
    """Release the lease of this run, so that the next retraining may start; whether the run held it."""
    return lease.release(_lease_of(remote, name), run)


def conclude(run: str, remote: str, lease_address: str, reason: str) -> None:
    """Record that every task of a run has succeeded, and release its lease; this is the last task of every branch.

    remote  DVC's remote, "" for none;  lease_address  of the model, "" for a pipeline without one

    Raises OperationalError when the record cannot be written.
    """
    run_outcome.record_success(run, remote, reason)
    if lease_address:
        lease.release(lease_address, run)


def pinned_to(ingest: IngestParams, remote: str, md5: str) -> IngestParams:
    """The settings with each source below the folder of the clinical table read from version `md5` of that folder.

    Raises UsageError when a source is outside that folder, and thus in no version of it.
    """
    folder = ingest.clinical.rpartition("/")[0]
    base = str(pinned.Pinned(remote, md5))
    sources = {"clinical": ingest.clinical, "expression": ingest.expression, "slides": ingest.slides}
    for key, source in sources.items():
        if source is not None and not source.startswith(f"{folder}/"):
            hint = f"keep all sources in {folder or 'one folder'}: DVC versions this folder"
            raise UsageError(f"{source} is outside {folder or 'a folder'}", f"ingest.{key}", hint)
    moved = {key: base + source[len(folder) :] for key, source in sources.items() if source is not None}
    return ingest.model_copy(update=moved)


def _trained_on(client: Any, name: str, md5: str) -> str | None:
    """The number of the version of the model that was trained on this data version, promoted or not."""
    registered = client.search_model_versions(f"name = '{name}'")
    return next((str(version.version) for version in registered if version.tags.get(lineage.SOURCE) == md5), None)


def _lease_of(remote: str, name: str) -> str:
    return storage.join(remote, "leases", f"{name}.json")
