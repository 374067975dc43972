"""The step `list_features`: the versions of the ready-made feature files, on which the stage `extract` depends."""

from pathlib import Path

from mcti import storage
from mcti.params import ExtractParams
from mcti.slides.feature_source import file_address, file_version, list_versions
from mcti.steps.file_versions import Entry, current_versions, read_list
from mcti.steps.result import StepResult
from mcti.steps.task_log import logged


class ListFeaturesResult(StepResult):
    """Number of files of features, and how many of them were read for their MD5 in this call."""

    files: int
    read: int


@logged
def list_features(params: ExtractParams, out: Path) -> ListFeaturesResult:
    """List the files of features with their versions: the list changes when a file is added, removed or changed.

    Reads   params.import_.path: local files whose size or time of change differs from those in `out`; of files on S3
            only the list of objects. With params.source `slides` the list is empty.
    Writes  out (JSON): by name the MD5 (local), or the etag or MD5 (S3) of each file
    Raises  DataError when there is no such folder, or no file of features in it
    """
    entries: dict[str, Entry] = {}
    read = 0
    if params.source == "import" and params.import_ is not None:
        path = params.import_.path
        listed = list_versions(path)
        addresses = {name: file_address(path, name) for name in listed}
        entries, read = current_versions(addresses, read_list(out), lambda name: file_version(path, name, listed[name]))
    storage.write_json(out, {"source": params.source, "files": entries})
    return ListFeaturesResult(files=len(entries), read=read)
