"""Processes whose caller was killed: a stage that outlived its DVC, a DVC that outlived its demo.

Left alone, they would write into the same folders as the run that is started next.
"""

import os
import threading
import time

import psutil

_SHELLS = {"sh", "bash", "dash", "zsh", "fish", "ksh", "busybox"}
_LOOK_EVERY_SECONDS = 0.2
_KILLED = 137


def exit_with_dvc() -> None:
    """Inside a DVC stage, watch the DVC process and end with it; elsewhere do nothing.

    DVC starts a stage through a shell, so a DVC killed with SIGKILL leaves the stage running.
    """
    if "DVC_STAGE" in os.environ:
        callers = _callers()
        threading.Thread(target=_watch, args=(callers,), name="end-with-dvc", daemon=True).start()


def _callers() -> list[psutil.Process]:
    """The parent and, as far as these are shells, its parents: shell, shell, DVC."""
    found = psutil.Process().parents()
    count = next((i for i, process in enumerate(found) if _name(process) not in _SHELLS), len(found) - 1)
    return list(found[: count + 1])


def _name(process: psutil.Process) -> str:
    try:
        return str(process.name())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return ""


def _watch(callers: list[psutil.Process]) -> None:
    while all(_lives(process) for process in callers):
        time.sleep(_LOOK_EVERY_SECONDS)
    for child in psutil.Process().children(recursive=True):
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue
    os._exit(_KILLED)  # as hard as the kill that took the caller: nothing half-written is renamed into place


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
