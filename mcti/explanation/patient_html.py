"""The prediction of one patient as a self-contained HTML page: curve, warnings, and contributions where explained."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mcti import redaction, storage
from mcti.explanation import figures
from mcti.explanation.figures import Rgba
from mcti.explanation.labels import model_label, token_label
from mcti.explanation.patient_context import NO_CONTEXT, PredictionContext
from mcti.explanation.templates import template
from mcti.storage import Location

SINGLE_MEMBER = "A single model predicts this patient, so there is no range over several models."
CONTRIBUTIONS = (
    "The contributions add up to this risk minus the baseline risk (every gene at its training mean, no tile). A "
    "positive contribution means an earlier event. They describe the model, not the biology."
)
_SHOWN_GROUPS, _SHOWN_GENES = 3, 8


@dataclass
class PatientExplanation:
    """What `mcti explain` computed for one patient.

    contributions  (slides | genes | clinical, contribution)
    tokens {(model, token): contribution};  genes {(model, group): genes of the group}
    maps           (slide_id, pixels of the tile map)
    """

    contributions: list[tuple[str, float]] = field(default_factory=list)
    tokens: dict[tuple[str, str], float] = field(default_factory=dict)
    genes: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    maps: list[tuple[str, Rgba]] = field(default_factory=list)

    @property
    def groups(self) -> list[tuple[str, float, str]]:
        """(model and group, contribution in the unit of the risk, genes) of the groups that contribute most."""
        ranked = sorted(
            ((self.tokens.get(key, 0.0), key) for key in self.genes), key=lambda pair: (-abs(pair[0]), pair[1])
        )
        return [
            (
                f"{model_label(model)}, {token_label(group)}",
                contribution,
                ", ".join(self.genes[model, group][:_SHOWN_GENES]),
            )
            for contribution, (model, group) in ranked[:_SHOWN_GROUPS]
        ]


def read(explanation: Location) -> dict[str, PatientExplanation]:
    """{patient_id: explanation} of the output folder of `mcti explain`, without tile maps.

    Raises
        DataError when a file is missing
    """
    patients: dict[str, PatientExplanation] = {}
    for row in _rows(explanation, "contributions.csv"):
        contributions = [(name, float(row[name])) for name in ("slides", "genes", "clinical")]
        patients[row["patient_id"]] = PatientExplanation(contributions=contributions)
    for row in _rows(explanation, "tokens.csv"):
        patients[row["patient_id"]].tokens[row["model"], row["token"]] = float(row["contribution"])
    for row in _rows(explanation, "gene_groups.csv"):
        patients[row["patient_id"]].genes.setdefault((row["model"], row["group"]), []).append(row["gene"])
    return patients


def add_maps(patient: PatientExplanation, explanation: Location, slides: Sequence[str]) -> None:
    """Add the tile map of each of these slides that has a file in `explanation`."""
    import numpy as np

    for slide in slides:
        names = dict.fromkeys((slide, redaction.text(slide)))  # explained without --redact, or with it
        existing = [name for name in names if storage.exists(storage.join(explanation, "tiles", f"{name}.csv"))]
        if existing:
            rows = list(_rows(explanation, f"tiles/{existing[0]}.csv"))
            coordinates = np.array([[int(row["x"]), int(row["y"])] for row in rows])
            scores = np.array([float(row["score"]) for row in rows])
            patient.maps.append((redaction.text(slide), figures.tile_map(coordinates, scores)))


def render(
    row: Mapping[str, Any],
    notice: str,
    explanation: PatientExplanation | None,
    context: PredictionContext = NO_CONTEXT,
) -> str:
    """The HTML page of one row of `mcti predict`; explanation None: without contributions."""
    from markupsafe import Markup

    return template("patient.html").render(
        row=row,
        notice=notice,
        context=context,
        points=survival_points(row),
        incidence=incidence_sentence(row),
        single_member=SINGLE_MEMBER if has_single_member(row) else "",
        model=model_name(row),
        distance=distance_sentence(row),
        missing=missing_sentence(row),
        contributions_note=CONTRIBUTIONS,
        curve=Markup(figures.survival_svg(survival_points(row), context.curve)),  # noqa: S704  (our own numbers)
        explanation=explanation,
        maps=[(slide, figures.png_address(pixels)) for slide, pixels in explanation.maps] if explanation else [],
    )


def model_name(row: Mapping[str, Any]) -> str:
    """The model that predicts the patient, in words."""
    name = str(row["model"])
    if name.startswith("fold_"):
        return f"the model of {model_label(name)}, which was trained without this patient of the development cohort"
    return {"ensemble": "the mean of all fold models", "refit": "the refit on all patients"}.get(name, name)


def distance_sentence(row: Mapping[str, Any]) -> str:
    """The distance of the patient from the training patients; empty where the model has no reference."""
    score = row["ood_score"]
    if score is None or math.isnan(score):
        return ""
    meaning = (
        "the patient differs from the training patients, so the prediction is an extrapolation"
        if score > 1
        else "within the usual range"
    )
    return f"Distance from the training patients: {score:.2f} of the limit of 1; {meaning}."


def missing_sentence(row: Mapping[str, Any]) -> str:
    """The missing modalities; empty where none is missing."""
    modalities = row["missing"].replace("+", " and ") if row["missing"] else ""
    return f"Without {modalities}: the model used its learned substitute." if modalities else ""


def has_single_member(row: Mapping[str, Any]) -> bool:
    """Whether a single model predicts the patient, so that there is no range."""
    return all(low == high for _, _, low, high in survival_points(row))


def incidence_sentence(row: Mapping[str, Any]) -> str:
    """The cumulative incidence by month, and what S(t) means then; empty for a model without competing events."""
    values = [
        f"{value:.3f} by {months:g} months" + ("" if low == high else f" (members {low:.3f} to {high:.3f})")
        for months, value, low, high in survival_points(row, "F_")
    ]
    if not values:
        return ""
    return (
        f"Probability of the event, where a competing event may come first: {', '.join(values)}. S(t) is "
        "cause-specific: 1 - S(t) is larger than this probability."
    )


def survival_points(row: Mapping[str, Any], prefix: str = "S_") -> list[tuple[float, float, float, float]]:
    """(months, S, lowest member, highest member) by month; for a single model all three are equal.

    prefix  of the columns: S_, or F_ for the cumulative incidence
    """
    points = []
    for name, value in row.items():
        months = name.removeprefix(prefix)
        if name.startswith(prefix) and not months.endswith(("_low", "_high")):
            low, high = (value if row.get(f"{name}_{end}") is None else row[f"{name}_{end}"] for end in ("low", "high"))
            if not any(math.isnan(v) for v in (value, low, high)):
                points.append((float(months), value, low, high))
    return sorted(points)


def _rows(explanation: Location, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(storage.read_bytes(storage.join(explanation, name)).decode("utf-8"))))
