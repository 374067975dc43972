"""Claim: half a year of a model in use has the outcomes in docs/half-year.md; draws the figure of that page.

Run: python -m benchmarks.half_year [--out docs/figures]   (minutes; starts and stops its own servers)
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from mcti.local import settings, stack
from tests.stack.half_year import MONTHS, HalfYear, Month

_COLOURS = {"promote": "#1a7f37", "reject": "#b2182b"}
_UNDECIDED = "#8a5a00"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/figures"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "a project"
        year = HalfYear.create(root)
        stack.up(root)
        try:
            settings.activate(root, force=True)
            for run_month in MONTHS:
                run_month(year)
                print(summary(year.months[-1]), flush=True)
        finally:
            stack.down(root)
    draw(year.months, options.out / "half_year.svg")
    return 0


def summary(month: Month) -> str:
    """One line about a month."""
    decisions = [f"{entry['action']} version {entry['version']}: {_difference(entry)}" for entry in month.decisions]
    faults = "without faults" if month.faults == [] else f"FAULTS {month.faults}"
    return (
        f"month {month.number}: {month.summary}; rule {month.rule or '-'}; exits {month.exits}; "
        f"{'; '.join(decisions) or 'no entry'}; "
        f"champion {month.champion}, {month.versions} versions, ledger with {month.entries} entries {faults}"
    )


def _difference(entry: dict[str, Any]) -> str:
    difference = entry["evidence"].get("difference")
    if not difference or difference["value"] is None or difference["low"] is None:
        return str(entry["evidence"].get("reason", ""))[:80]
    value, low, high = (difference[end] for end in ("value", "low", "high"))
    return f"{difference['metric']} {value:+.3f} [{low:+.3f}, {high:+.3f}] against {difference['against']}"


def draw(months: list[Month], path: Path) -> None:
    """The difference of each challenger to its champion with its interval, and the events of each month."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "half_year", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        axes = figure.subplots()
        axes.axhline(0, color="#888", linestyle="--", linewidth=1)
        for month in months:
            for entry in month.decisions[:1]:
                difference = entry["evidence"].get("difference")
                if difference and difference["low"] is not None:
                    value, low, high = (difference[end] for end in ("value", "low", "high"))
                    colour = _COLOURS.get(entry["action"], _UNDECIDED)
                    axes.errorbar(
                        month.number, value, yerr=[[value - low], [high - value]], fmt="o", color=colour, linewidth=2
                    )
        axes.set_xticks([month.number for month in months], ["\n".join(_labels(month)) for month in months])
        axes.set_xlim(0.5, len(months) + 0.5)
        axes.set_ylabel("difference in C, with the interval\nthat decides")
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(
            path, metadata={"Date": None, "Title": "Difference of each challenger to its champion, by month"}
        )


def _labels(month: Month) -> list[str]:
    labels = [
        f"month {month.number}",
        f"rule: {month.rule}" if month.rule else "",
        "no new data" if month.exits.get("retraining") == 0 else "",
        "stopped: contract" if month.exits["dvc repro"] != 0 else "",
        *(entry["action"] for entry in month.decisions),
        f"champion {month.champion}",
    ]
    return [label for label in labels if label]


if __name__ == "__main__":
    sys.exit(main())
