"""Approvals of a version: tags in MLflow, each valid for the weights and the evaluation at the time of approval.

An approval is the name of the actor, or an electronic signature (electronic_signatures.py).
"""

from typing import Any

from mcti.errors import DataError
from mcti.registry import actor, electronic_signatures, models, rest
from mcti.registry.electronic_signatures import ElectronicSignature

APPROVED = "mcti.approved."
REGISTERED_BY, REGISTERED_USER = "mcti.registered_by", "mcti.registered_user"


def registrant_tags() -> dict[str, str]:
    """Who registers a version, as its tags: the actor, and the MLflow user where one is configured."""
    user = rest.user_name()
    return {REGISTERED_BY: actor.current(), **({REGISTERED_USER: user} if user else {})}


def approve(client: Any, version: Any) -> str:
    """Approve a version as the actor; the name of the actor.

    Raises DataError when the actor registered the version: another person must approve it.
    """
    who = actor.current()
    refuse_registrant(version, who, "another person must approve it (MCTI_ACTOR)")
    client.set_model_version_tag(version.name, version.version, f"{APPROVED}{who}", _subject(version))
    return who


def refuse_registrant(version: Any, who: str, hint: str) -> None:
    """Raises DataError when `who` registered the version."""
    if who in _registrants(version):
        raise DataError(f"{who} registered this version", f"model {version.name}, version {version.version}", hint)


def approvers(version: Any) -> list[str]:
    """Who approved the current weights and evaluation, without the one who registered them."""
    named = {
        key.removeprefix(APPROVED)
        for key, value in version.tags.items()
        if key.startswith(APPROVED) and value == _subject(version)
    }
    return sorted((named | {signature.who for signature in signatures(version)}) - _registrants(version))


def signatures(version: Any) -> list[ElectronicSignature]:
    """The electronic signatures on the current weights and evaluation, without those of the one who registered them."""
    registrants = _registrants(version)
    return [one for one in electronic_signatures.valid(version) if one.who not in registrants]


def _registrants(version: Any) -> set[str]:
    return {version.tags[tag] for tag in (REGISTERED_BY, REGISTERED_USER) if version.tags.get(tag)}


def _subject(version: Any) -> str:
    return f"{version.tags[models.DIGEST]}:{version.tags[models.EVALUATION]}"
