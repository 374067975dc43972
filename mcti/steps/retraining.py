"""What a retraining does before and after its steps: is there something new, is another one running, make room."""

from pathlib import Path
from typing import Any

from mcti import pinned, storage, versions
from mcti.errors import DataError, UsageError
from mcti.params import IngestParams
from mcti.registry import lease, lineage, models, pipeline_run, run_outcome, tracking
from mcti.registry.refusals import cache_refusals
from mcti.steps.result import StepResult
from mcti.steps.task_log import logged


class Detected(StepResult):
    """Whether to go on, and why (not); `ingest` are the settings with every source pinned to version `data`.

    lease   address of the object that lets one retraining of this model run at a time
    """

    go: bool
    reason: str
    data: str
    model: str
    champion: int
    lease: str
    ingest: IngestParams


@logged
@cache_refusals
def detect(name: str, ingest: IngestParams, remote: str, run: str, hours: float, out: Path) -> Detected:
    """Compare the newest version of the sources with those that versions of the model were trained on.

    Reads   REMOTE/heads/<ingest.name>.json, the versions of model `name`
    Writes  out (JSON); with something new: the lease of the model, held by `run` until `finish`
    Raises  DataError when no version of the sources was ever declared, or the model has no champion to compare with
    """
    newest = versions.latest_version(remote, ingest.name).md5
    with tracking.service() as client:
        champion = models.version_by_alias(client, name, models.CHAMPION)
        if champion is None:
            raise DataError(f"model {name} has no champion", "the registry", "run the training pipeline first")
        found = _trained_on(client, name, newest)
    reason, go = f"version {newest} of the sources is new", True
    if found is not None:
        reason, go = f"nothing new: version {found} of {name} was trained on {newest}", False
    elif (holder := lease.acquire(_lease_of(remote, name), run, hours).holder) != run:
        reason, go = f"run {holder} is retraining {name}: this one yields", False
    else:
        pipeline_run.tag_lease(_lease_of(remote, name), hours)
    result = Detected(
        go=go,
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
    """End the lease of this run, so that the next retraining may start; whether it had the lease."""
    return lease.release(_lease_of(remote, name), run)


def conclude(run: str, remote: str, held: str, reason: str) -> None:
    """Record that every task of a run has succeeded, and end its lease: the last task of every branch.

    remote  DVC's remote, "" for none;  held  address of the lease, "" where the pipeline takes none
    """
    run_outcome.record_success(run, remote, reason)
    if held:
        lease.release(held, run)


def pinned_to(ingest: IngestParams, remote: str, md5: str) -> IngestParams:
    """The settings with each source below the folder of the clinical table read from version `md5` of that folder.

    Raises
        UsageError: a source lies outside that folder, and so in no version of it.
    """
    folder = ingest.clinical.rpartition("/")[0]
    base = str(pinned.Pinned(remote, md5))
    sources = {"clinical": ingest.clinical, "expression": ingest.expression, "slides": ingest.slides}
    for key, source in sources.items():
        if source is not None and not source.startswith(f"{folder}/"):
            hint = f"keep all sources in {folder or 'one folder'}: their folder is what DVC versions"
            raise UsageError(f"{source} lies outside {folder or 'a folder'}", f"ingest.{key}", hint)
    moved = {key: base + source[len(folder) :] for key, source in sources.items() if source is not None}
    return ingest.model_copy(update=moved)


def _trained_on(client: Any, name: str, md5: str) -> str | None:
    """Number of the version of the model that was trained on these sources, promoted or not."""
    found = client.search_model_versions(f"name = '{name}'")
    return next((str(version.version) for version in found if version.tags.get(lineage.SOURCE) == md5), None)


def _lease_of(remote: str, name: str) -> str:
    return storage.join(remote, "leases", f"{name}.json")
