"""Figures of the validation report as SVG: the same numbers give the same bytes.

The colours are CSS variables of the page, so that the figures follow its light, dark and print styles. Names in the
data are drawn as plain text (no math text) and escaped by matplotlib.
"""

import io
import re
from collections.abc import Callable, Sequence
from html import escape
from itertools import pairwise
from textwrap import fill
from typing import Any

import numpy as np

from mcti.arrays import FloatArray

WIDTH = 360  # points: the width of a phone; larger pages scale the figures up
LABEL_CHARACTERS = 26  # of one line of a bar's name
BOX_CHARACTERS = 30  # of one line in a box of the patient flow
_LINE = 12.0  # points, height of a line of text

# matplotlib writes colours as hex numbers: these are replaced by the CSS variables of report.html.
_INK, _SOFT, _RULE, _PANEL, _FIRST, _SECOND, _TOTAL = (f"#0{i}0203" for i in range(1, 8))
_VARIABLES = {_INK: "ink", _SOFT: "soft", _RULE: "rule", _PANEL: "panel", _FIRST: "first", _SECOND: "second"}
_VARIABLES |= {_TOTAL: "total"}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": _INK,
    "text.parse_math": False,
    "axes.edgecolor": _SOFT,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.frameon": False,
    "savefig.transparent": True,
    "figure.constrained_layout.use": True,
}


def curves(named: Sequence[tuple[str, FloatArray, FloatArray]], x_label: str, y_label: str, title: str) -> str:
    """Falling step curves from 1, such as Kaplan-Meier curves; each is (name, months (t,), share (t,))."""

    def plot(axes: Any) -> None:
        styles = zip((_FIRST, _SECOND), ("-", "--"), strict=True)
        for (name, months, share), (colour, dash) in zip(named, styles, strict=False):
            axes.step([0.0, *months], [1.0, *share], where="post", color=colour, linestyle=dash, label=name)
        last = max(float(months[-1]) for _, months, _ in named)
        axes.set(xlabel=x_label, ylabel=y_label, xlim=(0, last or 1.0), ylim=(0, 1.02), yticks=(0, 0.5, 1))
        axes.legend(loc="upper right")

    return _draw(title, 220, plot)


def bars(names: Sequence[str], totals: Sequence[float], parts: Sequence[float] | None, title: str, unit: str) -> str:
    """Horizontal bars with their numbers; `parts` is the dark share of each bar, such as events of patients."""
    labels = [fill(name, LABEL_CHARACTERS) for name in names]
    heights = np.array([label.count("\n") + 1.5 for label in labels])  # lines of text, and a gap
    centres = heights.cumsum() - heights / 2
    numbers = [f"{total:g}{unit}" for total in totals]
    if parts is not None:
        numbers = [f"{part:g} / {total:g}" for part, total in zip(parts, totals, strict=True)]

    def plot(axes: Any) -> None:
        drawn = axes.barh(centres, totals, height=1.0, color=_TOTAL)
        axes.bar_label(drawn, labels=numbers, padding=3)
        if parts is not None:
            axes.barh(centres, parts, height=1.0, color=_FIRST)
        axes.set(xlim=(0, 1.35 * (max(totals, default=0) or 1)), xticks=[], ylim=(heights.sum(), 0))
        axes.set_yticks(centres, labels)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)

    return _draw(title, _LINE * heights.sum() + 8, plot)


def histogram(values: FloatArray, title: str) -> str:
    """Patients by a whole number such as their slides or patches (n,); at most 12 bars."""
    edges = np.unique(np.linspace(values.min(), values.max() + 1, 13).round()) if len(values) else np.array([0.0, 1.0])
    counts, _ = np.histogram(values, bins=edges)
    names = [f"{a:g}" if b - a <= 1 else f"{a:g}-{b - 1:g}" for a, b in pairwise(edges)]
    return bars(names, [float(count) for count in counts], None, title, "")


def flow(start: tuple[str, int], excluded: Sequence[tuple[str, int]], end: tuple[str, int], title: str) -> str:
    """The flow of the patients as in a CONSORT diagram: all patients, the excluded ones by reason, those who remain."""
    step = 56.0
    bottom = step * (len(excluded) + 1)

    def plot(axes: Any) -> None:
        axes.set(xlim=(0, WIDTH), ylim=(bottom + 24, -24))
        axes.axis("off")
        axes.plot([90, 90], [0, bottom], color=_SOFT, linewidth=1, zorder=0)
        boxes = [(90.0, 0.0, start), (90.0, bottom, end)]
        for i, reason in enumerate(excluded, start=1):
            axes.plot([90, 268], [step * i, step * i], color=_SOFT, linewidth=1, zorder=0)
            boxes.append((268.0, step * i, reason))
        frame = {"boxstyle": "round,pad=0.4", "facecolor": _PANEL, "edgecolor": _RULE}
        for x, y, (label, count) in boxes:
            text = f"{fill(label, BOX_CHARACTERS)}\n{count}"
            axes.text(x, y, text, ha="center", va="center", bbox=frame)

    return _draw(title, bottom + 56, plot)


def _draw(title: str, height: float, plot: Callable[[Any], None]) -> str:
    """The SVG of a figure of WIDTH x `height` points that `plot` draws on its axes."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    stream = io.StringIO()
    with mpl.rc_context({**_STYLE, "svg.hashsalt": title}):
        figure = Figure(figsize=(WIDTH / 72, height / 72))
        plot(figure.subplots())
        # Without a date and a version, which would change the bytes.
        metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(stream, format="svg", metadata=metadata)
    svg = stream.getvalue()
    # Inside HTML, SVG needs neither a document type nor namespaces.
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg[svg.index("<svg") :])
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    # Ids are unique within one figure only, and the page contains several.
    prefix, name = re.sub(r"\W+", "-", title.casefold()), escape(title)
    svg = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{prefix}-", svg)
    return re.sub(r"<svg ([^>]*)>", rf'<svg role="img" aria-label="{name}" \1><title>{name}</title>', svg, count=1)
