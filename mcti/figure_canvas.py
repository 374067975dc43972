"""matplotlib figures as SVG and PNG: one style, the same bytes on every run, readable on light, dark and printed pages.

The colours can be distinguished with colour-blindness (Okabe and Ito); every line also has its own dash pattern.
"""

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b8639a", "#8a7000", "#3a8fb7", "#7a7a7a", "#a04000")
DASHES = ("-", "--", "-.", ":")
INK = "#1f2328"
"""Colour of text and axes; on a page it becomes the text colour of the page."""

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "savefig.transparent": True,
    "figure.constrained_layout.use": True,
}


@dataclass(frozen=True)
class Figure:
    """One figure: file name without suffix, title, text alternative, SVG document, PNG bytes (150 dpi).

    drawing     the figure of matplotlib
    """

    name: str
    title: str
    alt: str
    svg: str
    png: bytes
    drawing: Any = field(default=None, repr=False, compare=False)

    def inline(self) -> str:
        """The SVG element for an HTML page; text and axes take the text colour of the page."""
        return inline_svg(self.svg, self.name, self.title)


def inline_svg(svg: str, name: str, title: str, colours: Mapping[str, str] | None = None) -> str:
    """The SVG element of a document, for an HTML page that holds several: ids get the prefix `name`.

    title   read by screen readers
    colours {colour of the figure: CSS colour of the page}; INK becomes `currentColor`.
    """
    body = svg[svg.index("<svg") :].replace(INK, "currentColor")
    for colour, css in (colours or {}).items():
        body = body.replace(colour, css)
    body = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{name}-", body)
    return body.replace("<svg ", f'<svg role="img" aria-label="{escape(title)}" ', 1)


@contextmanager
def canvas(
    name: str, width: float = 7.0, height: float = 4.2, rows: Sequence[float] = (1,), style: Mapping[str, Any] = STYLE
) -> Iterator[list[Any]]:
    """Axes of a new figure, one per row, without global state; `axes[0].figure` is the figure.

    width, height in inches;  rows: relative heights
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as MplFigure

    settings: dict[Any, Any] = {**style, "svg.hashsalt": name}
    with mpl.rc_context(settings):
        figure = MplFigure(figsize=(width, height))
        FigureCanvasAgg(figure)
        yield list(np.atleast_1d(figure.subplots(len(rows), 1, height_ratios=list(rows))))


def to_svg(figure: Any) -> str:
    """The SVG document of a matplotlib figure, without date and version: the same numbers give the same bytes."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return stream.getvalue()


def finish(name: str, title: str, alt: str, axes: Sequence[Any]) -> Figure:
    """The `Figure` of these axes."""
    figure, png = axes[0].figure, io.BytesIO()
    svg = to_svg(figure)
    figure.savefig(png, format="png", dpi=150, transparent=False, facecolor="white", metadata={"Software": None})
    return Figure(name, title, alt, svg, png.getvalue(), figure)
