"""Figures of the validation report as SVG: colours come from the page, so they follow light, dark and print.

Every text that a user wrote is escaped. Figures are 360 units wide: that is a telephone's width, and larger pages
scale them up.
"""

from collections.abc import Sequence
from html import escape
from itertools import pairwise
from textwrap import wrap

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
WIDTH = 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 10, 12, 38
LONGEST_LABEL = 22  # characters of a bar's name that fit beside it
LONGEST_LINE = 52  # characters of a line of the figure's width


def curves(named: Sequence[tuple[str, Floats, Floats]], x_label: str, y_label: str, title: str) -> str:
    """Falling step curves from 1, e.g. Kaplan-Meier; each is (name, months (t,), share (t,))."""
    height = 220
    right = max(float(months[-1]) for _, months, _ in named) or 1.0
    plot_width, plot_height = WIDTH - _LEFT - _RIGHT, height - _TOP - _BOTTOM
    body = [_axes(height, right, x_label, y_label)]
    for number, (name, months, share) in enumerate(named):
        points = [f"M{_LEFT},{_TOP}"]
        for month, value in zip(months.tolist(), share.tolist(), strict=True):
            x, y = _LEFT + plot_width * month / right, _TOP + plot_height * (1 - value)
            points.append(f"H{x:.2f}V{y:.2f}")
        body.append(f'<path class="line s{number}" d="{"".join(points)}"/>')
        y = _TOP + 8 + 14 * number
        body.append(f'<path class="line s{number}" d="M{WIDTH - 128},{y}h16"/>')
        body.append(f'<text x="{WIDTH - 108}" y="{y + 4}">{escape(name)}</text>')
    return _svg(height, body, title)


def _axes(height: int, right: float, x_label: str, y_label: str) -> str:
    plot_width, plot_height = WIDTH - _LEFT - _RIGHT, height - _TOP - _BOTTOM
    parts = [f'<path class="axis" d="M{_LEFT},{_TOP}v{plot_height}h{plot_width}"/>']
    for share in (0.0, 0.5, 1.0):
        y = _TOP + plot_height * (1 - share)
        parts.append(f'<text class="end" x="{_LEFT - 5}" y="{y + 4:.1f}">{share:g}</text>')
    for value in _ticks(right):
        x = _LEFT + plot_width * value / right
        parts.append(f'<text class="mid" x="{x:.1f}" y="{height - _BOTTOM + 15}">{value:g}</text>')
    parts.append(f'<text class="mid" x="{_LEFT + plot_width / 2}" y="{height - 5}">{escape(x_label)}</text>')
    middle = _TOP + plot_height / 2
    parts.append(
        f'<text class="mid" transform="rotate(-90 11 {middle})" x="11" y="{middle + 4}">{escape(y_label)}</text>'
    )
    return "".join(parts)


def _ticks(right: float) -> list[float]:
    """Three to six round numbers from 0 to `right`."""
    step = float(10 ** np.floor(np.log10(right)))
    for factor in (0.2, 0.5, 1.0):
        if right / (step * factor) <= 5:
            step *= factor
            break
    return [float(value) for value in np.arange(0, right + 1e-9, step)]


def bars(names: Sequence[str], totals: Sequence[float], parts: Sequence[float] | None, title: str, unit: str) -> str:
    """Horizontal bars with their numbers; `parts` is the dark share of each, e.g. events of patients."""
    long = any(len(name) > LONGEST_LABEL for name in names)
    label = 6 if long else 140
    room = WIDTH - label - 66
    top = max([*totals, 0]) or 1
    body = []
    y = 4
    for i, (name, total) in enumerate(zip(names, totals, strict=True)):
        lines = wrap(name, LONGEST_LINE) if long else []
        for line in lines:  # long names stand above their bars, so that none is cut
            body.append(f'<text x="{label}" y="{y + 12}">{escape(line)}</text>')
            y += 14
        if not long:
            body.append(f'<text class="end" x="{label - 6}" y="{y + 13}">{escape(name)}</text>')
        body.append(f'<rect class="total" x="{label}" y="{y + 2}" width="{room * total / top:.2f}" height="14"/>')
        text = f"{total:g}{unit}"
        if parts is not None:
            body.append(f'<rect class="part" x="{label}" y="{y + 2}" width="{room * parts[i] / top:.2f}" height="14"/>')
            text = f"{parts[i]:g} / {total:g}"
        body.append(f'<text x="{label + room * total / top + 4:.2f}" y="{y + 13}">{escape(text)}</text>')
        y += 20
    return _svg(y + 4, body, title)


def histogram(values: Floats, title: str) -> str:
    """Patients by a whole number each has, such as slides or patches; at most 12 bars."""
    edges = np.unique(np.linspace(values.min(), values.max() + 1, 13).round()) if len(values) else np.array([0.0, 1.0])
    counts, _ = np.histogram(values, bins=edges)
    names = [f"{a:g}" if b - a <= 1 else f"{a:g}-{b - 1:g}" for a, b in pairwise(edges)]
    return bars(names, [float(count) for count in counts], None, title, "")


def flow(start: tuple[str, int], leaving: Sequence[tuple[str, int]], end: tuple[str, int], title: str) -> str:
    """The way of the patients as in a CONSORT diagram: who came, who left and why, who stayed."""
    step, box = 56, 34
    height = step * (len(leaving) + 1) + box + 8
    body = [_box(4, 4, 170, box, *start)]
    stem = 4 + box
    for i, (reason, count) in enumerate(leaving):
        y = 4 + step * i + box + (step - box) / 2
        body.append(f'<path class="axis" d="M89,{y + box / 2 - 11:.1f}h95"/>')
        body.append(_box(184, y - 11, 170, box, reason, count))
    bottom = 4 + step * (len(leaving) + 1)
    body.append(f'<path class="axis" d="M89,{stem}V{bottom}"/>')
    body.append(_box(4, bottom, 170, box, *end))
    return _svg(height, body, title)


def _box(x: float, y: float, width: float, height: float, text: str, count: int) -> str:
    lines = wrap(text, 30)[:2]
    first = y + (14 if len(lines) == 1 else 9)
    words = "".join(
        f'<text class="mid" x="{x + width / 2}" y="{first + 10 * i:.1f}">{escape(line)}</text>'
        for i, line in enumerate(lines)
    )
    return (
        f'<rect class="box" x="{x}" y="{y:.1f}" width="{width}" height="{height}" rx="4"/>'
        f'{words}<text class="mid strong" x="{x + width / 2}" y="{y + 30:.1f}">{count}</text>'
    )


def _svg(height: float, body: list[str], title: str) -> str:
    name = escape(title)
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{name}"><title>{name}</title>'
        f"{''.join(body)}</svg>"
    )
