"""Refusals of a task: an error in its settings (exit code 2) or data (3), which a retry would only repeat.

Kubeflow Pipelines and Argo receive exit code 1 of every failed task, so they retry these errors as well. The first
attempt therefore writes a small record; the next attempt of the same task in the same run reads it and ends at once
with the same error. A local run names a folder for the records (MCTI_REFUSALS). On a cluster they are below the folder
of the run in DVC's remote (MCTI_REMOTE), without a remote in tags of the run in MLflow. Where none of these is
available, the task is computed again.

A record is valid for the waits between the attempts and ten minutes for each pod to start (MCTI_RETRY_SECONDS, from the
row of the resource table), and the exit task deletes those of its run, so that a run is computed again after its data
were corrected. KFP does not repeat the exit task when it retries a run; then the time limit applies.
"""

import contextlib
import functools
import inspect
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath
from typing import Any, ParamSpec, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from mcti import redaction, storage
from mcti.errors import DataError, MctiError, OperationalError, UsageError
from mcti.registry import lineage, tracking

P = ParamSpec("P")
R = TypeVar("R")
FOLDER = "MCTI_REFUSALS"
"""Environment variable: the folder of the records of a local run; it exists during the run only."""
_TAG = "mcti.refused."
_OBJECTS, _TRACKING = (FOLDER, "MCTI_REMOTE"), "MLFLOW_TRACKING_URI"
_MAX_TAG_LENGTH = 5000  # characters; accepted by every version of MLflow
_ERRORS: dict[int, type[MctiError]] = {error.exit_code: error for error in (UsageError, DataError)}

_log = logging.getLogger(__name__)


class Refusal(BaseModel):
    """The error of a task, stored for the next attempt; times in seconds since 1970."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    step: str
    digest: str
    exit_code: int
    message: str
    where: str
    hint: str
    time: float
    valid_until: float

    @classmethod
    def from_error(cls, error: MctiError, step: str, digest: str, seconds: float) -> Self:
        """The record of `error`, valid for `seconds` from now."""
        now, (message, where, hint) = time.time(), map(redaction.text, (error.what, error.where, error.hint))
        return cls(
            step=step, digest=digest, exit_code=error.exit_code, message=message, where=where, hint=hint,
            time=now, valid_until=now + seconds,
        )  # fmt: skip

    def error(self) -> MctiError:
        """The stored error: the same line and the same exit code."""
        return _ERRORS[self.exit_code](self.message, self.where, self.hint)


def cache_refusals(step: Callable[P, R]) -> Callable[P, R]:
    """Compute the refusal of a step once per pipeline run: each retry of the task raises the stored error.

    No effect outside a task that may be retried.
    """

    @functools.wraps(step)
    def wrapped(*arguments: P.args, **options: P.kwargs) -> R:
        seconds = _seconds()
        if not seconds:
            return step(*arguments, **options)
        name, digest = step.__name__, _digest(step, arguments, options)
        earlier = _find(name, digest)
        if earlier is not None:
            _log.info("%s is not computed again: an earlier attempt of this task ended with this error", name)
            raise earlier.error()
        try:
            return step(*arguments, **options)
        except (UsageError, DataError) as error:
            _store(Refusal.from_error(error, name, digest, seconds))
            raise

    return wrapped


def clear() -> None:
    """Delete the refusals of this pipeline run; called by its exit task. A record that cannot be deleted expires."""
    if not lineage.pipeline_run():
        return
    if _configured(*_OBJECTS):
        with contextlib.suppress(MctiError):
            _clear_folder(_folder())
    if _configured(_TRACKING):
        with contextlib.suppress(MctiError), _tags() as (client, run, tags):
            for name in tags:
                client.delete_tag(run, name)


def _clear_folder(folder: str) -> None:
    for address in _records(folder):
        storage.remove(address)
    if not storage.is_s3(folder):
        with contextlib.suppress(OSError):  # the folder does not exist, or a task has just written to it
            Path(folder).rmdir()


def _seconds() -> float:
    """Seconds for which a refusal of this task is valid; 0 where the task is not retried."""
    return float(os.environ.get("MCTI_RETRY_SECONDS") or 0) if lineage.pipeline_run() else 0.0


def _digest(step: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> str:
    """MD5 over inputs and settings, without the output path, which may differ between attempts."""
    bound = inspect.signature(step).bind(*arguments, **options).arguments
    plain = {name: _plain(value) for name, value in bound.items() if name != "out" and not callable(value)}
    return storage.text_md5(storage.to_json(plain))


def _plain(value: object) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump_json()
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value if isinstance(value, str | int | float | bool | None) else repr(value)


def _find(step: str, digest: str) -> Refusal | None:
    """The valid refusal of the same task in this run."""
    for read in _stores(_read_object, _read_tag):
        try:
            refusal = read(step, digest)
        except OperationalError:
            continue  # the next store may be available
        return refusal if refusal is not None and refusal.valid_until > time.time() else None
    return None


def _store(refusal: Refusal) -> None:
    for write in _stores(_write_object, _write_tag):
        with contextlib.suppress(MctiError):  # the task has failed, and its own error must be reported
            write(refusal)
            return


def _stores(remote: Callable[..., Any], tracked: Callable[..., Any]) -> list[Callable[..., Any]]:
    """The functions of the stores that are configured for this task, in order of preference."""
    stores = ((_OBJECTS, remote), ((_TRACKING,), tracked))
    return [function for names, function in stores if _configured(*names)]


def _configured(*names: str) -> bool:
    return any(os.environ.get(name) for name in names)


def _folder() -> str:
    local = os.environ.get(FOLDER)
    return local or storage.join(os.environ["MCTI_REMOTE"], "runs", lineage.pipeline_run(), "refused")


def _records(folder: str) -> list[str]:
    """The records of this run: objects below an address, or files of a folder."""
    if storage.is_s3(folder):
        return storage.addresses(storage.join(folder, ""))
    return [str(path) for path in Path(folder).glob("*.json")]


def _address(step: str, digest: str) -> str:
    return storage.join(_folder(), f"{step}-{digest}.json")


def _read_object(step: str, digest: str) -> Refusal | None:
    try:
        return Refusal.model_validate_json(storage.read_bytes(_address(step, digest)))
    except (DataError, ValidationError):  # no record, or one in another format
        return None


def _write_object(refusal: Refusal) -> None:
    storage.write_text(_address(refusal.step, refusal.digest), refusal.model_dump_json(indent=2) + "\n")


@contextlib.contextmanager
def _tags() -> Iterator[tuple[Any, str, dict[str, str]]]:
    """The client, the MLflow run of the pipeline run, and its tags that contain refusals."""
    with tracking.service() as client:
        run = tracking.parent(client)
        tags = client.get_run(run).data.tags
        yield client, run, {name: value for name, value in tags.items() if name.startswith(_TAG)}


def _read_tag(step: str, digest: str) -> Refusal | None:
    try:
        with _tags() as (_, _, tags):
            text = tags.get(f"{_TAG}{step}-{digest}")
        return Refusal.model_validate_json(text) if text else None
    except (DataError, ValidationError):
        return None


def _write_tag(refusal: Refusal) -> None:
    text = refusal.model_dump_json()
    if len(text) <= _MAX_TAG_LENGTH:
        with tracking.service() as client:
            client.log_values(tracking.parent(client), tags={f"{_TAG}{refusal.step}-{refusal.digest}": text})
