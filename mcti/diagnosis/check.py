"""One check with its result and hint, and a list of checks that run at the same time, each with a time limit."""

import contextlib
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from mcti.errors import MctiError

State = Literal["OK", "missing", "failed", "warning", "unknown", "not configured"]
"""missing, failed: something needed is absent or does not work; warning: nothing is prevented by it; unknown: it could
not be checked; not configured: settings and environment do not name it."""
_NEEDED = ("missing", "failed")
_SECRET_NAME = re.compile(r"SECRET|PASSWORD|TOKEN|COOKIE|ACCESS_KEY|SIGNING|CREDENTIAL")
_USERINFO = re.compile(r"(?<=://)[^/@\s]+@")


class Check(BaseModel):
    """One prerequisite: its state, and what to do where it is absent or does not work."""

    model_config = ConfigDict(frozen=True)
    name: str
    state: State
    detail: str = ""
    hint: str = ""

    def line(self, width: int = 8) -> str:
        """The check as one line of text: state (padded to `width` characters), name, detail, hint."""
        line = f"{self.state:<{width}} {self.name}" + (f": {self.detail}" if self.detail else "")
        return f"{line}: {self.hint}" if self.hint else line


Result = Check | Sequence[Check]


@dataclass(frozen=True)
class Task:
    """A check to run.

    seconds  limit, after which the check ends without a result;  needed  whether that prevents work
    """

    name: str
    seconds: float
    function: Callable[[], Result]
    needed: bool = True


def exit_code(checks: Iterable[Check]) -> int:
    """4 where something needed is absent or does not work, else 0."""
    return 4 if any(check.state in _NEEDED for check in checks) else 0


def run_all(tasks: Sequence[Task]) -> tuple[Check, ...]:
    """The results in the order of the tasks; all run at the same time, so that a slow service delays no other check."""
    with contextlib.redirect_stdout(sys.stdout):  # a check that is still running may have redirected it
        running = [_Running(task) for task in tasks]
        checks = [check for each in running for check in each.result()]
    return tuple(_without_secrets(check) for check in checks)


class _Running:
    """A task in a daemon thread: a thread that does not end within its limit cannot delay the end of the process."""

    def __init__(self, task: Task) -> None:
        self._task, self._checks = task, tuple[Check, ...]()
        self._thread = threading.Thread(target=self._work, name=f"check {task.name}", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            result = self._task.function()
        except MctiError as error:
            result = self._without_result(error.what, error.hint)
        except Exception as error:  # a defect of one check: the others are reported all the same
            what = f"the check failed with {type(error).__name__}: {error}"
            result = self._without_result(what, "report this as a defect of mcti")
        self._checks = (result,) if isinstance(result, Check) else tuple(result)

    def result(self) -> tuple[Check, ...]:
        self._thread.join(self._task.seconds)
        if self._thread.is_alive():
            hint = "check that it responds, and run the command again"
            return (self._without_result(f"no result within {self._task.seconds:g} s", hint),)
        return self._checks

    def _without_result(self, detail: str, hint: str) -> Check:
        state: State = "failed" if self._task.needed else "unknown"
        return Check(name=self._task.name, state=state, detail=detail, hint=hint)


def _without_secrets(check: Check) -> Check:
    return check.model_copy(update={"detail": hide_secrets(check.detail), "hint": hide_secrets(check.hint)})


def hide_secrets(text: str) -> str:
    """`text` without the user information of addresses, and without the value of any variable that holds a secret.

    A variable that names a file or is shorter than 4 characters is no secret.
    """
    text = _USERINFO.sub("***@", text)
    for name, value in os.environ.items():
        if _SECRET_NAME.search(name) and len(value) >= 4 and not Path(value).is_absolute():
            text = text.replace(value, "***")
    return text
