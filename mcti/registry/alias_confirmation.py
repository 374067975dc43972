"""Confirmation of an alias against the ledger.

MLflow has no conditional write of an alias, and every client may move one. Therefore a read of `champion` or `previous`
counts only if the last entry of the ledger gives the alias to the same version.
"""

import logging
from typing import Any

from mcti import s3
from mcti.errors import DataError
from mcti.registry import ledger
from mcti.registry.ledger import LedgerEntry
from mcti.registry.rest import ApiError

_log = logging.getLogger(__name__)


def confirm(client: Any, name: str, alias: str, number: int | None) -> None:
    """Compare an alias as MLflow has it with the last entry of the ledger.

    Other aliases than `champion` and `previous`, and those of a model without a ledger, are not compared. Without keys
    for S3 it is a warning: a server of the champion may have access to MLflow only.

    number  of the version with the alias; None: none has it

    Raises
    DataError when the ledger gives the alias to another version, or its last entries were lost or edited.
    OperationalError when S3 does not answer, or refuses the keys.
    """
    if alias not in ledger.ALIASES:
        return
    head = _head(client, name)
    try:
        entry = _last(name, head)
    except s3.NoCredentials:
        _log.warning("alias %s of model %s is not confirmed by the ledger: there are no keys for S3", alias, name)
        return
    faults = _head_faults(entry, head) + ([] if entry is None else ledger.alias_faults(entry, alias, number, head))
    if faults:
        raise DataError(faults[0], f"model {name}", ledger.repair_hint(name))


def _head(client: Any, name: str) -> str | None:
    """The head as MLflow has it; None without one, or without such a model: its ledger is compared all the same."""
    try:
        return ledger.head(client, name)
    except ApiError as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def _last(name: str, head: str | None) -> LedgerEntry | None:
    try:
        return ledger.last(name, head)
    except s3.NotFound:  # there is no bucket of ledgers
        return None


def _head_faults(entry: LedgerEntry | None, head: str | None) -> list[str]:
    """A fault if the last entry is not the one that the registry's tag names, nor a later one."""
    if head is None:
        return []
    number = ledger.number_of(head)
    if number == 0:
        return [f"the tag {ledger.HEAD} of the registered model does not name an entry of the ledger"]
    if entry is None or entry.number < number:
        return [f"entry {number} of the ledger, which the registry stores as the last one, was lost"]
    if entry.number == number and f"{number}:{entry.computed_hash()}" != head:
        return [f"the registry stores another hash of entry {number} of the ledger: the entry was rewritten"]
    return []
