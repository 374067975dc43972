"""One mapped copy of the patches of a cohort for all worker processes of a step."""

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil

from mcti import storage
from mcti.dataset import bag_store
from mcti.dataset.loading import slides_with_features
from mcti.dataset.slide_bags import load_bag
from mcti.errors import OperationalError
from mcti.slides.features import open_file
from mcti.storage import Location
from mcti.training.distributed import ranks

_PREFIX = ".bags-"
_MARGIN = 256 << 20  # bytes of disk space that stay free for checkpoints and results


@contextlib.contextmanager
def shared_bags(cohort: Location, features: Location | None, parent: Path) -> Iterator[Path | None]:
    """A folder of a BagStore (mcti/dataset/bag_store.py) below `parent`, removed at the end; None without features.

    Each feature file is read once, also where it is in S3. Under torchrun the first process writes for all. The folder
    that a killed process left is removed by the next one.

    Raises
        DataError: a file is not a feature file.
        OperationalError: the disk has no space for the store, which has 4 bytes per value. Before the features of a
            local folder are read, the space for all of them is checked.
    """
    if features is None:
        yield None
        return
    process = ranks()
    # The sum over the processes is the number of the first one.
    owner = int(process.add({"owner": float(os.getpid()) if process.first else 0.0})["owner"])
    folder = parent / f"{_PREFIX}{owner}"
    try:
        if process.first:
            with storage.translating_os_errors(parent):
                parent.mkdir(parents=True, exist_ok=True)
                _remove_abandoned(parent)
                folder.mkdir()
            slides = slides_with_features(cohort, features)
            _check_space(folder, features, slides)
            bag_store.write(folder, ((patient, load_bag(features, names)) for patient, names in slides.items()))
        process.wait()
        yield folder
    finally:
        if process.first:
            shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(OSError):  # not empty: the step has written its result
                parent.rmdir()


def _check_space(folder: Path, features: Location, slides: Mapping[str, Sequence[str]]) -> None:
    """Check the disk of `folder`. The features of S3 are not checked: their number of rows is known once they are read.

    Raises
        OperationalError: there is too little free space for the features of all slides.
    """
    if storage.is_s3(features):
        return
    size = sum(_bytes(storage.join(features, f"{name}.h5")) for names in slides.values() for name in names)
    free = shutil.disk_usage(folder).free
    if free < size + _MARGIN:
        what = f"no disk space for the features of the cohort ({size / 1e9:.1f} GB, {free / 1e9:.1f} GB are free)"
        raise OperationalError(what, str(folder), "free some disk space, or write the result to another disk")


def _bytes(location: Location) -> int:
    with open_file(location) as file:
        return file.tiles * file.width * 4


def _remove_abandoned(parent: Path) -> None:
    """Remove the folders of processes that no longer run, and of an earlier one with the number of this process."""
    for folder in parent.glob(f"{_PREFIX}*"):
        number = folder.name.removeprefix(_PREFIX)
        if number.isdigit() and (int(number) == os.getpid() or not psutil.pid_exists(int(number))):
            shutil.rmtree(folder, ignore_errors=True)
