"""Plain log lines on stderr: `2026-11-29T10:00:00Z INFO train: 120 of 400 steps, 3.1 steps/s, 1 min 30 s left`.

Every module logs to `logging.getLogger(__name__)`, below the logger `mcti`. Nothing is printed before `begin`
is called: by a pipeline task (task.py), by the command line without a terminal, and by their worker processes.
"""

import logging
import os
import re
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mcti import redaction
from mcti.errors import UsageError, did_you_mean

VARIABLE = "MCTI_LOG_LEVEL"
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")

_logger = logging.getLogger("mcti")
_names: list[str] = []
"""The running steps, the innermost last. No context variable: the threads of a step log under its name as well."""

_SECRET_VARIABLE = re.compile(r"(PASSWORD|PASSWD|SECRET|TOKEN|SECRET_ACCESS_KEY|API_KEY)$")
_IN_ADDRESS = re.compile(r"(://[^/\s:@]*:)[^/\s@]+(?=@)")
_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_SHORTEST_SECRET = 4  # a shorter value would also match inside ordinary words and numbers


def is_first_process() -> bool:
    """Whether this process writes output; under torchrun only the first process does."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


def level() -> str:
    """The lowest level that is printed, from MCTI_LOG_LEVEL.

    Raises
        UsageError: no such level.
    """
    name = os.environ.get(VARIABLE) or "INFO"
    if name not in LEVELS:
        raise UsageError(f"{name!r} is no log level", VARIABLE, did_you_mean(name, LEVELS))
    return name


def begin(lowest: str | None = None) -> None:
    """Print the log lines of this process from now on; of the processes of torchrun, only those of the first.

    lowest  the level; None: that of MCTI_LOG_LEVEL
    """
    if active() or not is_first_process():
        return
    _logger.setLevel(lowest or level())
    handler = _Stderr()
    handler.setFormatter(_Line())
    _logger.addHandler(handler)
    _logger.propagate = False


def active() -> bool:
    """Whether `begin` was called in this process."""
    return any(isinstance(handler, _Stderr) for handler in _logger.handlers)


def end() -> None:
    """Undo `begin`."""
    for handler in [handler for handler in _logger.handlers if isinstance(handler, _Stderr)]:
        _logger.removeHandler(handler)
    _logger.propagate = True
    _logger.setLevel(logging.NOTSET)


@contextmanager
def enabled(*, unless: bool) -> Iterator[None]:
    """Print the log lines of the body, unless `unless` is true: a terminal has a progress bar instead."""
    if unless or active():
        yield
        return
    begin()
    try:
        yield
    finally:
        end()


def quiet_libraries() -> None:
    """Set the level of other packages to WARNING, and log a Python warning as one line."""
    logging.getLogger().setLevel(logging.WARNING)
    warnings.showwarning = _log_warning


def name_process(name: str) -> None:
    """Set the name in the lines that this process logs outside of a `step`."""
    _names[:] = [name]


@contextmanager
def step(name: str) -> Iterator[None]:
    """Set the name in the lines that the body logs."""
    _names.append(name)
    try:
        yield
    finally:
        _names.pop()


def state() -> tuple[bool, bool, tuple[str, ...]]:
    """The state that a worker process needs to log like this process; see `join`."""
    return active(), warnings.showwarning is _log_warning, tuple(_names)


def join(parent: tuple[bool, bool, tuple[str, ...]]) -> None:
    """Log like the parent process, whose `state` this is."""
    shown, in_task, names = parent
    _names[:] = names
    if shown:
        begin()
    if in_task:
        quiet_libraries()


def sanitize(message: str) -> str:
    """One line without control characters, patient ids (`--redact`) and secrets."""
    line = "".join(c if c.isprintable() else " " for c in _COLOUR.sub("", message))
    return redaction.text(_without_secrets(line)).strip()


def _without_secrets(line: str) -> str:
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST_SECRET and _SECRET_VARIABLE.search(name):
            line = line.replace(value, "***")
    return _IN_ADDRESS.sub(r"\1***", line)


class _Line(logging.Formatter):
    """Time in UTC, level, step, message."""

    def format(self, record: logging.LogRecord) -> str:
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))
        name = _names[-1] if _names else record.name.removeprefix("mcti.")
        return f"{when} {record.levelname} {name}: {sanitize(record.getMessage())}"


class _Stderr(logging.StreamHandler[Any]):
    """A handler that reads `sys.stderr` for every line: it may have been replaced since."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        return sys.stderr


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Any = None,  # noqa: ARG001  (the signature of warnings.showwarning)
    line: Any = None,  # noqa: ARG001
) -> None:
    is_own = category.__module__.partition(".")[0] == "mcti"
    location = "" if is_own else f"{category.__name__} ({filename}:{lineno}): "
    _logger.warning("%s%s", location, message)
