"""The files of an evaluation: of a folder, of a registered version, or of a run in MLflow."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mcti import storage
from mcti.errors import DataError
from mcti.registry import evidence, external_validations, models, tracking

_HINT = "name the output folder of `mcti evaluate` or `mcti test`, and run that command again"


@contextmanager
def local_files(address: str, required: Sequence[str], optional: Sequence[str], scratch: Path) -> Iterator[Path]:
    """A local folder with the files of the evaluation at `address`.

    address  folder of `mcti evaluate` or `mcti test` (local or s3://), models:/NAME@ALIAS, models:/NAME/3, runs:/ID
    scratch  an empty folder for downloads

    Raises
    DataError when a required file is missing, or there is no such version or run.
    OperationalError when the registry or S3 does not respond.
    """
    if address.startswith(("models:/", "runs:/")):
        yield _download(address, required, optional, scratch)
        return
    with storage.local_copy(address) as folder:
        for name in required:
            if not (folder / name).is_file():
                raise DataError(f"{name} is missing", address, _HINT)
        yield folder


def _download(address: str, required: Sequence[str], optional: Sequence[str], scratch: Path) -> Path:
    with tracking.service() as client:
        if address.startswith("models:/"):
            run = models.run_of(models.version_at(client, address))
        else:
            run = address.removeprefix("runs:/").strip("/")
        folder, stored = _folder_of(run, required[0], address)
        for name in [*required, *(name for name in optional if name in stored)]:
            evidence.fetch(run, name, scratch, folder)
    return next(scratch.rglob(required[0])).parent


def _folder_of(run: str, name: str, address: str) -> tuple[str, list[str]]:
    """The folder of a run that contains the file, and the names of all files in it."""
    for folder in (evidence.FOLDER, external_validations.FOLDER):
        stored = evidence.names(run, folder)
        if name in stored:
            return folder, stored
    hint = "name a run of `mcti register` or `mcti test`"
    raise DataError("the run contains no evaluation", address, hint)
