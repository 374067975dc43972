"""Who acts: the name that approvals and entries of the ledger record."""

import getpass
import os


def current() -> str:
    """The actor: MCTI_ACTOR (a pipeline's service account), otherwise the login name.

    It is not authenticated. The registry decides who may write tags (docs/security.md).
    """
    return os.environ.get("MCTI_ACTOR") or getpass.getuser()
