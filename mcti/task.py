"""A pipeline task as a process: the first and last line of its log, and its end after an error.

`mcti/__init__.py` calls `begin` when this process executes a component, before anything heavy is imported.
"""

import atexit
import gc
import importlib.metadata
import itertools
import logging
import os
import re
import sys
import time
from collections.abc import Sequence
from types import TracebackType

import mcti
from mcti import logs
from mcti.errors import MctiError, OperationalError
from mcti.progress import format_duration

INTERRUPTED = 130
"""Exit code of a command or task that was stopped: that of a process that ended by SIGINT."""

AGAIN = "run the same command again: finished work is kept"
_FUNCTION = "--function_to_execute"
_log = logging.getLogger(__name__)
_reported: list[str] = []
"""Last lines that were logged already: of a step, or an error. Without one, the end of the process is logged."""


class Interrupted(MctiError):
    """The user or the system stopped the process."""

    exit_code, code = INTERRUPTED, "interrupted"


def component(arguments: Sequence[str]) -> str:
    """The component that a process with these arguments executes; empty for every other process.

    Kubeflow Pipelines starts `python -m kfp.dsl.executor_main … --function_to_execute NAME`, on a cluster and locally.
    """
    return dict(itertools.pairwise(arguments)).get(_FUNCTION, "")


def begin(name: str) -> None:
    """Log this process as task `name`: start, end, and each error as one line, then the exit code of the command."""
    sys.excepthook = _fail
    started = time.monotonic()
    logs.name_process(name)
    logs.begin()
    logs.quiet_libraries()
    atexit.register(_end, started)
    run = os.environ.get("MCTI_RUN")
    _log.info("task started%s, %s", f", pipeline run {run}" if run else "", version())


def version() -> str:
    """`mcti 0.1.0, commit 1a2b…, image NAME@sha256:…`; unknown parts are omitted."""
    commit, image = os.environ.get("MCTI_COMMIT"), os.environ.get("MCTI_IMAGE")
    parts = [f"mcti {mcti.__version__}", commit and f"commit {commit}", image and f"image {image}"]
    return ", ".join(part for part in parts if part)


def log_end(message: str) -> None:
    """Log the last line of a step."""
    _reported.append(message)
    _log.info("%s", message)


def to_mcti_error(error: BaseException) -> MctiError:
    """Any exception as an MctiError with an exit code; an OSError is translated, an MctiError is returned unchanged."""
    if isinstance(error, MctiError):
        return error
    if isinstance(error, OSError):
        from mcti import storage

        return storage.translate_os_error(error)
    if isinstance(error, KeyboardInterrupt):
        return Interrupted("interrupted", "", AGAIN)
    if isinstance(error, ModuleNotFoundError) and (extra := _extra_with(error.name or "")):
        return OperationalError(f"the package {error.name} is not installed", "", f"pip install 'mcti[{extra}]'")
    return MctiError(f"{type(error).__name__}: {error}", "", "run again with --debug and report it")


def _extra_with(module: str) -> str:
    """The optional dependencies of mcti (`pipelines`, …) that contain a module; "" where none does."""
    package = module.partition(".")[0].replace("_", "-").lower()
    if package == "mcti":  # an extra that contains another extra requires mcti itself
        return ""
    for requirement in importlib.metadata.requires("mcti") or ():
        name, _, extra = requirement.partition("extra == ")
        if extra and re.match(r"[\w.-]+", name)[0].replace("_", "-").lower() == package:  # type: ignore[index]
            return extra.strip("\"' )")
    return ""


def _fail(error_type: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """The excepthook of a task: logs the error as one line and exits with its exit code."""
    shown = to_mcti_error(error)
    logs.begin("ERROR")  # needed only if MCTI_LOG_LEVEL itself is invalid
    if shown.code == "defect" or logging.getLogger("mcti").isEnabledFor(logging.DEBUG):
        sys.__excepthook__(error_type, error, trace)
    # A paused task is not successful: its outputs do not exist.
    code = shown.exit_code or INTERRUPTED
    _reported.append(str(shown))
    _log.error("%s (exit code %d)", shown, code)
    sys.exit(code)


def _end(started: float) -> None:
    gc.freeze()  # otherwise the interpreter searches all objects for cycles at its end: 0.7 s with torch and MLflow
    if not _reported:
        _log.info("task finished in %s", format_duration(time.monotonic() - started))
