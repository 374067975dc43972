"""The validation report: one HTML file that needs no network, and the same results as JSON."""

from collections.abc import Sequence
from importlib import resources

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict

from mcti.cohort import competing, left_truncation
from mcti.contracts import figures, followup
from mcti.contracts.drift import Drift
from mcti.contracts.suites import ExpectationResult

MOST_BARS = 15
MAX_PSI = 0.25
"""Population stability index above which the populations of two versions differ (mcti/contracts/drift.py)."""
HEADLINE = {
    "patients": "patients",
    "events": "events",
    "competing_events": "competing events",
    "event_rate": "share of events",
    "median_followup": "median follow-up, months",
    "genes": "genes",
    "slides": "slides",
}


class Results(BaseModel):
    """results.json: the measurements, and the result of each expectation.

    md5                 of the cohort folder;  sources: {table: MD5} of the source files
    numbers             measurements of the whole cohort
    clinical_patients   patients of the clinical table;  attrition: {reason: excluded patients}
    excluded_rows       {reason: samples, slides and rows of other tables that were excluded}
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
    clinical_patients: int
    attrition: dict[str, tuple[str, ...]]
    excluded_rows: dict[str, tuple[str, ...]]
    drift: Drift | None


class FeatureResults(BaseModel):
    """results.json of the features: the result of each expectation.

    numbers         slides, slides with features, patches, patients without a patch
    failed_slides   {status: slides without features}
    """

    model_config = ConfigDict(frozen=True)
    name: str
    notice: str
    passed: bool
    numbers: dict[str, int]
    expectations: tuple[ExpectationResult, ...]
    failed_slides: dict[str, tuple[str, ...]]


def features_html(results: FeatureResults, tables: dict[str, pd.DataFrame]) -> str:
    """The report on the features as an HTML document, with escaped texts of the data.

    tables  {name: rows} of `measurements.measure_features`
    """
    from markupsafe import Markup

    tiles = tables["patients"]["tiles"].to_numpy(float)
    # matplotlib escapes the texts of the drawings.
    drawn = [("Patients by number of patches", Markup(figures.histogram(tiles, "Patches")))]  # noqa: S704
    exclusions = [("Slides without features", "number", results.failed_slides)]
    numbers = [(name, f"{value:,}") for name, value in results.numbers.items()]
    return _render(results, numbers, drawn, exclusions)


def html(results: Results, tables: dict[str, pd.DataFrame]) -> str:
    """The report as an HTML document, with escaped texts of the data.

    tables  {name: rows} of `measurements.measure`
    """
    from markupsafe import Markup

    # matplotlib escapes the texts of the drawings.
    drawn = [(caption, Markup(drawing)) for caption, drawing in _figures(results, tables)]  # noqa: S704
    exclusions = [
        ("Excluded patients", "patients", results.attrition),
        ("Excluded samples, slides and rows", "number", results.excluded_rows),
    ]
    moved = [row.name for row in (results.drift.rows if results.drift else ()) if (row.psi or 0) > MAX_PSI]
    comparison = {"drift": results.drift, "max_psi": MAX_PSI, "moved": moved}
    return _render(results, _headline(results.numbers), drawn, exclusions, **comparison)


def _render(
    results: Results | FeatureResults,
    numbers: Sequence[tuple[str, str]],
    drawn: Sequence[tuple[str, str]],
    exclusions: Sequence[tuple[str, str, dict[str, tuple[str, ...]]]],
    **comparison: object,
) -> str:
    """The template with results; `comparison`: drift from a reference, absent in the report on features."""
    from jinja2 import Environment

    failed = [result for result in results.expectations if not result.passed]
    template = resources.files("mcti.contracts").joinpath("report.html").read_text(encoding="utf-8")
    return (
        Environment(autoescape=True, trim_blocks=True)
        .from_string(template)
        .render(
            results=results,
            failed=sorted(failed, key=lambda result: result.severity != "critical"),
            critical=[result for result in failed if result.severity == "critical"],
            warnings=[result for result in failed if result.severity != "critical"],
            numbers=numbers,
            figures=drawn,
            exclusions=exclusions,
            **comparison,
        )
    )


def _headline(numbers: dict[str, float]) -> list[tuple[str, str]]:
    """Label and value of the headline numbers. The median follow-up is shown also where the curve does not reach it."""
    return [
        (label, f"{round(numbers[name], 3):.9g}" if name in numbers else "not reached")
        for name, label in HEADLINE.items()
        if name in numbers or name == "median_followup"
    ]


def _figures(results: Results, tables: dict[str, pd.DataFrame]) -> list[tuple[str, str]]:
    patients = tables["patients"]
    time = patients["time_months"].to_numpy(dtype=np.float64)
    event = patients["event"].to_numpy() == 1
    observed = event | competing.flags(patients)
    without = "without event" if (observed == event).all() else "without event and competing event"
    entry = left_truncation.entries(patients)
    named = [
        ("still followed", *followup.reverse_kaplan_meier(time, observed, entry)),
        (without, *followup.kaplan_meier(time, observed, entry)),
    ]
    missing = tables["columns"].sort_values(["missing_share", "column"], ascending=[False, True])
    return [
        ("Flow of the patients into the cohort", _flow(results)),
        ("Follow-up (reverse Kaplan-Meier) and survival", figures.curves(named, "months", "share", "Follow-up")),
        ("Events / patients by subtype", _events(tables["subtypes"], "subtype")),
        ("Events / patients by site", _events(tables["sites"], "site")),
        ("Missing values by column, %", _missing(missing)),
        ("Patients by number of slides", figures.histogram(patients["slides"].to_numpy(dtype=float), "Slides")),
    ]


def _flow(results: Results) -> str:
    excluded = [(reason, len(ids)) for reason, ids in results.attrition.items()]
    remaining = results.clinical_patients - sum(count for _, count in excluded)
    start = ("clinical table", results.clinical_patients)
    return figures.flow(start, excluded, ("cohort", remaining), "Flow of the patients")


def _events(groups: pd.DataFrame, column: str) -> str:
    """Bars of the MOST_BARS largest groups, and one bar of all other groups."""
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
    top = columns.head(MOST_BARS)
    shares: Sequence[float] = [round(100 * share, 1) for share in top["missing_share"]]
    return figures.bars([str(name) for name in top["column"]], shares, None, "Missing values by column", " %")
