"""The prediction of one patient as a self-contained page: curve, flags, what the risk consists of where it is known."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from mcti import redaction, storage
from mcti.explanation import drawing
from mcti.explanation.patient_context import UNKNOWN, About
from mcti.storage import Location

ALONE = "One model speaks alone for this patient: how sure it is cannot be told from others."
PARTS = (
    "The parts add up to this risk less that of the baseline, every gene at its training mean and no tile heard. "
    "Positive ones stand for an earlier event. They describe the model, not the biology."
)
_GROUPS, _GENES = 3, 8
_WIDTH, _HEIGHT, _LEFT, _BASE = 420.0, 220.0, 44.0, 28.0


@dataclass
class Told:
    """What `mcti explain` says of a patient. parts: slides, genes, clinical; groups: genes of the tokens with the
    largest parts, by model and group; maps: (slide, picture of its tiles as a data: address)."""

    parts: list[tuple[str, float]] = field(default_factory=list)
    tokens: dict[tuple[str, str], float] = field(default_factory=dict)
    genes: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    maps: list[tuple[str, str]] = field(default_factory=list)

    @property
    def groups(self) -> list[tuple[str, float, str]]:
        """(model and group, part, genes) of the gene groups with the largest parts."""
        ranked = sorted(
            ((self.tokens.get(key, 0.0), key) for key in self.genes), key=lambda pair: (-abs(pair[0]), pair[1])
        )
        return [(f"{m}, {g}", part, ", ".join(self.genes[m, g][:_GENES])) for part, (m, g) in ranked[:_GROUPS]]


def read(explanation: Location) -> dict[str, Told]:
    """{patient_id: what `mcti explain` wrote of them} from its folder.

    Raises
        DataError: a file is missing, or not the one that `mcti explain` writes.
    """
    found: dict[str, Told] = {}
    for row in _rows(explanation, "contributions.csv"):
        parts = [(name, float(row[name])) for name in ("slides", "genes", "clinical")]
        found[row["patient_id"]] = Told(parts=parts)
    for row in _rows(explanation, "tokens.csv"):
        found[row["patient_id"]].tokens[row["model"], row["token"]] = float(row["contribution"])
    for row in _rows(explanation, "gene_groups.csv"):
        found[row["patient_id"]].genes.setdefault((row["model"], row["group"]), []).append(row["gene"])
    return found


def add_maps(told: Told, explanation: Location, slides: Sequence[str]) -> None:
    """Maps of these slides, where `mcti explain` wrote their tiles."""
    import numpy as np

    for slide in slides:
        names = dict.fromkeys((slide, redaction.text(slide)))  # explained without --redact, or with
        there = [name for name in names if storage.exists(storage.join(explanation, "tiles", f"{name}.csv"))]
        if there:
            rows = list(_rows(explanation, f"tiles/{there[0]}.csv"))
            coords = np.array([[int(row["x"]), int(row["y"])] for row in rows])
            picture = drawing.tile_map(coords, np.array([float(row["score"]) for row in rows]))
            told.maps.append((redaction.text(slide), picture))


def render(row: Mapping[str, Any], notice: str, told: Told | None, about: About = UNKNOWN) -> str:
    """The page of one row of `mcti predict`; told None: nothing explains it; about: cohort, endpoint, date, place."""
    from jinja2 import Environment
    from markupsafe import Markup

    source = resources.files("mcti.explanation").joinpath("patient.html").read_text(encoding="utf-8")
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(source)
    return page.render(
        row=row,
        notice=notice,
        about=about,
        points=points(row),
        alone=ALONE if is_alone(row) else "",
        speaker=speaker(row),
        likeness=likeness(row),
        lacking=lacking(row),
        about_parts=PARTS,
        curve=Markup(curve(row, about.curve)),  # noqa: S704  (numbers of ours alone)
        parts=Markup(drawing.parts(told.parts, "Part of each modality")) if told else "",  # noqa: S704
        told=told,
    )


def speaker(row: Mapping[str, Any]) -> str:
    """Who predicts the patient, in words."""
    name = str(row["model"])
    if name.startswith("fold_"):
        return f"{name}, which did not see this patient of the development cohort in training"
    return {"ensemble": "the mean of all fold models", "refit": "the refit on all patients"}.get(name, name)


def likeness(row: Mapping[str, Any]) -> str:
    """How far the patient is from the training patients; empty where the model does not know."""
    score = row["ood_score"]
    if score is None or math.isnan(score):
        return ""
    far = (
        "unlike the training patients, the prediction rests on extrapolation" if score > 1 else "no further than usual"
    )
    return f"Distance from the training patients {score:.2f} of the limit of 1: {far}."


def lacking(row: Mapping[str, Any]) -> str:
    """What there is nothing of; empty where all is there."""
    gone = row["missing"].replace("+", " and ") if row["missing"] else ""
    return f"Without {gone}: the model used what it learned in place of them." if gone else ""


def curve(row: Mapping[str, Any], cohort: Mapping[float, float] | None = None) -> str:
    """S(t) at the horizons with the span of the members, as SVG; cohort {months: share}: the cohort's curve, dashed."""
    known = [(0.0, 1.0, 1.0, 1.0), *points(row)]
    last = known[-1][0] or 1.0

    def place(months: float, survival: float) -> str:
        x = _LEFT + months / last * (_WIDTH - _LEFT - 8)
        return f"{x:.1f},{_HEIGHT - _BASE - survival * (_HEIGHT - _BASE - 8):.1f}"

    line = " ".join(place(m, s) for m, s, _, _ in known)
    of_all = [(0.0, 1.0), *((m, s) for m, s in sorted((cohort or {}).items()) if m <= last)]
    dashed = "" if len(of_all) < 2 else f'<polyline class="cohort" points="{" ".join(place(*at) for at in of_all)}"/>'
    band = " ".join([*(place(m, h) for m, _, _, h in known), *(place(m, low) for m, _, low, _ in reversed(known))])
    marks = []
    for months, survival, _, _ in known:
        x, y = place(months, survival).split(",")
        words, place_of = (f"{months:g} months", "end") if months == last else (f"{months:g}", "mid")
        marks.append(f'<circle cx="{x}" cy="{y}" r="3"/>')
        marks.append(f'<text x="{x}" y="{_HEIGHT - 8}" class="{place_of}">{words}</text>')
    for share in (0.0, 0.5, 1.0):
        x, y = place(0, share).split(",")
        marks.append(f'<text x="{float(x) - 8:.1f}" y="{float(y) + 4:.1f}" class="end">{share:g}</text>')
        marks.append(f'<line class="axis" x1="{x}" x2="{_WIDTH - 8}" y1="{y}" y2="{y}"/>')
    return (
        f'<svg viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img" aria-label="Predicted survival over months">'
        f'{"".join(m for m in marks if m.startswith("<line"))}<polygon class="band" points="{band}"/>'
        f'{dashed}<polyline points="{line}"/>{"".join(marks)}</svg>'
    )


def is_alone(row: Mapping[str, Any]) -> bool:
    """Whether one member speaks for the patient: there is no span to show."""
    return all(low == high for _, _, low, high in points(row))


def points(row: Mapping[str, Any]) -> list[tuple[float, float, float, float]]:
    """(months, S, lowest, highest member) by month; one member alone has no span."""
    found = []
    for name, value in row.items():
        months = name.removeprefix("S_")
        if name.startswith("S_") and not months.endswith(("_low", "_high")):
            low, high = (value if row.get(f"{name}_{end}") is None else row[f"{name}_{end}"] for end in ("low", "high"))
            if not any(math.isnan(v) for v in (value, low, high)):
                found.append((float(months), value, low, high))
    return sorted(found)


def _rows(explanation: Location, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(storage.read_bytes(storage.join(explanation, name)).decode("utf-8"))))
