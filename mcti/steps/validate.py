"""Step `validate`: the data contract of a cohort; `validate_features` checks its features."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from mcti import redaction, storage
from mcti.errors import DataError, OperationalError
from mcti.params import ValidateParams
from mcti.progress import Progress
from mcti.registry import tracking, validations
from mcti.registry.refusals import cache_refusals
from mcti.steps.result import StepResult
from mcti.steps.task_log import logged
from mcti.storage import Location

if TYPE_CHECKING:  # they import pandas, which a wrong option or the first line of the log does not need
    import pandas as pd

    from mcti.cohort.expression_blocks import ExpressionBlocks
    from mcti.cohort.tables import CohortInfo
    from mcti.contracts import drift, report
    from mcti.contracts.expectations import ExpectationRule
    from mcti.contracts.measurements import CohortData
    from mcti.contracts.suites import ExpectationResult

OWN_PASSES = 2  # over the expression: genes, site predictability; those for equal profiles come before them


class ValidateResult(StepResult):
    """Result of the data contract.

    expectations    number of expectations;  failed: ids of those that do not hold
    md5             of the cohort folder;  run_id: of the MLflow run, None where nothing was logged
    """

    name: str
    notice: str
    passed: bool
    patients: int
    events: int
    expectations: int
    failed: tuple[str, ...]
    md5: str
    run_id: str | None
    warnings: tuple[str, ...]


@logged
@cache_refusals
def validate(
    cohort: Location, params: ValidateParams, out: Path, *, progress: Progress | None = None
) -> ValidateResult:
    """Check a cohort against its data contract.

    Reads   cohort/*
    Writes  out/{report.html,results.json}, and profile.json where the contract holds, atomically and before an error is
            raised; an MLflow run where a tracking server is set (a warning where it does not answer)
    Raises  DataError when a critical expectation does not hold, with its first rows and the path of the report
    """
    from mcti.cohort import leakage, tables
    from mcti.cohort.expression_blocks import ExpressionBlocks
    from mcti.contracts import measurements, report, suites

    with storage.local_copy(cohort) as folder:
        info, blocks = tables.read_info(folder), ExpressionBlocks(folder, leakage.PASSES + OWN_PASSES, progress)
        data = _cohort_data(folder, info, blocks)
        measured = measurements.measure(data)
        blocks.close()
        outcomes = suites.run(measured, _rules(params, data.patients))
        results, profile = _results(info, data, measured, outcomes, storage.tree_md5(folder), params)
    with storage.replacing(out) as draft:
        draft.mkdir()
        (draft / "report.html").write_text(redaction.text(report.html(results, measured)), encoding="utf-8")
        storage.write_json(draft / "results.json", redaction.tree(results.model_dump(mode="json")))
        if results.passed:  # a cohort that violates the contract is not a reference for later versions
            storage.write_json(draft / "profile.json", profile.model_dump(mode="json"))
    run_id, warnings = _log_to_mlflow(Path(out), params)
    _check_contract(results, Path(out))
    return _result(results, run_id, warnings)


def _log_to_mlflow(out: Path, params: ValidateParams) -> tuple[str | None, tuple[str, ...]]:
    """The id of the MLflow run; a warning where the server does not answer, since the result is valid without it."""
    if params.experiment is None or not tracking.server_configured():
        return None, ()
    try:
        return validations.log(out, params.experiment), ()
    except OperationalError as error:
        return None, (f"not logged to MLflow: {error}",)


def _cohort_data(folder: Path, info: "CohortInfo", blocks: "ExpressionBlocks") -> "CohortData":
    from mcti.cohort import leakage, tables
    from mcti.cohort.assembly import NO_FOLLOWUP
    from mcti.contracts import measurements
    from mcti.contracts.expression import Expression

    genes = tables.gene_names(folder)
    markers = [gene for gene in measurements.MARKERS if gene in set(genes)]
    slides = tables.read_slides(folder)
    shared_pairs = [*leakage.same_slides(slides), *leakage.same_profiles(blocks)]
    return measurements.CohortData(
        patients=tables.read_patients(folder),
        slides=slides,
        expression=Expression(genes, blocks),
        markers=tables.read_expression(folder, markers),
        scale=info.expression_scale,
        endpoint=info.endpoint,
        event_confirmed=info.event_confirmed,
        no_followup=sum(patient.reason == NO_FOLLOWUP for patient in info.attrition),
        shared_pairs=shared_pairs,
        ordered_levels=info.ordered_levels,
    )


def _rules(params: ValidateParams, patients: "pd.DataFrame") -> "list[ExpectationRule]":
    from mcti.cohort import left_truncation
    from mcti.contracts import expectations

    parts = [
        expectations.cohort_rules,
        expectations.balance_rules,
        expectations.expression_rules,
        expectations.slide_rules,
    ]
    entry = expectations.entry_rules() if left_truncation.has_entries(patients) else []
    competing = expectations.competing_rules() if "competing" in patients else []
    return [*(rule for part in parts for rule in part(params)), *competing, *entry]


def _results(
    info: "CohortInfo",
    data: "CohortData",
    tables_by_name: "dict[str, pd.DataFrame]",
    outcomes: "list[ExpectationResult]",
    md5: str,
    params: ValidateParams,
) -> "tuple[report.Results, drift.DataProfile]":
    from mcti.cohort.assembly import PATIENT_REASONS
    from mcti.contracts import drift, report

    measured = tables_by_name["cohort"].iloc[0].drop(["cohort", "orientation_question"]).astype(float)
    numbers = {str(name): float(f"{value:.9g}") for name, value in measured.items() if value == value}
    numbers["slides"] = float(len(data.slides))
    profile = drift.profile(data.patients, tables_by_name["genes"], numbers, md5)
    reference = None if params.reference_profile is None else drift.read(params.reference_profile)
    results = report.Results(
        name=info.name,
        notice=info.notice,
        endpoint=info.endpoint,
        expression_scale=info.expression_scale,
        md5=md5,
        sources=info.sources,
        passed=all(outcome.passed for outcome in outcomes if outcome.severity == "critical"),
        numbers=numbers,
        expectations=tuple(outcomes),
        warnings=info.warnings,
        clinical_patients=info.counts["patients"] + sum(x.reason in PATIENT_REASONS for x in info.attrition),
        attrition=_attrition(info),
        excluded_rows=by_reason((x.reason, x.patient_id) for x in info.attrition if x.reason not in PATIENT_REASONS),
        drift=None if reference is None else drift.compare(data.patients, profile, reference),
    )
    return results, profile


def _attrition(info: "CohortInfo") -> dict[str, tuple[str, ...]]:
    """Excluded patients of the clinical table by reason."""
    from mcti.cohort.assembly import PATIENT_REASONS

    excluded = [(x.reason, x.patient_id) for x in info.attrition if x.reason in PATIENT_REASONS]
    redaction.register_ids(patient for _, patient in excluded)
    return by_reason((reason, redaction.redact_id(patient)) for reason, patient in excluded)


def by_reason(excluded: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """Pairs of reason and name as {reason: names}, both sorted."""
    grouped: dict[str, list[str]] = defaultdict(list)
    for reason, name in excluded:
        grouped[reason].append(name)
    return {reason: tuple(sorted(names)) for reason, names in sorted(grouped.items())}


def _check_contract(results: "report.Results", out: Path) -> None:
    raise_first_failure(results.expectations, f"{results.name}, see {out / 'report.html'}")


def raise_first_failure(results: "Iterable[ExpectationResult]", where: str) -> None:
    """Refuse data that violate a critical expectation.

    Raises DataError with the first such expectation, its first rows and the number of the others.
    """
    failed = [f for f in results if not f.passed and f.severity == "critical"]
    if failed:
        first = failed[0]
        rows = ", ".join(f"{row.key} ({row.value})" for row in first.first[:3])
        more = f"; {len(failed) - 1} more critical expectations fail" if len(failed) > 1 else ""
        what = f"expectation {first.id} fails ({first.description}): {first.failing} of {first.rows} rows, {rows}{more}"
        raise DataError(what, where, first.hint)


def _result(results: "report.Results", run_id: str | None, warnings: tuple[str, ...]) -> ValidateResult:
    return ValidateResult(
        name=results.name,
        notice=results.notice,
        passed=results.passed,
        patients=int(results.numbers["patients"]),
        events=int(results.numbers["events"]),
        expectations=len(results.expectations),
        failed=tuple(outcome.id for outcome in results.expectations if not outcome.passed),
        md5=results.md5,
        run_id=run_id,
        warnings=warnings,
    )
