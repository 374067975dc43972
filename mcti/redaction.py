"""Redaction of patient ids in every output: with `--redact` (or MCTI_REDACT=1) each becomes the SHA-256 of itself.

A registered model stores its training patients by the same hash (`registry/ensemble.py`), so that redacted tables
can be joined with each other and with the registry. An id that can be guessed can be found from its hash by guessing.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

VARIABLE = "MCTI_REDACT"
_NAMED = re.compile(r"(patients? ['\"]?)([^\s'\"(),:;]*\d[^\s'\"(),:;]*)")
"""`patient P-0041` in a message; an id without a digit is found only when its table was read before."""

_PIECES = re.compile(r"[^\W_]+|[\W_]")
"""Letters and digits together, everything else one by one."""

_registered: dict[str, int] = {}
"""Ids with the number of their pieces; none that is a bare number."""


def active() -> bool:
    """Whether ids are to be hidden; the environment carries it to the processes that this one starts."""
    return os.environ.get(VARIABLE) == "1"


def enable() -> None:
    """From here on, in this process and those it starts."""
    os.environ[VARIABLE] = "1"


def hashed(patient_id: str) -> str:
    """SHA-256 of an id, 64 hexadecimal digits."""
    return hashlib.sha256(patient_id.encode()).hexdigest()


def redact_id(patient_id: str) -> str:
    """The id as it may leave: itself, or its hash."""
    return hashed(patient_id) if active() else patient_id


def register_ids(ids: Iterable[str]) -> None:
    """Ids that a table brought in, so that `text` finds them anywhere: of patients, and of slides, which may be called
    after a person without holding the patient's id."""
    if active():
        _registered.update(_counted(ids))


def text(sentence: str, also: Iterable[str] = ()) -> str:
    """A line for people, a log, a page or a name of a file as it may leave: every id that is known, or named as a
    patient's, also within a longer word (`P-0041.h5`; `P-0041-DX1` of a slide whose table was not read).

    An id that is a bare number is found only where it is named as a patient's: 17 may be a count.
    also  ids that need not be remembered
    """
    if not active():
        return sentence
    known = _registered | _counted(also)
    pieces, longest = _PIECES.findall(sentence), max(known.values(), default=0)
    parts: list[str] = []
    position = 0
    while position < len(pieces):
        # Of two ids the longer one: P-1 must not hide half of P-1-A.
        ends = range(min(position + longest, len(pieces)), position, -1)
        end = next((end for end in ends if "".join(pieces[position:end]) in known), None)
        parts.append(pieces[position] if end is None else hashed("".join(pieces[position:end])))
        position = position + 1 if end is None else end
    return _NAMED.sub(_hide, "".join(parts))


def tree(value: Any, *, named: bool = False) -> Any:
    """A redacted JSON value; named: the key of the value is one of patients, so that a text in it is an id."""
    if not active():
        return value
    if isinstance(value, Mapping):
        return {text(str(key)): tree(part, named=str(key).startswith("patient")) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [tree(part, named=named) for part in value]
    if not isinstance(value, str):
        return value
    return hashed(value) if named and value.isdecimal() else text(value)


def _counted(ids: Iterable[str]) -> dict[str, int]:
    return {name: len(_PIECES.findall(name)) for name in map(str, ids) if not name.isdecimal()}


def _hide(match: re.Match[str]) -> str:
    name = match[2].rstrip(".")
    is_hash = re.fullmatch(r"[0-9a-f]{64}", name) is not None
    return match[1] + (name if is_hash else hashed(name)) + match[2][len(name) :]
