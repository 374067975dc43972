"""Orphaned processes: a stage whose DVC process was killed.

Without this module it would continue, and write to the same folders as the next run.
"""

import os
import threading
import time

import psutil

_SHELLS = {"sh", "bash", "dash", "zsh", "fish", "ksh", "busybox"}
_POLL_SECONDS = 0.2
_KILLED = 137


def exit_with_dvc() -> None:
    """In a DVC stage, exit when the DVC process ends; elsewhere do nothing.

    DVC starts a stage through a shell, so that a stage continues when DVC is killed with SIGKILL.
    """
    if "DVC_STAGE" in os.environ:
        callers = _callers()
        threading.Thread(target=_exit_after, args=(callers,), name="end-with-dvc", daemon=True).start()


def _callers() -> list[psutil.Process]:
    """The parents of this process up to the first that is no shell: shell, shell, DVC."""
    parents = psutil.Process().parents()
    last = next((i for i, process in enumerate(parents) if _name(process) not in _SHELLS), len(parents) - 1)
    return list(parents[: last + 1])


def _name(process: psutil.Process) -> str:
    try:
        return str(process.name())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return ""


def _exit_after(callers: list[psutil.Process]) -> None:
    while all(_is_running(process) for process in callers):
        time.sleep(_POLL_SECONDS)
    for child in psutil.Process().children(recursive=True):
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue
    os._exit(_KILLED)  # without cleanup: no incomplete output may be renamed to its final name


def _is_running(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
