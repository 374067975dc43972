"""Claim: half a year of a model in use ends as docs/half-year.md tells it; draws that page's figure.

Run: python -m benchmarks.half_year [--out docs/figures]   (minutes; starts and stops its own servers)
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from mcti.local import settings, stack
from tests.stack.half_year import MONTHS, HalfYear, Month

_LEFT, _STEP, _TOP, _WIDTH, _HEIGHT = 70, 120, 34, 800, 300


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/figures"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch) / "a project"
        year = HalfYear.begin(place)
        stack.up(place)
        try:
            settings.activate(place, force=True)
            for live in MONTHS:
                live(year)
                print(_told(year.months[-1]), flush=True)
        finally:
            stack.down(place)
    (options.out / "half_year.svg").write_text(drawn(year.months), encoding="utf-8")
    return 0


def _told(month: Month) -> str:
    new = [f"{line['action']} version {line['version']}: {_lead(line)}" for line in month.decisions]
    faults = "whole" if month.faults == [] else f"FAULTS {month.faults}"
    return (
        f"month {month.number}: {month.story}; rule {month.rule or '-'}; exits {month.exits}; "
        f"{'; '.join(new) or 'no line'}; "
        f"champion {month.champion}, {month.versions} versions, ledger of {month.lines} lines {faults}"
    )


def _lead(line: dict[str, Any]) -> str:
    lead = line["evidence"].get("lead")
    if not lead or lead["value"] is None or lead["low"] is None:
        return str(line["evidence"].get("reason", ""))[:80]
    return f"{lead['metric']} {lead['value']:+.3f} [{lead['low']:+.3f}, {lead['high']:+.3f}] against {lead['against']}"


def drawn(months: list[Month]) -> str:
    """Month by month: who is champion, what was decided, and the lead with the interval that decided it."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" font-family="sans-serif" '
        'font-size="12"><title>Lead of each challenger over its champion, by month</title>'
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>'
    ]
    zero = _y(0.0)
    parts.append(
        f'<line x1="{_LEFT - 20}" x2="{_WIDTH - 20}" y1="{zero}" y2="{zero}" stroke="#888" stroke-dasharray="4 4"/>'
    )
    for tick in (-0.2, 0.0, 0.2, 0.4):
        parts.append(f'<text x="{_LEFT - 26}" y="{_y(tick) + 4}" text-anchor="end" fill="#555">{tick:+.1f}</text>')
    parts.append('<text x="10" y="18" fill="#222">lead in C, with the interval that decides</text>')
    for month in months:
        x = _LEFT + (month.number - 1) * _STEP + 20
        for line in month.decisions[:1]:
            lead = line["evidence"].get("lead")
            if lead and lead["low"] is not None:
                colour = {"promote": "#1a7f37", "reject": "#b2182b"}.get(line["action"], "#8a5a00")
                ends = f'y1="{_y(lead["low"])}" y2="{_y(lead["high"])}"'
                parts.append(f'<line x1="{x}" x2="{x}" {ends} stroke="{colour}" stroke-width="3"/>')
                parts.append(f'<circle cx="{x}" cy="{_y(lead["value"])}" r="5" fill="{colour}"/>')
        words = [
            f"month {month.number}",
            month.rule and f"rule: {month.rule}",
            month.exits.get("retraining") == 0 and "nothing new",
            month.exits["dvc repro"] != 0 and "stopped: contract",
            *(line["action"] for line in month.decisions),
        ]
        words = [word for word in (*words, f"champion {month.champion}") if word]
        parts += [
            f'<text x="{x}" y="{_HEIGHT - 76 + 15 * i}" text-anchor="middle" fill="#222">{w}</text>'
            for i, w in enumerate(words)
        ]
    return "".join(parts) + "</svg>\n"


def _y(lead: float) -> float:
    return round(_TOP + (0.6 - max(min(lead, 0.6), -0.35)) / 0.95 * (_HEIGHT - _TOP - 100), 1)


if __name__ == "__main__":
    sys.exit(main())
