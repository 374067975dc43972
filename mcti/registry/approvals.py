"""Who has approved a version: tags of MLflow, each bound to the weights and the evidence that its giver saw."""

import getpass
import os
from typing import Any

from mcti.errors import DataError
from mcti.registry import models

_APPROVED = "mcti.approved."
REGISTERED_BY = "mcti.registered_by"


def actor() -> str:
    """Who acts: MCTI_ACTOR (a pipeline's service account), else the login name.

    It is what the caller says. Who may write tags at all is the registry's business (docs/security.md).
    """
    return os.environ.get("MCTI_ACTOR") or getpass.getuser()


def approve(client: Any, version: Any) -> str:
    """Approve a version as the actor; the name under which it stands.

    Raises
        DataError: the actor registered the version: the second pair of eyes must be another's.
    """
    who = actor()
    if who == version.tags.get(REGISTERED_BY):
        where = f"model {version.name}, version {version.version}"
        raise DataError(f"{who} registered this version", where, "let somebody else approve it (MCTI_ACTOR)")
    client.set_model_version_tag(version.name, version.version, f"{_APPROVED}{who}", _bound(version))
    return who


def given(version: Any) -> list[str]:
    """Who has approved the weights and the evidence as they are now, without whoever registered them."""
    valid = [key for key, value in version.tags.items() if key.startswith(_APPROVED) and value == _bound(version)]
    return sorted({key.removeprefix(_APPROVED) for key in valid} - {version.tags.get(REGISTERED_BY)})


def _bound(version: Any) -> str:
    return f"{version.tags[models.DIGEST]}:{version.tags[models.EVALUATION]}"
