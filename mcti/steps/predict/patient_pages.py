"""A page a patient: the rows of `mcti predict` with what the model's folder tells of its development cohort."""

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mcti import redaction, storage
from mcti.explanation import patient_html, patient_pdf
from mcti.explanation.patient_context import About
from mcti.registry.ensemble import Ensemble
from mcti.storage import Location

LEVELS = 100
"""The percentile is looked up in steps of one of so many."""


def write(
    rows: Sequence[Mapping[str, Any]],
    pages: Path,
    development: About,
    loaded: Ensemble,
    explanation: Location | None,
    notice: str,
    slides: Mapping[str, Sequence[str]],
    *,
    pdf: bool,
) -> None:
    """A page a patient, all of them or none; `development`: what `development_of` found, without a percentile."""
    import dataclasses

    found = patient_html.read(explanation) if explanation is not None else {}
    with storage.replacing(pages) as draft:
        draft.mkdir()
        for row in rows:
            name = str(row["patient_id"])
            shown = redaction.redact_id(name)
            told = found.get(name, found.get(redaction.hashed(name)))  # explained with --redact, or without
            if explanation is not None and told is not None:
                patient_html.add_maps(told, explanation, slides.get(name, ()))
            about = dataclasses.replace(development, percentile=loaded.percentile(name, float(row["risk"]), LEVELS))
            named = {**row, "patient_id": shown}
            (draft / f"{shown}.html").write_text(patient_html.render(named, notice, told, about), encoding="utf-8")
            if pdf:
                (draft / f"{shown}.pdf").write_bytes(patient_pdf.pdf(named, notice, told, about))


def development_of(folder: Path, model: str) -> About:
    """Cohort, endpoint, curve and follow-up from the model.json of the members; the curve is their mean.

    folder  of the ensemble;  model  as the user named it, of which the last part is shown
    """
    specs = [storage.read_json(file) for file in sorted(folder.glob("fold_*/model.json"))]
    known = [spec["cohort"] for spec in specs if spec.get("cohort")]
    edges = [float(spec["fitted"]["edges_months"][-1]) for spec in specs]
    first: Mapping[str, Any] = known[0] if known else {}
    months = [float(month) for month in first.get("survival", {})]
    curve = {}
    for month in months:
        values = [one["survival"].get(f"{month:g}") for one in known]
        if all(value is not None for value in values):
            curve[month] = sum(values) / len(values)
    return About(
        model=model if model.startswith("models:/") else Path(model).name,
        cohort=str(first.get("name", "")),
        endpoint=str(first.get("endpoint", "")),
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        curve=curve,
        follow_up=min(edges) if edges else None,
    )
