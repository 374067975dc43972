"""compare: two evaluated models on their common patients, every metric with the paired difference and its interval."""

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mcti import redaction, storage
from mcti.errors import DataError
from mcti.evaluation import calibration, comparison_report, inputs_record, metric_differences, overlays, risk_groups
from mcti.evaluation.comparison_report import ComparisonSummary
from mcti.evaluation.metric_differences import MetricDifference
from mcti.evaluation.paired_comparison import PairedComparison
from mcti.evaluation.summary_text import competing_sentence, late_entry_sentence
from mcti.figure_canvas import Figure
from mcti.params import EvaluateParams
from mcti.registry import evaluations, evidence, tracking
from mcti.steps.evaluate.report_files import FOLLOW_UP_SHOWN
from mcti.steps.result import StepResult
from mcti.steps.task_log import logged
from mcti.storage import Location

_REQUIRED, _OPTIONAL = ("predictions.csv", inputs_record.FILE, "result.json"), ("groups.csv",)


class CompareResult(StepResult):
    """The comparison of A and B on their common patients; a difference is B minus A.

    metrics     {key of metrics.json: {a, b, difference: {value, low, high}, p}};  d_calibration  {a, b: p}
    only_a, only_b, changed_follow_up  numbers of patients;  settings, data  {name: [A, B]} of what differs
    """

    a: str
    b: str
    endpoint: str
    patients: int
    events: int
    only_a: int
    only_b: int
    changed_follow_up: int
    horizons_months: tuple[float, ...]
    metrics: dict[str, dict[str, Any]]
    d_calibration: dict[str, float | None]
    settings: dict[str, tuple[Any, Any]]
    data: dict[str, tuple[Any, Any]]

    def lines(self) -> list[str]:
        """The counts, and one line per metric."""
        common = f"{self.patients} common patients ({self.events} events)"
        counts = f"{common}, {self.only_a} in A only, {self.only_b} in B only"
        rows = [f"  {comparison_report.metric_name(key)}: {_line(row)}" for key, row in self.metrics.items()]
        differing = f"{len(self.settings)} settings and {len(self.data)} inputs differ: see report.html"
        return [f"compare: {counts}; B minus A:", *rows, differing]


@dataclass(frozen=True)
class Evaluated:
    """One evaluation: its name, the table of predictions, {patient: subtype}, and what it recorded of its inputs.

    competing_events    number of its patients with one
    """

    name: str
    table: pd.DataFrame
    subtypes: Mapping[str, str]
    inputs: Mapping[str, Any]
    notice: str
    competing_events: int = 0


@logged
def compare(a: Location, b: Location, params: EvaluateParams, out: Path) -> CompareResult:
    """Compare two evaluated models on the patients whom both predicted out of fold.

    a, b    output of `evaluate` or `test`, models:/NAME@ALIAS or models:/NAME/3 of the registry, or runs:/ID of MLflow
    params  resamples, seed and number of risk groups

    Reads   {predictions.csv, inputs.json, result.json} of both, groups.csv where there is one
    Writes  out/{result.json, report.html}: both or nothing, the same bytes on every run
    Raises  DataError when a file is missing, the endpoints differ, or no patient is common
            OperationalError when the registry does not respond
    """
    first, second = _read_both(str(a), str(b))
    endpoint = _common_endpoint(first, second)
    pair = PairedComparison.from_tables(second.table, first.table)
    _require_patients(pair, first, second)
    metrics = metric_differences.differences(pair, {**first.subtypes, **second.subtypes}, params.bootstrap, params.seed)
    d_calibration = metric_differences.d_calibration(pair)
    summary = _summary(first, second, pair, endpoint, params)
    page = comparison_report.render(summary, metrics, d_calibration, _figures(pair, metrics, params))
    with storage.replacing(out) as draft:
        draft.mkdir()
        (draft / "report.html").write_text(redaction.text(page), encoding="utf-8")
        return _result(summary, pair, metrics, d_calibration).save(draft)


def _read_both(a: str, b: str) -> tuple[Evaluated, Evaluated]:
    """Both evaluations; ids are compared as hashes where one of them was written with --redact."""
    first, second = (_read(address) for address in (a, b))
    if _is_hashed(first) != _is_hashed(second):
        return _with_hashes(first), _with_hashes(second)
    return first, second


def _read(address: str) -> Evaluated:
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mcti-compare-")))
        folder = stack.enter_context(evaluations.local_files(address, _REQUIRED, _OPTIONAL, scratch))
        table, inputs = evidence.read_predictions(folder / "predictions.csv"), storage.read_json(folder / _REQUIRED[1])
        groups = folder / "groups.csv"
        rows = pd.read_csv(groups, dtype=str, keep_default_na=False) if groups.exists() else pd.DataFrame()
        subtypes = dict(zip(rows["patient_id"], rows["subtype"], strict=True)) if len(rows) else {}
        result = storage.read_json(folder / "result.json")
    if missing := [name for name in ("patient_id", "risk", "time_months", "event") if name not in table]:
        raise DataError(f"no column {missing[0]}", f"predictions.csv of {address}", "run `mcti evaluate` again")
    # One model predicted all patients of an external validation: its risks are on one scale, as in one fold.
    table = table if "fold" in table else table.assign(fold=0)
    notice, competing = str(result.get("notice", "")), int(result.get("competing_events") or 0)
    return Evaluated(address, table, subtypes, inputs, notice, competing)


def _is_hashed(evaluated: Evaluated) -> bool:
    return bool(evaluated.table["patient_id"].astype(str).str.fullmatch("[0-9a-f]{64}").all())


def _with_hashes(evaluated: Evaluated) -> Evaluated:
    table = evaluated.table.assign(patient_id=evaluated.table["patient_id"].map(redaction.as_hash))
    subtypes = {redaction.as_hash(patient): subtype for patient, subtype in evaluated.subtypes.items()}
    return replace(evaluated, table=table, subtypes=subtypes)


def _common_endpoint(first: Evaluated, second: Evaluated) -> str:
    a, b = (str(one.inputs.get("endpoint")) for one in (first, second))
    if a != b:
        where = f"{first.name} and {second.name}"
        raise DataError(f"the endpoints differ: {a} and {b}", where, "compare two models of one endpoint")
    return a


def _require_patients(pair: PairedComparison, first: Evaluated, second: Evaluated) -> None:
    if not len(pair.patients):
        counts = f"{first.table['patient_id'].nunique()} and {second.table['patient_id'].nunique()} patients"
        where = f"{first.name} and {second.name}"
        raise DataError(f"no common patient ({counts})", where, "compare two models of one cohort")


def _summary(
    first: Evaluated, second: Evaluated, pair: PairedComparison, endpoint: str, params: EvaluateParams
) -> ComparisonSummary:
    a, b = (set(one.table["patient_id"]) for one in (first, second))
    return ComparisonSummary(
        a=first.name,
        b=second.name,
        endpoint=endpoint,
        patients=len(pair.patients),
        events=pair.events,
        only_a=len(a - b),
        only_b=len(b - a),
        changed_follow_up=metric_differences.changed_follow_up(first.table, second.table),
        resamples=params.bootstrap,
        settings=differing(first.inputs.get("settings", {}), second.inputs.get("settings", {})),
        data=differing(
            *({"cohort name": one.inputs.get("cohort"), **one.inputs.get("data", {})} for one in (first, second))
        ),
        notices=sorted({one.notice for one in (first, second)} - {""}),
        remarks=_remarks(first, second, pair),
    )


def _remarks(first: Evaluated, second: Evaluated, pair: PairedComparison) -> tuple[str, ...]:
    """What S(t) and all numbers mean in a cohort with competing events or late entry; else empty."""
    counts = {"A": first.competing_events, "B": second.competing_events}
    if len(set(counts.values())) == 1:
        counts = {"": counts["A"]}
    texts = [f"{name}: {competing_sentence(n)}".removeprefix(": ") for name, n in counts.items() if n]
    late = pair.model.outcomes.late_entries
    return (*texts, *([late_entry_sentence(late)] if late else []))


def differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """{dotted name: (value of a, value of b)} of the leaves of two trees that differ; None: absent in one of them."""
    first, second = dict(tracking.flat(a)), dict(tracking.flat(b))
    names = sorted(first.keys() | second.keys())
    return {name: (first.get(name), second.get(name)) for name in names if first.get(name) != second.get(name)}


def _figures(
    pair: PairedComparison, metrics: Mapping[str, MetricDifference], params: EvaluateParams
) -> Sequence[tuple[Figure, str]]:
    sides = {"A": pair.comparator, "B": pair.model}
    groups = {
        name: risk_groups.form_groups(side.outcomes, side.predictions.risk, params.risk_groups)
        for name, side in sides.items()
    }
    follow_up = float(np.quantile(pair.patients["time_months"], FOLLOW_UP_SHOWN))
    caption = "Common patients; limits of the groups from the other folds of the same model."
    drawn = [(overlays.kaplan_meier(groups, follow_up), caption)]
    if len(pair.horizons):
        months = float(pair.horizons[-1])
        points = {
            name: calibration.calibration_groups(side.outcomes, side.predictions.survival[:, -1], months)
            for name, side in sides.items()
        }
        keys = [f"auc_{t:g}" for t in pair.horizons]
        curves = {name: [getattr(metrics[key], name.lower()) for key in keys] for name in sides}
        dotted = "On the dotted line predicted and observed probability are equal."
        drawn += [(overlays.calibration(points, months), dotted), (overlays.auc(curves, pair.horizons), "")]
    return drawn


def _result(
    summary: ComparisonSummary,
    pair: PairedComparison,
    metrics: Mapping[str, MetricDifference],
    d_calibration: Mapping[str, float | None],
) -> CompareResult:
    return CompareResult(
        **{name: getattr(summary, name) for name in ("a", "b", "endpoint", "patients", "events", "only_a", "only_b")},
        changed_follow_up=summary.changed_follow_up,
        horizons_months=tuple(float(months) for months in pair.horizons),
        metrics={key: metric.as_dict() for key, metric in metrics.items()},
        d_calibration=dict(d_calibration),
        settings=dict(summary.settings),
        data=dict(summary.data),
    )


def _line(row: Mapping[str, Any]) -> str:
    numbers = row["difference"]
    if numbers["value"] is None:
        return "not defined"
    ends = "" if numbers["low"] is None else f" [{numbers['low']:+.3f}, {numbers['high']:+.3f}]"
    return f"{numbers['value']:+.3f}{ends}"
