"""Patient reports of `mcti predict`: the predictions with the context of the model's development cohort."""

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mcti import redaction, storage
from mcti.explanation import patient_html, patient_pdf
from mcti.explanation.patient_context import PredictionContext
from mcti.registry.ensemble import Ensemble
from mcti.storage import Location

PERCENTILE_LEVELS = 100
"""Number of steps of the percentile of a risk."""


def write(
    rows: Sequence[Mapping[str, Any]],
    pages: Path,
    development: PredictionContext,
    ensemble: Ensemble,
    explanation: Location | None,
    notice: str,
    slides: Mapping[str, Sequence[str]],
    *,
    pdf: bool,
) -> None:
    """Write pages/<patient_id>.html (and .pdf) of every row of predictions: all of them or none.

    development: the context without a percentile;  explanation: the output folder of `mcti explain`;
    slides {patient_id: slide ids}

    Raises
        DataError when a file of the explanation is missing
    """
    explanations = patient_html.read(explanation) if explanation is not None else {}
    with storage.replacing(pages) as draft:
        draft.mkdir()
        for row in rows:
            patient_id = str(row["patient_id"])
            shown_id = redaction.redact_id(patient_id)
            # explained without --redact, or with it
            explained = explanations.get(patient_id, explanations.get(redaction.hashed(patient_id)))
            if explanation is not None and explained is not None:
                patient_html.add_maps(explained, explanation, slides.get(patient_id, ()))
            percentile = ensemble.percentile(patient_id, float(row["risk"]), PERCENTILE_LEVELS)
            context = dataclasses.replace(development, percentile=percentile)
            shown = {**row, "patient_id": shown_id}
            page = patient_html.render(shown, notice, explained, context)
            (draft / f"{shown_id}.html").write_text(page, encoding="utf-8")
            if pdf:
                (draft / f"{shown_id}.pdf").write_bytes(patient_pdf.pdf(shown, notice, explained, context))


def development_context(folder: Path, model: str) -> PredictionContext:
    """Cohort, endpoint, curve and follow-up from the model.json of the members; the curve is their mean.

    folder  of the ensemble;  model  as the user specified it: a models:/ address, or a folder (its name is shown)
    """
    specs = [storage.read_json(file) for file in sorted(folder.glob("fold_*/model.json"))]
    cohorts = [spec["cohort"] for spec in specs if spec.get("cohort")]
    last_edges = [float(spec["fitted"]["edges_months"][-1]) for spec in specs]
    first: Mapping[str, Any] = cohorts[0] if cohorts else {}
    curve = {}
    for month in map(float, first.get("survival", {})):
        values = [cohort["survival"].get(f"{month:g}") for cohort in cohorts]
        if all(value is not None for value in values):
            curve[month] = sum(values) / len(values)
    return PredictionContext(
        model=model if model.startswith("models:/") else Path(model).name,
        cohort=str(first.get("name", "")),
        endpoint=str(first.get("endpoint", "")),
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        curve=curve,
        follow_up=min(last_edges) if last_edges else None,
    )
