"""Sections of the release dossier about performance: results, groups, calibration."""

from collections.abc import Iterator, Mapping
from typing import Any

from mcti.model.names import PART_NAMES, PARTS, display
from mcti.registry import metric_labels
from mcti.registry.dossier_document import DossierSource, Section, Table, interval, number

_NOT_A_METRIC = ("subgroups", "folds", "comparison", "decision", "risk_groups", "attribution", "search")
FIGURES = ("c_index", "forest", "kaplan_meier", "brier", "decision")
"""Figures of the evaluation in the section of the results."""
_CALIBRATION = ("slope_", "intercept_", "ici_", "brier_")
_INTERVAL = ("value", "from", "to")


def comparison_name(name: str, contrast: Mapping[str, Any]) -> str:
    """The display name of a comparator, with a mark for the primary contrast."""
    return display(name) + (" (primary contrast)" if contrast.get("primary") else "")


def results(source: DossierSource) -> Section:
    """Metrics of the evaluation, differences to the comparators, parts of the model."""
    metrics = source.metrics["mcti"]
    rows = tuple(
        (metric_labels.label(name), *interval(numbers)) for name, numbers in sorted(metrics.items())
        if name not in _NOT_A_METRIC and isinstance(numbers, Mapping) and "value" in numbers
    )  # fmt: skip
    return Section(
        key="results",
        title="Results",
        paragraphs=(f"Method: {source.card['evaluation']['method']}.",),
        tables=(Table(headers=("metric", *_INTERVAL), rows=rows), *_differences(metrics), *_parts(source.metrics)),
        figures=tuple(name for name in source.figures if name in FIGURES),
        gaps=("external validation in another hospital",),
    )


def _differences(metrics: Mapping[str, Any]) -> Iterator[Table]:
    for title, difference, p_value in (
        ("C-index minus that of", "difference", "p"),
        ("integrated Brier score minus that of", "ibs_difference", "ibs_p"),
    ):
        p_values = (p_value, f"{p_value}_holm")
        rows = tuple(
            (
                comparison_name(name, contrast),
                *interval(contrast[difference]),
                *(number(contrast.get(key)) for key in p_values),
            )
            for name, contrast in metrics.get("comparison", {}).items()
            if difference in contrast
        )
        yield Table(headers=(title, *_INTERVAL, "p", "p (Holm)"), rows=rows)


def _parts(metrics: Mapping[str, Any]) -> Iterator[Table]:
    parts = tuple((display(name), *interval(metrics[name]["c_index"])) for name in ("mcti", *PARTS) if name in metrics)
    if len(parts) > 1:
        yield Table(headers=("C-index of", *_INTERVAL), rows=parts)
    shares = metrics["mcti"].get("attribution", {}).get("shares", {})
    if shares:
        rows = tuple((PART_NAMES[name], f"{100 * share:.2g} %") for name, share in shares.items())
        yield Table(headers=("part of the model", "share of the attribution"), rows=rows)


def groups(source: DossierSource) -> Section:
    """C-index by group of patients."""
    rows = tuple(
        (group["name"], str(group["patients"]), str(group["events"]), *interval(group["c_index"]))
        for group in source.metrics["mcti"].get("subgroups", [])
    )
    return Section(
        key="groups",
        title="Results by group",
        paragraphs=("The C-index of a group with fewer than ten events has no interval and is imprecise.",),
        tables=(Table(headers=("group", "patients", "events", "C-index", "from", "to"), rows=rows),),
        gaps=() if rows else ("no group of the cohort has enough events",),
    )


def calibration(source: DossierSource) -> Section:
    """Calibration by horizon."""
    metrics = source.metrics["mcti"]
    names = [*(name for name in sorted(metrics) if name.startswith(_CALIBRATION)), *({"ibs"} & metrics.keys())]
    rows = tuple((metric_labels.label(name), *interval(metrics[name])) for name in names)
    p_value = metrics.get("d_calibration", {}).get("p")
    paragraphs = []
    if p_value is not None:
        meaning = "A small p-value is evidence of miscalibration; a large one is no evidence of calibration."
        paragraphs.append(f"D-calibration: p = {p_value:.3f}. {meaning}")
    return Section(
        key="calibration",
        title="Calibration",
        paragraphs=tuple(paragraphs),
        tables=(Table(headers=("measure", *_INTERVAL), rows=rows),),
        figures=tuple(name for name in source.figures if name == "calibration"),
        gaps=() if rows else ("no horizon could be scored",),
    )
