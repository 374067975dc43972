"""A pretraining that several folds share: made once, stored next to their checkpoints, read by the others."""

import contextlib
import fcntl
import hashlib
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from mcti import storage
from mcti.dataset.bags import digest
from mcti.params.result_settings import result_settings
from mcti.progress import Progress
from mcti.training.code_version import code_digest
from mcti.training.distributed import ranks
from mcti.training.loop import CheckpointConfig, Paused
from mcti.training.pretraining import Pretrained, PretrainingTask, pretrain
from mcti.training.start import Start

_LOCK_SECONDS = 0.5
_last: dict[str, Pretrained] = {}
"""The last pretraining of this process, by its identity: all folds of a cohort start from the same one."""


def pretrained(
    task: PretrainingTask, checkpointing: CheckpointConfig | None = None, progress: Progress | None = None
) -> Pretrained:
    """The result of this pretraining, made once for all folds; errors as in `mcti.training.loop.train`.

    checkpointing  of the fold that needs it; the checkpoints of the pretraining are stored next to those of the fold
    """
    identity = pretraining_identity(task)
    key = storage.text_md5(storage.to_json(identity))
    if key not in _last:
        with _checkpoints(checkpointing, identity, key) as saved:
            result = pretrain(task, checkpointing=saved, progress=progress)
        _last.clear()
        _last[key] = result
    return _last[key]


def release(parent: Path, finished: Collection[str], needed: Collection[str]) -> None:
    """Delete the stored pretrainings of a run when the last fold that may read them is finished.

    parent    folder of the checkpoints of all folds of the run
    finished  names of the folds that this call trained
    needed    names of all folds that read the pretrainings; those of other tasks left a mark when they finished

    A pretraining that another process uses is kept. Of two tasks that finish at one time both may delete.
    """
    marks = parent / "finished"
    marks.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):  # another task has just deleted the folder
        for name in finished:
            (marks / name).touch()
        if not set(needed) <= {mark.name for mark in marks.iterdir()}:
            return
        for folder in parent.glob("pretraining_*"):
            _delete_unless_used(folder)
        shutil.rmtree(marks, ignore_errors=True)
    with contextlib.suppress(OSError):  # it has checkpoints of another task
        parent.rmdir()


def _delete_unless_used(folder: Path) -> None:
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        shutil.rmtree(folder, ignore_errors=True)


def pretraining_identity(task: PretrainingTask) -> dict[str, Any]:
    """Everything that determines the bits of a pretraining: patients, network, settings, first weights, code."""
    settings = {name: value for name, value in result_settings("train", task.params).items() if name not in _NOT_READ}
    cohorts = {cohort.name: digest(cohort.bags, cohort.config.covariates) for cohort in task.cohorts}
    start = None if task.start is None else _weights_md5(task.start)
    return {
        "cohorts": cohorts,
        "config": storage.text_md5(task.config.to_json()),
        "params": settings,
        "start": start,
        "code": code_digest(),
    }


_NOT_READ = frozenset(["sources", "prior", "fine_tuning", "cox_weight", "recalibration_folds", "patience"])
"""Settings of `train` that do not change a pretraining."""


def _weights_md5(start: Start) -> str:
    total = hashlib.md5(usedforsecurity=False)
    for name, tensor in sorted(start.tensors.items()):
        total.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()


@contextlib.contextmanager
def _checkpoints(
    checkpointing: CheckpointConfig | None, identity: Mapping[str, Any], key: str
) -> Iterator[CheckpointConfig | None]:
    """The checkpoints of a pretraining, next to those of the folds; one process at a time uses them.

    The other folds wait for the first one, and then read its result.
    """
    if checkpointing is None:
        yield None
        return
    folder = checkpointing.folder.parent / f"pretraining_{key}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        _acquire(lock.fileno(), checkpointing.stop)
        yield CheckpointConfig(folder, identity, checkpointing.stop, save_last=True)


def _acquire(file: int, stop: Callable[[], bool]) -> None:
    """Wait for the lock of an open file; it is released when the file is closed.

    Raises Paused when a stop is requested
    """
    while ranks().world == 1:  # the processes of torchrun share one training, and none may wait for another
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if stop():
                hint = "run the same command again to resume"
                raise Paused("paused while another fold pretrains the network", "pretraining", hint) from None
            time.sleep(_LOCK_SECONDS)
