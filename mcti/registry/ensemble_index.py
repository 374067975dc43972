"""The index of an ensemble and its digest. It imports no torch: a verification reads hashes and no weights."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mcti import storage
from mcti.errors import DataError

INDEX = "ensemble.json"


def read(folder: Path) -> dict[str, Any]:
    """The index of the ensemble in `folder`.

    Raises DataError when there is none, or the file has another content.
    """
    index: Any = storage.read_json(folder / INDEX)
    members = index.get("members") if isinstance(index, dict) else None
    if not isinstance(members, dict) or not all(isinstance(files, dict) for files in members.values()):
        hint = "restore it from a backup, or register the model again"
        raise DataError(f"{INDEX} does not list the files of an ensemble", str(folder / INDEX), hint)
    return dict(index)


def digest_of(index: Mapping[str, Any]) -> str:
    """One SHA-256 over the members' files and the assignment: the identity of the model."""
    return hashlib.sha256(json.dumps(index, sort_keys=True).encode()).hexdigest()
