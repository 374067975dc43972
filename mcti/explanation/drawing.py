"""Small figures of an explanation as inline SVG and PNG; colours come from the page, texts are escaped."""

import base64
import io
from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

WIDTH = 420
_LABEL, _VALUE, _ROW = 110, 62, 20
_LOWERS, _RAISES = (33, 102, 172), (178, 24, 43)  # ColorBrewer RdBu: told apart by the colour-blind


def parts(named: Sequence[tuple[str, float]], title: str) -> str:
    """Horizontal bars around zero: to the right raises the risk, to the left lowers it. named: (label, part)."""
    reach = max((abs(value) for _, value in named), default=0.0) or 1.0
    height, half = _ROW * len(named) + 4, (WIDTH - _LABEL - _VALUE) / 2
    zero = _LABEL + half
    body = [f'<path class="axis" d="M{zero:.1f},0v{height}"/>']
    for row, (label, value) in enumerate(named):
        y, length = row * _ROW + 3, half * abs(value) / reach
        left = zero if value >= 0 else zero - length
        kind = "raises" if value >= 0 else "lowers"
        body.append(f'<text class="end" x="{_LABEL - 6}" y="{y + 11}">{escape(_short(label))}</text>')
        body.append(f'<rect class="{kind}" x="{left:.1f}" y="{y}" width="{length:.1f}" height="{_ROW - 6}"/>')
        body.append(f'<text class="end" x="{WIDTH - 2}" y="{y + 11}">{value:+.4f}</text>')
    said = f"{title}: " + ", ".join(f"{label} {value:+.4f}" for label, value in named)
    return f'<svg role="img" viewBox="0 0 {WIDTH} {height}"><title>{escape(said)}</title>{"".join(body)}</svg>'


def tile_map(coords: NDArray[np.int64], scores: NDArray[np.float64]) -> str:
    """A PNG as a data: address, one pixel a tile: red raises the risk, blue lowers it, transparent without tissue.

    coords (N, 2) level-0 corners; scores (N,).
    """
    from PIL import Image

    xs, columns = np.unique(coords[:, 0], return_inverse=True)
    ys, rows = np.unique(coords[:, 1], return_inverse=True)
    step = max(int(np.min(np.diff(axis), initial=np.iinfo(np.int64).max)) for axis in (xs, ys))
    if 0 < step < np.iinfo(np.int64).max:  # gaps between islands of tissue keep their size
        columns, rows = (coords[:, 0] - xs[0]) // step, (coords[:, 1] - ys[0]) // step
    canvas = np.zeros((int(rows.max()) + 1, int(columns.max()) + 1, 4), np.uint8)
    reach = float(np.percentile(np.abs(scores), 99)) or 1.0
    share = np.clip(scores / reach, -1, 1)[:, None]
    pale = np.array([247.0, 247.0, 247.0])
    ends = np.where(share >= 0, np.array(_RAISES, float), np.array(_LOWERS, float))
    canvas[rows, columns, :3] = np.rint(pale + np.abs(share) * (ends - pale)).astype(np.uint8)
    canvas[rows, columns, 3] = 255
    stream = io.BytesIO()
    Image.fromarray(canvas, "RGBA").save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def _short(label: str) -> str:
    return label if len(label) <= 18 else f"{label[:17]}…"
