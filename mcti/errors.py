"""Errors: one line for people, one object for programs.

Every error names what is wrong, where, and what to do. The command line turns it into an exit code; a traceback
is shown for our own defects only.
"""

import difflib
import os
import warnings
from collections.abc import Iterable
from typing import Self
from urllib.parse import urlsplit


class MctiError(Exception):
    """An error that states what is wrong, where, and what to do.

    Subclasses carry the exit code of the command line (docs/cli.md).
    """

    exit_code = 1
    code = "defect"

    def __init__(self, what: str, where: str = "", hint: str = "") -> None:
        super().__init__(what, where, hint)
        self.what, self.where, self.hint = (" ".join(str(part).split()) for part in (what, where, hint))

    def __str__(self) -> str:
        return self.what + (f" in {self.where}" if self.where else "") + (f": {self.hint}" if self.hint else "")

    def with_patient(self, patient_id: str) -> Self:
        """The same error with the id of its patient; an error that already names the patient is unchanged."""
        named = f"patient {patient_id}"
        where = self.where if named in self.where else ", ".join(part for part in (self.where, named) if part)
        return type(self)(self.what, where, self.hint)

    def as_dict(self) -> dict[str, str]:
        """The error as the command line prints it under `--json`."""
        return {"code": self.code, "message": self.what, "where": self.where, "hint": self.hint}


class UsageError(MctiError):
    """The command or a parameter is wrong: nothing was read yet."""

    exit_code, code = 2, "usage"


class DataError(MctiError):
    """The data are wrong: a file, a row, a field, a slide, a checkpoint."""

    exit_code, code = 3, "data"


class OperationalError(MctiError):
    """The machine or a service prevents the command: no server, no disk space, no permission, no GPU."""

    exit_code, code = 4, "environment"


def service_hint(variable: str) -> str:
    """What to do about a service that does not answer at the address in `variable`; on a cluster there is no stack."""
    if os.environ.get("KUBERNETES_SERVICE_HOST"):  # Kubernetes sets it in every pod
        return f"check that its pod runs, that {variable} names its Service, and the NetworkPolicies"
    host = urlsplit(os.environ.get(variable, "")).hostname
    if host and host not in ("localhost", "127.0.0.1", "::1"):
        return f"start it, or check {variable}"
    return f"start the stack (mcti stack up), or its port-forward, or check {variable}"


class Rejected(MctiError):
    """A promotion gate rejected the version."""

    exit_code, code = 10, "rejected"


class NotEnoughEvidence(MctiError):
    """A promotion gate has too little evidence for a decision."""

    exit_code, code = 11, "not-enough-evidence"


def format_own_warnings() -> None:
    """Print the warnings of mcti as one line each; those of libraries keep file and line. Holds for the process."""
    usual = warnings.formatwarning

    def plain(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
    ) -> str:
        if category.__module__.partition(".")[0] == "mcti":
            return f"warning: {message}\n"
        return usual(message, category, filename, lineno, line)

    warnings.formatwarning = plain


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`did you mean X?` for a near miss, else the known words; for the `mend` of an error.

    >>> did_you_mean("time_month", ["time_months", "event"])
    'did you mean time_months?'
    """
    words = [str(name) for name in known]
    folded = {name.casefold(): name for name in words}
    near = difflib.get_close_matches(word.casefold(), folded, n=1)
    if near:
        return f"did you mean {folded[near[0]]}?"
    shown = ", ".join(words[:12]) + (", …" if len(words) > 12 else "")
    return f"known: {shown}" if words else "none is known"
