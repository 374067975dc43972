"""What model.json records of the sources and the prior of a training, and what identifies them."""

from typing import Any

from mcti.dataset.bags import Dataset
from mcti.dataset.sources import Transfer
from mcti.redaction import hashed


def transfer_digests(transfer: Transfer) -> dict[str, Any]:
    """The digests of sources and prior for the identity of a result; empty without any."""
    sources, prior = transfer.sources, transfer.prior
    if transfer.by_cohort:
        return {"cohorts": {source.cohort["name"]: source.version for source in sources}}
    digests: dict[str, Any] = {"sources": [source.version for source in sources]} if sources else {}
    return digests if prior is None else {**digests, "prior": prior.digest}


def transfer_record(transfer: Transfer) -> dict[str, Any]:
    """The entries `sources` and `prior` of model.json; patients by the SHA-256 of their ids. Empty without any.

    The cohorts of the training part itself are no sources.
    """
    if transfer.by_cohort:
        return {}
    sources, prior = transfer.sources, transfer.prior
    record: dict[str, Any] = {"sources": [_source_record(source) for source in sources]} if sources else {}
    if prior is None:
        return record
    version = {"name": prior.name, "version": prior.version, "digest": prior.digest}
    return {**record, "prior": {**version, "cohort": dict(prior.cohort), "patients": sorted(prior.patients)}}


def _source_record(source: Dataset) -> dict[str, Any]:
    bags = list(source.bags.values())
    return {
        **source.cohort,
        "digest": source.version,
        "events": sum(bag.event for bag in bags),
        "genes": len(source.genes),
        "shared_genes": source.measured_genes(),
        "slides": sum(bag.patches is not None for bag in bags),
        "patients": sorted(hashed(bag.patient_id) for bag in bags),
    }
