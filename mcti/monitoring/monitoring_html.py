"""One self-contained page of a monitoring run: verdict, drift, performance, and how each came about over time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from mcti.monitoring.drift import Family
from mcti.monitoring.rules import Verdict
from mcti.params import MonitorParams

SHOWN = 12
"""Columns of a family that the page lists."""
_WIDTH, _HEIGHT, _EDGE = 260.0, 72.0, 6.0


@dataclass(frozen=True)
class Trend:
    """A number over the runs, oldest first, this one last; limit: where an alarm begins, None: there is none."""

    name: str
    dates: Sequence[str]
    values: Sequence[float | None]
    limit: float | None = None


@dataclass(frozen=True)
class Facts:
    """The head of the page. performance: rows (what, value) or a sentence why there are none."""

    model: str
    cohort: str
    notice: str
    patients: int
    new_patients: int
    new_events: int
    reference_patients: int
    performance: Sequence[tuple[str, str]]
    why_not: str


def render(
    facts: Facts, verdict: Verdict, families: Sequence[Family], trends: Sequence[Trend], params: MonitorParams
) -> str:
    """The page."""
    from jinja2 import Environment
    from markupsafe import Markup

    source = resources.files("mcti.monitoring").joinpath("page.html").read_text(encoding="utf-8")
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(source)
    return page.render(
        facts=facts,
        verdict=verdict,
        families=[_family(family) for family in families],
        # The points are numbers of ours; every word beside them is escaped by the page.
        trends=[
            {
                "name": t.name,
                "first": t.dates[0],
                "last": t.dates[-1],
                "now": _known(t.values)[-1],
                "runs": len(t.values),
                "svg": Markup(drawn(t)),  # noqa: S704
            }
            for t in trends
            if _known(t.values)
        ],
        params=params,
        rules=params.rules,
    )


def drawn(trend: Trend) -> str:
    """The line of a trend as SVG; a run without a value is a gap."""
    known = [*_known(trend.values), *([] if trend.limit is None else [trend.limit])]
    low, high = min(*known, 0.0), max(*known, low_end(known))
    step = (_WIDTH - 2 * _EDGE) / max(len(trend.values) - 1, 1)

    def place(value: float) -> float:
        return _HEIGHT - _EDGE - (value - low) / (high - low) * (_HEIGHT - 2 * _EDGE)

    points = [(_EDGE + step * i, place(v)) for i, v in enumerate(trend.values) if v is not None]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>' for x, y in points)
    limit = ""
    if trend.limit is not None:
        y = f"{place(trend.limit):.1f}"
        limit = f'<line class="limit" x1="{_EDGE}" x2="{_WIDTH - _EDGE}" y1="{y}" y2="{y}"/>'
    return (
        f'<svg viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img" aria-label="trend over {len(trend.values)} runs">'
        f'{limit}<polyline points="{line}"/>{dots}</svg>'
    )


def low_end(known: Sequence[float]) -> float:
    """A top for the scale that is above its foot, also where every value is 0."""
    return max(max(known), 0.0) or 1.0


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _family(family: Family) -> Mapping[str, Any]:
    return {
        "name": family.name,
        "drifted": family.drifted,
        "tested": family.tested,
        "known": family.known,
        "p": f"{family.p:.2g}" if family.p == family.p else "",
        "largest": f"{family.largest:.2f}",
        "why_not": family.why_not,
        "findings": [
            {
                "column": f.column,
                "known": f.known,
                "effect": f"{f.effect:+.2f}" if f.effect < 0 else f"{f.effect:.2f}",
                "shift": "" if f.shift is None else f"{f.shift:+.2f}",
                "p": f"{f.p:.2g}",
                "q": f"{f.q:.2g}",
            }
            for f in family.findings[:SHOWN]
        ],
    }
