"""The time that a signed statement states."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from mcti.registry.trust.envelope import InvalidDocument


def of(statement: Mapping[str, Any]) -> datetime | None:
    """The time of the signature; None where the statement has none.

    Raises InvalidDocument when it is not RFC 3339.
    """
    predicate = statement["predicate"]
    try:
        metadata = predicate.get("runDetails", {}).get("metadata", {})
        text = predicate.get("signed_at") or predicate.get("timeVerified") or metadata.get("finishedOn")
    except AttributeError as error:
        raise InvalidDocument(f"the time of the signature cannot be read ({error})") from error
    return parse(text) if text else None


def parse(text: Any) -> datetime:
    """The time of an RFC 3339 text.

    Raises InvalidDocument when it has another form, or no zone.
    """
    try:
        time = datetime.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise InvalidDocument(f"the time of the signature cannot be read ({error})") from error
    if time.tzinfo is None:
        raise InvalidDocument(f"the time of the signature has no zone: {text}")
    return time
