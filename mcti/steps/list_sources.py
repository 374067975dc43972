"""The step `list_sources`: the versions of sources and prior, on which the stages `search` and `train` depend."""

from pathlib import Path

from mcti import storage
from mcti.dataset.source_versions import list_files, version_of
from mcti.params import TrainParams
from mcti.registry.priors import version_of_prior
from mcti.steps.file_versions import current_versions, read_list
from mcti.steps.result import StepResult
from mcti.steps.task_log import logged


class ListSourcesResult(StepResult):
    """Number of files of the sources, and how many of them were read for their MD5; the version of the prior."""

    files: int
    read: int
    prior: str


@logged
def list_sources(params: TrainParams, out: Path) -> ListSourcesResult:
    """List the files of train.sources and the version of train.prior: the list changes when one of them changes.

    Reads   local files whose size or time of change differs from those in `out`; of files on S3 only the list of
            objects; of the registry only the version. Without sources and prior the list is empty, and nothing is read
    Writes  out (JSON): the MD5 (local), or the etag or MD5 (S3) of each file, and name, version and digest of the prior
    Raises  DataError when there is no such cohort, folder of features or version
            OperationalError when the registry does not respond
    """
    listed = list_files(params.sources)
    addresses = {name: name for name in listed}
    files, read = current_versions(addresses, read_list(out), lambda name: version_of(name, listed[name]))
    prior = None if params.prior is None else version_of_prior(params.prior)
    storage.write_json(out, {"files": files, "prior": prior})
    text = "" if prior is None else f"{prior['name']} version {prior['version']}"
    return ListSourcesResult(files=len(files), read=read, prior=text)


def cache_text(params: TrainParams) -> str:
    """Versions of sources and prior as part of a cache key; empty without any. Errors as in `list_sources`."""
    if not params.sources and params.prior is None:
        return ""
    files = {name: version_of(name, listed) for name, listed in list_files(params.sources).items()}
    prior = None if params.prior is None else version_of_prior(params.prior)
    return storage.to_json({"files": files, "prior": prior})
