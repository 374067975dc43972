"""What a model learned from besides its cohort, as recorded in model.json: for lineage, model card and dossier."""

from collections.abc import Mapping
from typing import Any

_COPIED = ("name", "endpoint", "expression_scale", "events", "shared_genes", "genes", "slides", "digest")
DATA_PREFIX = "transfer/"
"""First part of the name of a source or prior among the data versions of a model."""


def transfer_of(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Sources and prior of a model.json without the hashes of patients; empty for a model without any.

    sources  one mapping each: name, endpoint, expression_scale, patients, events, shared_genes of genes, slides
             (patients with slides that were used), digest
    prior    name, version, digest; None without one
    """
    sources = [
        {**{name: source[name] for name in _COPIED if name in source}, "patients": len(source.get("patients", ()))}
        for source in spec.get("sources", ())
    ]
    record = spec.get("prior")
    prior = None if not record else {name: record[name] for name in ("name", "version", "digest")}
    return {"sources": sources, "prior": prior} if sources or prior else {}


def data_versions(spec: Mapping[str, Any]) -> dict[str, str]:
    """The digest of each source and of the prior, by the name of its data version.

    Of a prior's SHA-256 the first 32 digits: MLflow accepts 36 characters for the digest of a dataset.
    """
    transfer = transfer_of(spec)
    versions: dict[str, str] = {}
    for source in transfer.get("sources", ()):
        name = f"{DATA_PREFIX}{source.get('name', 'cohort')}"
        name += f"-{source['digest'][:8]}" if name in versions else ""  # two sources may have one name
        versions[name] = source["digest"]
    prior = transfer.get("prior")
    return versions if prior is None else {**versions, f"{DATA_PREFIX}prior": prior["digest"][:32]}


def describe_source(source: Mapping[str, Any]) -> str:
    """A source in one line, without its name and digest."""
    slides = f"slides of {source['slides']} patients used" if source["slides"] else "no slides used"
    counts = f"{source['patients']} patients, {source['events']} events"
    genes = f"{source['shared_genes']} of {source['genes']} genes shared"
    return ", ".join([str(source.get("endpoint", "endpoint unknown")), counts, genes, slides])


def lines(transfer: Mapping[str, Any]) -> list[str]:
    """One line per source, and one for the prior, with names and digests; none without transfer."""
    sources = [
        f"source {source.get('name', 'cohort')}: {describe_source(source)}, digest {source['digest']}"
        for source in transfer.get("sources", ())
    ]
    prior = transfer.get("prior")
    return sources + (
        [] if prior is None else [f"prior {prior['name']} version {prior['version']}, digest {prior['digest']}"]
    )
