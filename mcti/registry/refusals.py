"""Refusals of a task: an error in its settings (exit code 2) or data (3) that another attempt would only repeat.

Kubeflow Pipelines and Argo see exit code 1 of every failed task, so the engine retries those errors as well. The first
attempt therefore writes a small record; the next attempt of the same task in the same run finds it and ends at once
with the same error. Records lie below the folder of the run in DVC's remote (MCTI_REMOTE), without a remote as tags
of the run in MLflow. Where neither can be reached, the task is computed again.

A record is valid for the waits between the attempts and ten minutes for each pod to start (MCTI_RETRY_SECONDS, from the
row of the resource table), and the exit task deletes those of its run: a run that is repeated after its data were
repaired is computed. KFP does not repeat the exit task with a run, so the time limit is what counts there.
"""

import contextlib
import functools
import inspect
import os
import time
from collections.abc import Callable, Iterator
from pathlib import PurePath
from typing import Any, ParamSpec, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from mcti import redaction, storage
from mcti.errors import DataError, MctiError, OperationalError, UsageError
from mcti.registry import lineage, tracking

P = ParamSpec("P")
R = TypeVar("R")
_TAG = "mcti.refused."
_LONGEST_TAG = 5000  # characters of the value of a tag that every version of MLflow takes
_ERRORS: dict[int, type[MctiError]] = {kind.exit_code: kind for kind in (UsageError, DataError)}


class Refusal(BaseModel):
    """The error of a task, as it is kept for the next attempt; times in seconds since 1970."""

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
    def of(cls, error: MctiError, step: str, digest: str, seconds: float) -> Self:
        """The record of `error`, valid for `seconds` from now."""
        now, (message, where, hint) = time.time(), map(redaction.text, (error.what, error.where, error.hint))
        return cls(
            step=step, digest=digest, exit_code=error.exit_code, message=message, where=where, hint=hint,
            time=now, valid_until=now + seconds,
        )  # fmt: skip

    def error(self) -> MctiError:
        """The error again: the same line and the same exit code."""
        return _ERRORS[self.exit_code](self.message, self.where, self.hint)


def cache_refusals(step: Callable[P, R]) -> Callable[P, R]:
    """A step whose refusal is computed once in a pipeline run, however often the engine tries again.

    Outside a task that may be retried it is the step itself.
    """

    @functools.wraps(step)
    def wrapped(*arguments: P.args, **named: P.kwargs) -> R:
        seconds = _seconds()
        if not seconds:
            return step(*arguments, **named)
        name, digest = step.__name__, _digest(step, arguments, named)
        earlier = _find(name, digest)
        if earlier is not None:
            raise earlier.error()
        try:
            return step(*arguments, **named)
        except (UsageError, DataError) as error:
            _keep(Refusal.of(error, name, digest, seconds))
            raise

    return wrapped


def clear() -> None:
    """Delete the refusals of this pipeline run; for its exit task. What cannot be reached is left to expire."""
    if not lineage.pipeline_run():
        return
    if os.environ.get("MCTI_REMOTE"):
        with contextlib.suppress(MctiError):
            for address in storage.addresses(storage.join(_folder(), "")):
                storage.remove(address)
    if os.environ.get("MLFLOW_TRACKING_URI"):
        with contextlib.suppress(MctiError), _tags() as (client, run, tags):
            for name in tags:
                client.delete_tag(run, name)


def _seconds() -> float:
    """How long a refusal of this task is of use; 0 where no attempt can follow."""
    return float(os.environ.get("MCTI_RETRY_SECONDS") or 0) if lineage.pipeline_run() else 0.0


def _digest(step: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]) -> str:
    """MD5 over inputs and settings; not over where the result goes, which may differ between attempts."""
    given = inspect.signature(step).bind(*arguments, **named).arguments
    plain = {name: _plain(value) for name, value in given.items() if name != "out" and not callable(value)}
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
    for read in _places(_read_object, _read_tag):
        try:
            found = read(step, digest)
        except OperationalError:
            continue  # the next place may answer
        return found if found is not None and found.valid_until > time.time() else None
    return None


def _keep(refusal: Refusal) -> None:
    for write in _places(_write_object, _write_tag):
        with contextlib.suppress(MctiError):  # the task has failed already, and its own error is the one to report
            write(refusal)
            return


def _places(remote: Callable[..., Any], tracked: Callable[..., Any]) -> list[Callable[..., Any]]:
    """The functions for the places that this task knows, in the order in which they are tried."""
    known = (("MCTI_REMOTE", remote), ("MLFLOW_TRACKING_URI", tracked))
    return [function for name, function in known if os.environ.get(name)]


def _folder() -> str:
    return storage.join(os.environ["MCTI_REMOTE"], "runs", lineage.pipeline_run(), "refused")


def _address(step: str, digest: str) -> str:
    return storage.join(_folder(), f"{step}-{digest}.json")


def _read_object(step: str, digest: str) -> Refusal | None:
    try:
        return Refusal.model_validate_json(storage.read_bytes(_address(step, digest)))
    except (DataError, ValidationError):  # there is none, or another version wrote it
        return None


def _write_object(refusal: Refusal) -> None:
    storage.write_text(_address(refusal.step, refusal.digest), refusal.model_dump_json(indent=2) + "\n")


@contextlib.contextmanager
def _tags() -> Iterator[tuple[Any, str, dict[str, str]]]:
    """The client, the run of MLflow that stands for the pipeline run, and its tags that hold refusals."""
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
    if len(text) <= _LONGEST_TAG:
        with tracking.service() as client:
            client.set_tag(tracking.parent(client), f"{_TAG}{refusal.step}-{refusal.digest}", text)
