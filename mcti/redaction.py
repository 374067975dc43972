"""Redaction of patient ids: with `--redact` (or MCTI_REDACT=1) each id in the output is replaced by its SHA-256.

A registered model stores the same hashes (`registry/ensemble.py`), so that redacted tables can be joined with each
other and with the registry. An id that can be guessed can be recovered from its hash by guessing.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

VARIABLE = "MCTI_REDACT"
_NAMED = re.compile(r"(patients? ['\"]?)([^\s'\"(),:;]*\d[^\s'\"(),:;]*)")
"""`patient P-0041` in a message; an id without a digit is recognised only if its table was read before."""

_PIECES = re.compile(r"[^\W_]+|[\W_]")
"""Runs of letters and digits, and every other character alone."""

_registered: dict[str, int] = {}
"""Registered ids with the number of their pieces; purely numeric ids are excluded."""


def active() -> bool:
    """Whether ids are redacted; child processes inherit this from the environment."""
    return os.environ.get(VARIABLE) == "1"


def enable() -> None:
    """Redact ids in this process and its child processes from now on."""
    os.environ[VARIABLE] = "1"


def hashed(patient_id: str) -> str:
    """SHA-256 of an id, 64 hexadecimal digits."""
    return hashlib.sha256(patient_id.encode()).hexdigest()


def as_hash(patient_id: str) -> str:
    """The SHA-256 of an id that may be hashed already, as in redacted tables."""
    return patient_id if re.fullmatch("[0-9a-f]{64}", patient_id) else hashed(patient_id)


def redact_id(patient_id: str) -> str:
    """The id for output: unchanged, or its hash."""
    return hashed(patient_id) if active() else patient_id


def register_ids(ids: Iterable[str]) -> None:
    """Register the ids of a table, so that `text` recognises them everywhere: of patients, and of slides, whose names
    may identify a person without containing the patient's id."""
    if active():
        _registered.update(_counted(ids))


def text(sentence: str, also: Iterable[str] = ()) -> str:
    """A message, log line, report or file name for output: every registered id, and every id after the word `patient`,
    is redacted, also within a longer word (`P-0041.h5`; `P-0041-DX1` of a slide whose table was not read).

    A purely numeric id is recognised only after the word `patient`: 17 may be a count.
    also  further ids, which are not registered
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
    """A JSON value for output; named: it belongs to a key of patients, so that each text in it is an id."""
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
