"""What parallel tasks wrote, in one folder: shards of features, folds of models."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from mcti import storage
from mcti.errors import DataError
from mcti.registry.refusals import cache_refusals
from mcti.steps.result import StepResult
from mcti.steps.task_log import logged
from mcti.storage import Location

_OF_ONE_PART = "result.json"


class MergeResult(StepResult):
    """How much was put together."""

    parts: int
    files: int


@logged
@cache_refusals
def merge(parts: Sequence[Location], out: Path) -> MergeResult:
    """Put the files below `parts` into one folder, as if one task had written them all.

    Reads   every file below each part, except result.json, which counts only that part
    Writes  out: all of it or nothing
    Raises  DataError when two parts have a file of one name
    """
    if not parts:
        raise DataError("no parts to put together", str(out), "hand on what the parallel tasks wrote")
    found: dict[str, Path] = {}
    for part in map(Path, parts):
        for file in sorted(path for path in part.rglob("*") if path.is_file()):
            name = file.relative_to(part).as_posix()
            if found.setdefault(name, file) is not file and name != _OF_ONE_PART:
                raise DataError("two tasks wrote the same file", f"{found[name]} and {file}", "give each its own part")
    found.pop(_OF_ONE_PART, None)
    with storage.replacing(out) as draft:
        draft.mkdir()
        for name, file in found.items():
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, draft / name)
    return MergeResult(parts=len(parts), files=len(found))
