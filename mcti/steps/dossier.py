"""dossier: the release dossier of a version as one HTML page and one JSON document."""

import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from mcti import storage
from mcti.redaction import hashed
from mcti.registry import dossier as release_dossier
from mcti.registry import evidence, ledger, ledger_anchors, models, tracking
from mcti.registry.dossier import Dossier
from mcti.registry.dossier_document import DossierSource
from mcti.steps.result import StepResult
from mcti.storage import Location

_EXAMPLES = 3  # patients


class DossierResult(StepResult):
    """Counts of the requirements by state; `gaps`: information that a person must add."""

    name: str
    version: int
    gaps: int
    answered: int
    partly: int
    open: int


def dossier(uri: str, out: Path, *, explanations: Location | None = None) -> DossierResult:
    """Write the release dossier of a registered version.

    Reads   uri (models:/NAME@ALIAS or models:/NAME/VERSION), its tags, its run's card, evaluation and figures, the
            ledger; explanations/contributions.csv of `mcti explain` (None: a gap)
    Writes  out (one self-contained HTML page) and, next to it, the same as JSON with the SBOM

    Raises
    UsageError for another kind of address.
    DataError when there is no such version, or it was not made by `mcti register`.
    OperationalError when the registry does not respond.
    """
    source, pictures = _read(uri, explanations)
    document = Dossier.build(source)
    storage.write_text(out, release_dossier.html(document, pictures))
    storage.write_json(out.with_suffix(".json"), document.model_dump(mode="json"))
    states = [answer.state for answer in document.answers]
    return DossierResult(
        name=document.name,
        version=document.version,
        gaps=sum(len(section.gaps) for section in document.sections),
        answered=states.count("answered"),
        partly=states.count("partly"),
        open=states.count("gap"),
    )


def _read(uri: str, explanations: Location | None) -> tuple[DossierSource, dict[str, bytes]]:
    """The data of the version, and its figures by name."""
    _, alias, _ = models.parse_address(uri)
    with tracking.service() as client, tempfile.TemporaryDirectory(prefix="mcti-dossier-") as scratch:
        version = models.version_at(client, uri)
        run_id, folder = models.run_of(version), Path(scratch)

        def read(name: str, artifacts: str = evidence.FOLDER) -> Any:
            return storage.read_json(evidence.fetch(run_id, name, folder, artifacts))

        entries, anchors = ledger.read(version.name), ledger_anchors.read(version.name)
        pictures = {path.stem: path.read_bytes() for path in _figures(run_id, folder)}
        source = DossierSource(
            version=int(version.version),
            alias=alias,
            card=read("card.json", "card"),
            metrics=read("metrics.json"),
            evaluation=read("result.json"),
            sbom=read("sbom.json", "card"),
            entries=tuple(entries),
            anchors=ledger_anchors.store_of(version.name, anchors),
            anchor_faults=tuple(ledger_anchors.find_faults(entries, anchors)),
            figures=tuple(sorted(pictures)),
            tags=dict(version.tags),
            examples=() if explanations is None else _examples(explanations),
        )
    return source, pictures


def _figures(run_id: str, scratch: Path) -> list[Path]:
    if "figures" not in evidence.names(run_id):
        return []
    return sorted(evidence.fetch(run_id, "figures", scratch).glob("*.svg"))


def _examples(explanations: Location) -> tuple[dict[str, str], ...]:
    with storage.local_copy(storage.join(explanations, "contributions.csv")) as path:
        rows = pd.read_csv(path, dtype=str, keep_default_na=False).head(_EXAMPLES)
    rows["patient_id"] = [hashed(patient)[:12] for patient in rows["patient_id"]]
    return tuple({str(name): _rounded(str(value)) for name, value in row.items()} for row in rows.to_dict("records"))


def _rounded(text: str) -> str:
    """A number with four significant digits; any other text unchanged."""
    try:
        return f"{float(text):.4g}"
    except ValueError:
        return text
