"""Figures of the patient reports: predicted survival as SVG, tile maps as PNG."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mcti.arrays import FloatArray, IntArray
from mcti.figure_canvas import STYLE, canvas, inline_svg, to_svg

Rgba = NDArray[np.uint8]
"""(rows, columns, 4) pixels."""

LINE, MUTED = "#0b5cad", "#59636e"
"""Colours of the predicted curve and of the cohort's curve; an HTML page replaces them by its own."""
_PAGE_COLOURS = {LINE: "var(--line)", MUTED: "var(--soft)"}
_LOWERS, _RAISES = (33, 102, 172), (178, 24, 43)  # ColorBrewer RdBu, readable with colour-blindness


def draw_survival(
    axes: Any, points: Sequence[tuple[float, float, float, float]], cohort: Mapping[float, float]
) -> None:
    """Draw S(t) with the range over the members, and the curve of the development cohort (dashed).

    points  (months, S, lowest member, highest member) by month;  cohort {months: S}, empty: not drawn
    """
    months, survival, low, high = zip((0.0, 1.0, 1.0, 1.0), *points, strict=True)
    axes.fill_between(months, low, high, color=LINE, alpha=0.18, linewidth=0)
    reference = [(0.0, 1.0), *((m, s) for m, s in sorted(cohort.items()) if m <= months[-1])]
    if len(reference) > 1:
        axes.plot(*zip(*reference, strict=True), color=MUTED, linestyle="--", linewidth=1.2)
    axes.plot(months, survival, color=LINE, marker="o", markersize=4)
    axes.set(ylim=(0, 1.03), xlim=(0, months[-1] or 1), xlabel="months", xticks=months)
    axes.spines[["top", "right"]].set_visible(False)


def survival_svg(points: Sequence[tuple[float, float, float, float]], cohort: Mapping[float, float]) -> str:
    """The curves of `draw_survival` as an SVG element in the colours of the page.

    points  (months, survival, lower and upper limit);  cohort  {months: survival}; survival between 0 and 1
    """
    with canvas("survival", width=5.6, height=3.0, style={**STYLE, "figure.constrained_layout.use": False}) as (axes,):
        axes.set_position((0.09, 0.17, 0.88, 0.8))
        draw_survival(axes, points, cohort)
        return inline_svg(to_svg(axes.figure), "survival", "Predicted survival by month", _PAGE_COLOURS)


def tile_map(coordinates: IntArray, scores: FloatArray) -> Rgba:
    """One pixel per tile: red raises the risk, blue lowers it, transparent without tissue.

    coordinates (N, 2) top-left corners in level-0 pixels;  scores (N,) contributions to the risk
    """
    xs, columns = np.unique(coordinates[:, 0], return_inverse=True)
    ys, rows = np.unique(coordinates[:, 1], return_inverse=True)
    no_step = np.iinfo(np.int64).max
    step = max(int(np.min(np.diff(axis), initial=no_step)) for axis in (xs, ys))
    if 0 < step < no_step:  # keeps the distances between separate pieces of tissue
        columns, rows = (coordinates[:, 0] - xs[0]) // step, (coordinates[:, 1] - ys[0]) // step
    pixels = np.zeros((int(rows.max()) + 1, int(columns.max()) + 1, 4), np.uint8)
    limit = float(np.percentile(np.abs(scores), 99)) or 1.0
    share = np.clip(scores / limit, -1, 1)[:, None]
    neutral = np.array([247.0, 247.0, 247.0])
    ends = np.where(share >= 0, np.array(_RAISES, float), np.array(_LOWERS, float))
    pixels[rows, columns, :3] = np.rint(neutral + np.abs(share) * (ends - neutral)).astype(np.uint8)
    pixels[rows, columns, 3] = 255
    return pixels


def png_address(pixels: Rgba) -> str:
    """A PNG image as a data: address, without date and version: the same pixels give the same bytes."""
    from matplotlib.image import imsave

    stream = io.BytesIO()
    no_software: dict[str, Any] = {"Software": None}  # None: the entry is not written
    imsave(stream, pixels, format="png", metadata=no_software)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
