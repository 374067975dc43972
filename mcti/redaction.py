"""Patient ids kept out of what leaves: with `--redact` (or MCTI_REDACT=1) each becomes the SHA-256 of itself.

The hash is the one by which a registered model knows its patients (`registry/ensemble.py`), so that redacted tables
still join with each other and with the registry. An id that can be guessed can be found from its hash by guessing.
"""

import hashlib
import os
import re
from collections.abc import Iterable

VARIABLE = "MCTI_REDACT"
_NAMED = re.compile(r"(patients? ['\"]?)([^\s'\"(),:;]*\d[^\s'\"(),:;]*)")
"""`patient P-0041` in a sentence of ours; an id without a digit is found only when its table was read before."""

_learned: set[str] = set()


def active() -> bool:
    """Whether ids are to be hidden; the environment carries it to the processes that this one starts."""
    return os.environ.get(VARIABLE) == "1"


def switch_on() -> None:
    """From here on, in this process and those it starts."""
    os.environ[VARIABLE] = "1"


def hashed(patient_id: str) -> str:
    """SHA-256 of an id, 64 hexadecimal digits."""
    return hashlib.sha256(patient_id.encode()).hexdigest()


def shown(patient_id: str) -> str:
    """The id as it may leave: itself, or its hash."""
    return hashed(patient_id) if active() else patient_id


def learn(patient_ids: Iterable[str]) -> None:
    """Ids that a table brought in, so that `text` finds them anywhere."""
    if active():
        _learned.update(str(patient) for patient in patient_ids)


def text(sentence: str) -> str:
    """A line for people, a log or a JSON document, as it may leave: every id that is known or named as a patient's."""
    if not active():
        return sentence
    words = re.split(r"([^\s'\"(),:;\[\]{}<>|=]+)", sentence)  # every second one is a word
    known = [hashed(word) if number % 2 and word in _learned else word for number, word in enumerate(words)]
    return _NAMED.sub(_hide, "".join(known))


def _hide(match: re.Match[str]) -> str:
    name = match[2].rstrip(".")
    is_hash = re.fullmatch(r"[0-9a-f]{64}", name) is not None
    return match[1] + (name if is_hash else hashed(name)) + match[2][len(name) :]
