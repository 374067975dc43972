"""Errors with three parts: what is wrong, where, and a hint how to fix it.

The command line prints an error as one line, or as a JSON object, and turns it into an exit code. A traceback is
printed only for defects in mcti.
"""

import difflib
import os
import warnings
from collections.abc import Iterable
from typing import Self
from urllib.parse import urlsplit


class MctiError(Exception):
    """An error with location and hint; rendered as `WHAT in WHERE: HINT`.

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
        """The same error with the patient in its location; unchanged where the location names the patient already."""
        named = f"patient {patient_id}"
        where = self.where if named in self.where else ", ".join(part for part in (self.where, named) if part)
        return type(self)(self.what, where, self.hint)

    def as_dict(self) -> dict[str, str]:
        """The error object that the command line prints with `--json`."""
        return {"code": self.code, "message": self.what, "where": self.where, "hint": self.hint}


class UsageError(MctiError):
    """A command, flag or setting is wrong; no input was read."""

    exit_code, code = 2, "usage"


class DataError(MctiError):
    """The data are wrong: a file, a row, a field, a slide, a checkpoint."""

    exit_code, code = 3, "data"


class OperationalError(MctiError):
    """The machine or a service prevents the operation: server, disk space, permission or GPU unavailable."""

    exit_code, code = 4, "environment"


def service_hint(variable: str) -> str:
    """A hint for a service that does not respond at the address in `variable`; a cluster has no one-machine stack."""
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
    """The data do not suffice for a decision of a promotion gate."""

    exit_code, code = 11, "not-enough-evidence"


class Untrusted(MctiError):
    """A signature is missing, or its key is unknown: nothing contradicts the model, and nothing proves it."""

    exit_code, code = 12, "untrusted"


def format_own_warnings() -> None:
    """Print warnings of mcti as one line without file and line number; those of libraries keep them."""
    default_format = warnings.formatwarning

    def plain(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
    ) -> str:
        if category.__module__.partition(".")[0] == "mcti":
            return f"warning: {message}\n"
        return default_format(message, category, filename, lineno, line)

    warnings.formatwarning = plain


def did_you_mean(word: str, known: Iterable[str], least_similarity: float = 0.6) -> str:
    """`did you mean X?` for a near miss, else the known words; for the `hint` of an error.

    least_similarity    of a near miss: difflib's ratio, 0 (no common letter) to 1 (equal), no unit

    >>> did_you_mean("time_month", ["time_months", "event"])
    'did you mean time_months?'
    """
    words = [str(name) for name in known]
    folded = {name.casefold(): name for name in words}
    near = difflib.get_close_matches(word.casefold(), folded, n=1, cutoff=least_similarity)
    if near:
        return f"did you mean {folded[near[0]]}?"
    shown = ", ".join(words[:12]) + (", …" if len(words) > 12 else "")
    return f"known: {shown}" if words else "none is known"
