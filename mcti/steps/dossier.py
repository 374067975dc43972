"""dossier: one page and one JSON document that say all the registry knows of a version."""

import tempfile
from pathlib import Path

import pandas as pd

from mcti import storage
from mcti.redaction import hashed
from mcti.registry import dossier as page
from mcti.registry import evidence, ledger, models, tracking
from mcti.registry.dossier import Dossier, Facts
from mcti.steps.result import StepResult
from mcti.storage import Location

_EXAMPLES = 3


class DossierResult(StepResult):
    """The two files; `gaps` counts what only people can fill in."""

    name: str
    version: int
    gaps: int
    answered: int
    partly: int
    open: int


def dossier(uri: str, out: Path, *, explanations: Location | None = None) -> DossierResult:
    """Write the release dossier of a registered version.

    Reads   uri (models:/NAME@ALIAS or models:/NAME/VERSION), its run's card, evaluation and figures, the ledger;
            explanations/contributions.csv of `mcti explain` (None: a gap)
    Writes  out (one self-contained HTML page) and, beside it, the same as JSON with the SBOM
    Raises  UsageError for another kind of address; DataError when there is no such version, or it was registered
            before versions had cards
    """
    _, alias, _ = models.parse_address(uri)
    with tracking.service() as client, tempfile.TemporaryDirectory(prefix="mcti-dossier-") as scratch:
        version = models.version_at(client, uri)
        run_id, folder = models.run_of(version), Path(scratch)
        pictures = {path.stem: path.read_bytes() for path in _figures(run_id, folder)}
        card, sbom = (
            storage.read_json(evidence.fetch(run_id, name, folder, "card")) for name in ("card.json", "sbom.json")
        )
        facts = Facts(
            version=int(version.version),
            alias=alias,
            card=card,
            metrics=storage.read_json(evidence.fetch(run_id, "metrics.json", folder)),
            evaluated=storage.read_json(evidence.fetch(run_id, "result.json", folder)),
            sbom=sbom,
            lines=tuple(ledger.read(version.name)),
            figures=tuple(sorted(pictures)),
            explained=() if explanations is None else _examples(explanations),
        )
    made = Dossier.of(facts)
    storage.write_text(out, page.html(made, pictures))
    storage.write_json(out.with_suffix(".json"), made.model_dump(mode="json"))
    states = [answer.state for answer in made.answers]
    return DossierResult(
        name=made.name,
        version=made.version,
        gaps=sum(len(section.gaps) for section in made.sections),
        answered=states.count("answered"),
        partly=states.count("partly"),
        open=states.count("gap"),
    )


def _figures(run_id: str, scratch: Path) -> list[Path]:
    if "figures" not in evidence.names(run_id):
        return []
    return sorted(evidence.fetch(run_id, "figures", scratch).glob("*.svg"))


def _examples(explanations: Location) -> tuple[dict[str, str], ...]:
    with storage.local_copy(storage.join(explanations, "contributions.csv")) as path:
        rows = pd.read_csv(path, dtype=str, keep_default_na=False).head(_EXAMPLES)
    rows["patient_id"] = [hashed(patient)[:12] for patient in rows["patient_id"]]
    return tuple({str(name): _short(str(value)) for name, value in row.items()} for row in rows.to_dict("records"))


def _short(text: str) -> str:
    """A number with four digits, as many as a reader compares; any other text as it is."""
    try:
        return f"{float(text):.4g}"
    except ValueError:
        return text
