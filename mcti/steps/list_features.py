"""The step `list_features`: the versions of the ready-made feature files, on which the stage `extract` depends."""

from pathlib import Path
from typing import Any

from mcti import storage
from mcti.params import ExtractParams
from mcti.slides.feature_source import file_address, file_version, list_versions
from mcti.steps.result import StepResult
from mcti.steps.task_log import logged
from mcti.storage import Location


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
    files = _read_list(out) if out.exists() else {}
    current, read = {}, 0
    if params.source == "import" and params.import_ is not None:
        path = params.import_.path
        for name, listed in list_versions(path).items():
            stamp, entry = _stamp(path, name), files.get(name, {})
            if not stamp or {key: entry.get(key) for key in stamp} != stamp:
                entry, read = {"version": file_version(path, name, listed), **stamp}, read + bool(stamp)
            current[name] = entry
    storage.write_json(out, {"source": params.source, "files": current})
    return ListFeaturesResult(files=len(current), read=read)


def _read_list(out: Location) -> dict[str, Any]:
    """The files of an earlier list; empty when it has another form."""
    document = storage.read_json(out)
    return dict(document["files"]) if isinstance(document, dict) and "files" in document else {}


def _stamp(location: str, name: str) -> dict[str, int]:
    """Size in bytes and time of the last change in ns of a local file; empty for an object."""
    if storage.is_s3(location):
        return {}
    path = Path(file_address(location, name))
    with storage.translating_os_errors(path):
        status = path.stat()
    return {"bytes": status.st_size, "modified": status.st_mtime_ns}
