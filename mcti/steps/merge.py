"""The step `merge`: joins the output folders of parallel tasks, such as shards of features or folds of models."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from mcti import storage
from mcti.errors import DataError
from mcti.registry.refusals import cache_refusals
from mcti.steps.result import StepResult
from mcti.steps.task_log import logged
from mcti.storage import Location

_PART_RESULT = "result.json"


class MergeResult(StepResult):
    """Number of folders and of files that were joined."""

    parts: int
    files: int


@logged
@cache_refusals
def merge(parts: Sequence[Location], out: Path) -> MergeResult:
    """Copy the files of all folders `parts` into one folder.

    Reads   every file below each part, except result.json, which describes only that part, and hidden folders such as
            .work, the checkpoints of a training
    Writes  out: all of it or nothing
    Raises  DataError when there are no parts, or two parts have a file of the same name
    """
    if not parts:
        raise DataError("no parts to merge", str(out), "pass the output folders of the parallel tasks")
    files: dict[str, Path] = {}
    for part in map(Path, parts):
        for name, file in _results(part):
            if files.setdefault(name, file) is not file and name != _PART_RESULT:
                what = "two tasks wrote a file of the same name"
                raise DataError(what, f"{files[name]} and {file}", "use a separate folder for each task's part")
    files.pop(_PART_RESULT, None)
    with storage.replacing(out) as draft:
        draft.mkdir()
        for name, file in files.items():
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, draft / name)
    return MergeResult(parts=len(parts), files=len(files))


def _results(part: Path) -> Iterator[tuple[str, Path]]:
    """(path below the part, file) of each file that is in no hidden folder."""
    for file in sorted(path for path in part.rglob("*") if path.is_file()):
        path = file.relative_to(part)
        if not any(folder.startswith(".") for folder in path.parts[:-1]):
            yield path.as_posix(), file
