"""The index of an ensemble and its digest. It imports no torch: a verification reads hashes and no weights."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

INDEX = "ensemble.json"


def digest_of(index: Mapping[str, Any]) -> str:
    """One SHA-256 over the members' files and the assignment: the identity of the model."""
    return hashlib.sha256(json.dumps(index, sort_keys=True).encode()).hexdigest()
