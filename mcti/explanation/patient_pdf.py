"""The report of one patient as PDF, A4: the content of the HTML page, for use without a browser."""

import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from mcti.explanation import figures, patient_html
from mcti.explanation.figures import LINE, MUTED, Rgba
from mcti.explanation.patient_context import NO_CONTEXT, PredictionContext
from mcti.explanation.patient_html import PatientExplanation

_A4 = (8.27, 11.69)  # inches
_LEFT, _WIDTH, _LINE_HEIGHT = 0.09, 0.82, 0.017  # shares of the page
_RED, _AMBER = "#b2182b", "#8a5a00"
_MAPS_PER_ROW = 2
"""Tile maps on the first page; the others follow on further pages of three rows."""
_ROWS_PER_PAGE = 3
_CHARACTERS = 94
"""Characters of a line of text at 10 points."""


def pdf(
    row: Mapping[str, Any],
    notice: str,
    explanation: PatientExplanation | None,
    context: PredictionContext = NO_CONTEXT,
) -> bytes:
    """The PDF of one row of `mcti predict`; explanation None: without contributions. Equal rows give equal bytes."""
    from matplotlib.backends.backend_pdf import PdfPages
    from matplotlib.figure import Figure

    stream = io.BytesIO()
    # No date and no version: the file depends on its content only.
    metadata = {"Creator": None, "Producer": None, "CreationDate": None, "Title": f"Prediction for {row['patient_id']}"}
    maps = explanation.maps if explanation else []
    with PdfPages(stream, metadata=metadata) as file:
        page = Figure(figsize=_A4)
        bottom = _header(page, row, notice, context)
        bottom = _curve(page, row, bottom, context)
        if explanation:
            bottom = _contributions(page, explanation, bottom)
            _maps(page, maps[:_MAPS_PER_ROW], bottom)
        file.savefig(page)
        per_page = _MAPS_PER_ROW * _ROWS_PER_PAGE
        for start in range(_MAPS_PER_ROW, len(maps), per_page):
            page = Figure(figsize=_A4)
            for line, first in enumerate(range(start, min(start + per_page, len(maps)), _MAPS_PER_ROW)):
                _maps(page, maps[first : first + _MAPS_PER_ROW], 0.95 - line * 0.3)
            file.savefig(page)
    return stream.getvalue()


def _text(page: Any, text: str, top: float, *, size: float = 10, color: str = "black", weight: str = "normal") -> float:
    """Write wrapped text from the left margin; returns the top of the next text. `$` does not start mathematics."""
    lines = textwrap.wrap(text, round(_CHARACTERS * 10 / size)) or [""]
    page.text(
        _LEFT, top, "\n".join(lines), va="top", fontsize=size, color=color, weight=weight, parse_math=False,
        linespacing=1.25,
    )  # fmt: skip
    return top - _LINE_HEIGHT * size / 10 * len(lines)


def _header(page: Any, row: Mapping[str, Any], notice: str, context: PredictionContext) -> float:
    top = _text(page, f"Patient {row['patient_id']}", 0.95, size=17, weight="bold") - 0.004
    model = f"Model {row['digest']}, predicted by {patient_html.model_name(row)}."
    disclaimer = "For research; not a medical device, no treatment advice."
    top = _text(page, f"{model} {disclaimer}", top, size=9, color=MUTED)
    if origin := context.origin_sentence():
        top = _text(page, origin, top, size=9, color=MUTED)
    if notice:
        top = _text(page, notice, top - 0.004, color=_AMBER, weight="bold")
    if distance := patient_html.distance_sentence(row):
        top = _text(page, distance, top - 0.004, color=_AMBER if row["out_of_distribution"] else MUTED)
    if missing := patient_html.missing_sentence(row):
        top = _text(page, missing, top - 0.004, color=_AMBER)
    limits = "by the out-of-fold risks of the training patients"
    group = f", group {row['risk_group']} {limits}" if row["risk_group"] else ""
    risk = f"Risk {row['risk']:.4f} (higher: earlier event; comparable within this model only){group}."
    return _text(page, f"{risk} {context.percentile_sentence()}".strip(), top - 0.006)


def _curve(page: Any, row: Mapping[str, Any], top: float, context: PredictionContext) -> float:
    points = patient_html.survival_points(row)
    top = _text(page, "Predicted survival", top - 0.014, size=12, weight="bold")
    axes = page.add_axes((_LEFT + 0.03, top - 0.205, 0.5, 0.19))
    figures.draw_survival(axes, points, context.curve)
    for line, (month, value, least, most) in enumerate(points):
        span = "one member" if least == most else f"{least:.3f} to {most:.3f}"
        note = ", extrapolated" if context.is_extrapolated(month) else ""
        page.text(0.66, top - 0.03 - line * _LINE_HEIGHT, f"{month:g} months: {value:.3f} ({span}{note})", fontsize=9)
    caption = "Band: lowest to highest member of the ensemble; their disagreement, not a confidence interval."
    if patient_html.has_single_member(row):
        caption = patient_html.SINGLE_MEMBER
    caption += " Dashed: the development cohort (Kaplan-Meier)." if context.curve else ""
    top = _text(page, caption, top - 0.245, size=8.5, color=MUTED)
    if incidence := patient_html.incidence_sentence(row):
        top = _text(page, incidence, top - 0.002, size=9)
    return top


def _contributions(page: Any, explanation: PatientExplanation, top: float) -> float:
    top = _text(page, "Contributions to the risk", top - 0.014, size=12, weight="bold")
    names, values = zip(*explanation.contributions, strict=True)
    axes = page.add_axes((_LEFT + 0.08, top - 0.085, 0.5, 0.075))
    axes.barh(names, values, color=[_RED if value >= 0 else LINE for value in values])
    axes.invert_yaxis()
    axes.axvline(0, color=MUTED, linewidth=0.8)
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
    axes.tick_params(length=0, labelsize=9, labelbottom=False)
    for line, value in enumerate(values):
        page.text(0.7, top - 0.026 - line * 0.0235, f"{value:+.4f}", fontsize=9)
    top -= 0.1
    for name, contribution, genes in explanation.groups:
        top = _text(page, f"{name} ({contribution:+.4f}): {genes}", top, size=9)
    return _text(page, patient_html.CONTRIBUTIONS, top - 0.002, size=8.5, color=MUTED)


def _maps(page: Any, maps: Sequence[tuple[str, Rgba]], top: float) -> None:
    """Tile maps side by side below `top`."""
    for column, (slide, pixels) in enumerate(maps):
        left = _LEFT + column * _WIDTH / _MAPS_PER_ROW
        axes = page.add_axes((left, top - 0.245, _WIDTH / _MAPS_PER_ROW - 0.02, 0.22))
        axes.imshow(pixels, interpolation="nearest", aspect="equal")
        axes.set_axis_off()
        caption = textwrap.shorten(f"{slide}: red tiles raise the risk, blue ones lower it", 62)
        page.text(left, top - 0.262, caption, fontsize=8, color=MUTED, parse_math=False)
