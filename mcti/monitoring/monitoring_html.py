"""The self-contained HTML report of a monitoring run: verdict, trends, performance, drift."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from mcti.monitoring.drift import Family
from mcti.monitoring.rules import Verdict
from mcti.params import MonitorParams

MAX_COLUMNS = 12
"""Columns per family in the report."""
_WIDTH, _HEIGHT, _EDGE = 260.0, 72.0, 6.0


@dataclass(frozen=True)
class Trend:
    """A number over the runs, oldest first; limit: above it an alarm is raised, None: no limit."""

    name: str
    dates: Sequence[str]
    values: Sequence[float | None]
    limit: float | None = None


@dataclass(frozen=True)
class ReportHeader:
    """Counts and performance. performance: rows (name, value); not_assessed: the reason where there are none."""

    model: str
    cohort: str
    notice: str
    patients: int
    new_patients: int
    new_events: int
    reference_patients: int
    performance: Sequence[tuple[str, str]]
    not_assessed: str


def render(
    header: ReportHeader, verdict: Verdict, families: Sequence[Family], trends: Sequence[Trend], params: MonitorParams
) -> str:
    """The HTML document."""
    from jinja2 import Environment
    from markupsafe import Markup

    source = resources.files("mcti.monitoring").joinpath("monitoring.html").read_text(encoding="utf-8")
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(source)
    return template.render(
        header=header,
        verdict=verdict,
        families=[_family(family) for family in families],
        # The SVG contains computed numbers only; the template escapes all other text.
        trends=[
            {
                "name": t.name,
                "first": t.dates[0],
                "last": t.dates[-1],
                "now": _known(t.values)[-1],
                "runs": len(t.values),
                "svg": Markup(trend_svg(t)),  # noqa: S704
            }
            for t in trends
            if _known(t.values)
        ],
        params=params,
        rules=params.rules,
    )


def trend_svg(trend: Trend) -> str:
    """The line of a trend as SVG, whose colours the style sheet sets; a run without a value is left out."""
    known = [*_known(trend.values), *([] if trend.limit is None else [trend.limit])]
    low, high = min(*known, 0.0), max(*known, 0.0) or 1.0  # no empty scale
    step = (_WIDTH - 2 * _EDGE) / max(len(trend.values) - 1, 1)

    def y_of(value: float) -> float:
        return _HEIGHT - _EDGE - (value - low) / (high - low) * (_HEIGHT - 2 * _EDGE)

    points = [(_EDGE + step * i, y_of(v)) for i, v in enumerate(trend.values) if v is not None]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>' for x, y in points)
    limit = ""
    if trend.limit is not None:
        y = f"{y_of(trend.limit):.1f}"
        limit = f'<line class="limit" x1="{_EDGE}" x2="{_WIDTH - _EDGE}" y1="{y}" y2="{y}"/>'
    return (
        f'<svg viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img" aria-label="trend over {len(trend.values)} runs">'
        f'{limit}<polyline points="{line}"/>{dots}</svg>'
    )


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
        "not_tested": family.not_tested,
        "columns": [
            {
                "column": f.column,
                "known": f.known,
                "effect": f"{f.effect:+.2f}" if f.effect < 0 else f"{f.effect:.2f}",
                "shift": "" if f.shift is None else f"{f.shift:+.2f}",
                "p": f"{f.p:.2g}",
                "q": f"{f.q:.2g}",
            }
            for f in family.columns[:MAX_COLUMNS]
        ],
    }
