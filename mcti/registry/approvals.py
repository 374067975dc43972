"""Approvals of a version: tags in MLflow, each valid for the weights and the evaluation at the time of approval."""

import getpass
import os
from typing import Any

from mcti.errors import DataError
from mcti.registry import models

APPROVED = "mcti.approved."
REGISTERED_BY = "mcti.registered_by"


def actor() -> str:
    """The actor: MCTI_ACTOR (a pipeline's service account), otherwise the login name.

    It is not authenticated. The registry decides who may write tags (docs/security.md).
    """
    return os.environ.get("MCTI_ACTOR") or getpass.getuser()


def approve(client: Any, version: Any) -> str:
    """Approve a version as the actor; the name of the actor.

    Raises DataError when the actor registered the version: another person must approve it.
    """
    who = actor()
    if who == version.tags.get(REGISTERED_BY):
        where = f"model {version.name}, version {version.version}"
        raise DataError(f"{who} registered this version", where, "another person must approve it (MCTI_ACTOR)")
    client.set_model_version_tag(version.name, version.version, f"{APPROVED}{who}", _subject(version))
    return who


def approvers(version: Any) -> list[str]:
    """Who approved the current weights and evaluation, without the one who registered them."""
    valid = [key for key, value in version.tags.items() if key.startswith(APPROVED) and value == _subject(version)]
    return sorted({key.removeprefix(APPROVED) for key in valid} - {version.tags.get(REGISTERED_BY)})


def _subject(version: Any) -> str:
    return f"{version.tags[models.DIGEST]}:{version.tags[models.EVALUATION]}"
