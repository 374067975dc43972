"""The page of one patient as PDF, A4: the numbers and drawings of the HTML page, for a file that knows no browser."""

import base64
import io
import textwrap
from collections.abc import Mapping
from typing import Any

from mcti.explanation import patient_html
from mcti.explanation.patient_context import UNKNOWN, About
from mcti.explanation.patient_html import Told

_A4 = (8.27, 11.69)
_LEFT, _WIDE, _LINE = 0.09, 0.82, 0.017
_BLUE, _RED, _GREY, _AMBER = "#0b5cad", "#b2182b", "#59636e", "#8a5a00"
_MAPS = 2
"""Maps of slides on the first sheet; the others follow, six a sheet."""


def pdf(row: Mapping[str, Any], notice: str, told: Told | None, about: About = UNKNOWN) -> bytes:
    """The sheets of one row of `mcti predict`; told None: nothing explains it. The same row gives the same bytes."""
    from matplotlib.backends.backend_pdf import PdfPages
    from matplotlib.figure import Figure

    stream = io.BytesIO()
    # Neither date nor version: the file is a function of what it shows.
    facts = {"Creator": None, "Producer": None, "CreationDate": None, "Title": f"Prediction for {row['patient_id']}"}
    with PdfPages(stream, metadata=facts) as file:
        sheet = Figure(figsize=_A4)
        foot = _head(sheet, row, notice, about)
        foot = _curve(sheet, row, foot, about)
        maps = told.maps if told else []
        if told:
            foot = _parts(sheet, told, foot)
            _pictures(sheet, maps[:_MAPS], foot)
        file.savefig(sheet)
        for start in range(_MAPS, len(maps), 6):
            sheet = Figure(figsize=_A4)
            for number in range(start, min(start + 6, len(maps)), _MAPS):
                _pictures(sheet, maps[number : number + _MAPS], 0.95 - (number - start) / _MAPS * 0.3)
            file.savefig(sheet)
    return stream.getvalue()


def _say(sheet: Any, text: str, top: float, *, size: float = 10, color: str = "black", weight: str = "normal") -> float:
    """Text from the left edge, wrapped; where the next may begin. A `$` in it is a dollar, not mathematics."""
    lines = textwrap.wrap(text, round(94 * 10 / size)) or [""]
    sheet.text(
        _LEFT, top, "\n".join(lines), va="top", fontsize=size, color=color, weight=weight, parse_math=False,
        linespacing=1.25,
    )  # fmt: skip
    return top - _LINE * size / 10 * len(lines)


def _head(sheet: Any, row: Mapping[str, Any], notice: str, about: About) -> float:
    top = _say(sheet, f"Patient {row['patient_id']}", 0.95, size=17, weight="bold") - 0.004
    model = f"Model {row['digest']}, predicted by {patient_html.speaker(row)}."
    disclaimer = "For research; no device, no advice for treatment."
    top = _say(sheet, f"{model} {disclaimer}", top, size=9, color=_GREY)
    if about != UNKNOWN:
        top = _say(sheet, about.headline(), top, size=9, color=_GREY)
    if notice:
        top = _say(sheet, notice, top - 0.004, color=_AMBER, weight="bold")
    if likeness := patient_html.likeness(row):
        top = _say(sheet, likeness, top - 0.004, color=_AMBER if row["out_of_distribution"] else _GREY)
    if lacking := patient_html.lacking(row):
        top = _say(sheet, lacking, top - 0.004, color=_AMBER)
    by = "by the out-of-fold risks of the training patients"
    group = f", group {row['risk_group']} {by}" if row["risk_group"] else ""
    risk = f"Risk {row['risk']:.4f} (higher: earlier event; within this model only){group}. {about.place()}".strip()
    return _say(sheet, risk, top - 0.006)


def _curve(sheet: Any, row: Mapping[str, Any], top: float, about: About) -> float:
    points = [(0.0, 1.0, 1.0, 1.0), *patient_html.points(row)]
    months, survival, low, high = zip(*points, strict=True)
    top = _say(sheet, "Predicted survival", top - 0.014, size=12, weight="bold")
    axes = sheet.add_axes((_LEFT + 0.03, top - 0.205, 0.5, 0.19))
    axes.fill_between(months, low, high, color=_BLUE, alpha=0.18, linewidth=0)
    if about.curve:
        of_all = [(0.0, 1.0), *((m, s) for m, s in sorted(about.curve.items()) if m <= months[-1])]
        axes.plot(*zip(*of_all, strict=True), color=_GREY, linestyle="--", linewidth=1.2)
    axes.plot(months, survival, color=_BLUE, marker="o", markersize=4)
    axes.set(ylim=(0, 1.03), xlim=(0, months[-1] or 1), xlabel="months", xticks=months)
    axes.spines[["top", "right"]].set_visible(False)
    for line, (month, value, least, most) in enumerate(points[1:]):
        span = "one member" if least == most else f"{least:.3f} to {most:.3f}"
        far = ", extrapolated" if about.beyond(month) else ""
        sheet.text(0.66, top - 0.03 - line * _LINE, f"{month:g} months: {value:.3f} ({span}{far})", fontsize=9)
    words = "Band: lowest to highest member of the ensemble; their disagreement, not a confidence interval."
    if patient_html.is_alone(row):
        words = patient_html.ALONE
    words += " Dashed: the development cohort (Kaplan-Meier)." if about.curve else ""
    return _say(sheet, words, top - 0.245, size=8.5, color=_GREY)


def _parts(sheet: Any, told: Told, top: float) -> float:
    top = _say(sheet, "What the risk consists of", top - 0.014, size=12, weight="bold")
    names, values = zip(*told.parts, strict=True)
    axes = sheet.add_axes((_LEFT + 0.08, top - 0.085, 0.5, 0.075))
    axes.barh(names, values, color=[_RED if value >= 0 else _BLUE for value in values])
    axes.invert_yaxis()
    axes.axvline(0, color=_GREY, linewidth=0.8)
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
    axes.tick_params(length=0, labelsize=9, labelbottom=False)
    for line, value in enumerate(values):
        sheet.text(0.7, top - 0.026 - line * 0.0235, f"{value:+.4f}", fontsize=9)
    top -= 0.1
    for name, part, genes in told.groups:
        top = _say(sheet, f"{name} ({part:+.4f}): {genes}", top, size=9)
    return _say(sheet, patient_html.PARTS, top - 0.002, size=8.5, color=_GREY)


def _pictures(sheet: Any, maps: list[tuple[str, str]], top: float) -> None:
    """Maps side by side below `top`."""
    from PIL import Image

    for place, (slide, address) in enumerate(maps):
        picture = Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))
        axes = sheet.add_axes((_LEFT + place * _WIDE / 2, top - 0.245, _WIDE / 2 - 0.02, 0.22))
        axes.imshow(picture, interpolation="nearest", aspect="equal")
        axes.set_axis_off()
        words = f"{slide}: red tiles raise the risk, blue ones lower it"
        sheet.text(
            _LEFT + place * _WIDE / 2, top - 0.262, textwrap.shorten(words, 62), fontsize=8, color=_GREY,
            parse_math=False,
        )  # fmt: skip
