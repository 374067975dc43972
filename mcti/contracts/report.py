"""The validation report: one HTML file without network, and the same findings as JSON."""

from collections.abc import Sequence
from importlib import resources

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict

from mcti.contracts import figures, followup
from mcti.contracts.drift import Drift
from mcti.contracts.suites import ExpectationResult

MOST_BARS = 15
ANOTHER = 0.25  # population stability index of another population (mcti/contracts/drift.py)
HEADLINE = {
    "patients": "patients",
    "events": "events",
    "event_rate": "share of events",
    "median_followup": "median follow-up, months",
    "genes": "genes",
    "slides": "slides",
}


class Results(BaseModel):
    """results.json: what was looked at, and what each expectation found.

    came       patients of the clinical table;  attrition  those who left, by reason
    left_out   samples, slides and rows of nobody that were left out, by reason
    """

    model_config = ConfigDict(frozen=True)
    name: str
    notice: str
    endpoint: str
    expression_scale: str
    md5: str
    sources: dict[str, str]
    passed: bool
    numbers: dict[str, float]
    expectations: tuple[ExpectationResult, ...]
    warnings: tuple[str, ...]
    came: int
    attrition: dict[str, tuple[str, ...]]
    left_out: dict[str, tuple[str, ...]]
    drift: Drift | None


def html(results: Results, tables: dict[str, pd.DataFrame]) -> str:
    """The report as one page. User text is escaped."""
    from jinja2 import Environment
    from markupsafe import Markup

    failed = [finding for finding in results.expectations if not finding.passed]
    page = resources.files("mcti.contracts").joinpath("report.html").read_text(encoding="utf-8")
    # The drawings escape their own texts (mcti/contracts/figures.py).
    drawn = [(caption, Markup(drawing)) for caption, drawing in _figures(results, tables)]  # noqa: S704
    return (
        Environment(autoescape=True, trim_blocks=True)
        .from_string(page)
        .render(
            results=results,
            failed=sorted(failed, key=lambda finding: finding.severity != "critical"),
            critical=[finding for finding in failed if finding.severity == "critical"],
            warnings=[finding for finding in failed if finding.severity != "critical"],
            numbers=[
                (label, f"{round(results.numbers[name], 3):.9g}" if name in results.numbers else "not reached")
                for name, label in HEADLINE.items()
                if name in results.numbers or name == "median_followup"
            ],
            figures=drawn,
            leaving=[("patients", results.attrition), ("samples, slides and rows", results.left_out)],
            drift=results.drift,
            another=ANOTHER,
            moved=[row.what for row in (results.drift.rows if results.drift else ()) if (row.psi or 0) > ANOTHER],
        )
    )


def _figures(results: Results, tables: dict[str, pd.DataFrame]) -> list[tuple[str, str]]:
    patients = tables["patients"]
    time = patients["time_months"].to_numpy(dtype=np.float64)
    event = patients["event"].to_numpy() == 1
    named = [
        ("still followed", *followup.reverse_kaplan_meier(time, event)),
        ("without event", *followup.kaplan_meier(time, event)),
    ]
    missing = tables["columns"].sort_values(["missing_share", "column"], ascending=[False, True])
    drawn = [
        ("The way into the cohort", _flow(results)),
        ("Follow-up (reverse Kaplan-Meier) and survival", figures.curves(named, "months", "share", "Follow-up")),
        ("Events / patients by subtype", _events(tables["subtypes"], "subtype")),
        ("Events / patients by site", _events(tables["sites"], "site")),
        ("Missing values by column, %", _missing(missing)),
        ("Patients by number of slides", figures.histogram(patients["slides"].to_numpy(dtype=float), "Slides")),
    ]
    if "tiles" in patients.columns:
        drawn.append(("Patients by number of patches", figures.histogram(patients["tiles"].to_numpy(float), "Patches")))
    return drawn


def _flow(results: Results) -> str:
    leaving = [(reason, len(ids)) for reason, ids in results.attrition.items()]
    stayed = results.came - sum(count for _, count in leaving)
    # Patients of whom every slide failed are in the cohort, and leave it when folds are dealt.
    last = "cohort" if stayed == results.numbers["patients"] else "cohort with features"
    return figures.flow(
        ("clinical table", results.came), leaving, (last, stayed), "The way of the patients into the cohort"
    )


def _events(groups: pd.DataFrame, column: str) -> str:
    """The largest groups one by one, the others together."""
    ordered = groups.sort_values(["patients", column], ascending=[False, True])
    top, rest = ordered.head(MOST_BARS), ordered.iloc[MOST_BARS:]
    names = [str(name) for name in top[column]]
    patients, events = top["patients"].tolist(), top["events"].tolist()
    if len(rest):
        names.append(f"{len(rest)} others")
        patients.append(int(rest["patients"].sum()))
        events.append(int(rest["events"].sum()))
    return figures.bars(names, patients, events, f"Events of patients by {column}", "")


def _missing(columns: pd.DataFrame) -> str:
    shown = columns.head(MOST_BARS)
    shares: Sequence[float] = [round(100 * share, 1) for share in shown["missing_share"]]
    return figures.bars([str(name) for name in shown["column"]], shares, None, "Missing values by column", " %")
