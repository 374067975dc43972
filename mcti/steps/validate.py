"""The cohort against its data contract."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pandas as pd

from mcti import redaction, storage
from mcti.cohort import leakage, tables
from mcti.cohort.assembly import NO_FOLLOWUP, PATIENT_REASONS
from mcti.cohort.expression_blocks import ExpressionBlocks
from mcti.contracts import drift, expectations, feature_table, measurements, report, suites
from mcti.contracts.expression import Expression
from mcti.errors import DataError, OperationalError
from mcti.params import ValidateParams
from mcti.progress import Progress
from mcti.registry import tracking, validations
from mcti.registry.refusals import cache_refusals
from mcti.steps.result import StepResult
from mcti.steps.task_log import logged
from mcti.storage import Location

ALL_FAILED = "all slides failed"
PASSES = leakage.PASSES + 2  # over the expression: equal profiles, genes, site predictability


class ValidateResult(StepResult):
    """How the contract was kept; `failed` names the expectations that do not hold, `run_id` the run of MLflow."""

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
    cohort: Location,
    features: Location | None,
    params: ValidateParams,
    out: Path,
    *,
    progress: Progress | None = None,
) -> ValidateResult:
    """Hold a cohort against its data contract.

    Reads   cohort/*, features/slides.csv and the feature files (None: features are not looked at)
    Writes  out/{report.html,results.json}, and profile.json where the contract is kept: all of it or nothing, and
            before a failure is raised; a run of MLflow where a server is named (without an answer: a warning)
    Raises  DataError when a critical expectation does not hold: the first of them, its first rows, and the report
    """
    with storage.local_copy(cohort) as folder:
        info, blocks = tables.read_info(folder), ExpressionBlocks(folder, PASSES, progress)
        evidence = _with_features(_evidence(folder, info, blocks), features)
        found = measurements.measure(evidence)
        blocks.close()
        findings = suites.run(found, _clauses(params, features))
        results, profile = _results(info, evidence, found, findings, storage.tree_md5(folder), params)
    with storage.replacing(out) as draft:
        draft.mkdir()
        (draft / "report.html").write_text(redaction.text(report.html(results, found)), encoding="utf-8")
        storage.write_json(draft / "results.json", redaction.tree(results.model_dump(mode="json")))
        if results.passed:  # what a broken cohort looks like is nothing to measure later versions by
            storage.write_json(draft / "profile.json", profile.model_dump(mode="json"))
    run_id, warnings = _logged(Path(out), params)
    _stop_if_broken(results, Path(out))
    return _result(results, run_id, warnings)


def _logged(out: Path, params: ValidateParams) -> tuple[str | None, tuple[str, ...]]:
    """The run of MLflow, or the reason why there is none: the contract holds or not, whoever keeps the log."""
    if params.experiment is None or not tracking.server_configured():
        return None, ()
    try:
        return validations.log(out, params.experiment), ()
    except OperationalError as error:
        return None, (f"not logged to MLflow: {error}",)


def _evidence(folder: Path, info: tables.CohortInfo, blocks: ExpressionBlocks) -> measurements.CohortData:
    genes = tables.gene_names(folder)
    markers = [gene for gene in measurements.MARKERS if gene in set(genes)]
    slides = tables.read_slides(folder)
    twins = [*leakage.same_slides(slides), *leakage.same_profiles(blocks)]
    return measurements.CohortData(
        patients=tables.read_patients(folder),
        slides=slides,
        expression=Expression(genes, blocks),
        markers=tables.read_expression(folder, markers),
        scale=info.expression_scale,
        endpoint=info.endpoint,
        event_confirmed=info.event_confirmed,
        no_followup=sum(leaver.reason == NO_FOLLOWUP for leaver in info.attrition),
        twins=twins,
    )


def _with_features(evidence: measurements.CohortData, features: Location | None) -> measurements.CohortData:
    if features is None:
        return evidence
    statuses, rows = feature_table.read_statuses(features), []
    with storage.local_copy(features) as folder:
        for slide in statuses.to_dict("records"):
            if slide["status"] == "OK":
                rows.append(
                    feature_table.describe(folder / f"{slide['slide_id']}.h5", slide["slide_id"], slide["patient_id"])
                )
    return replace(evidence, bags=feature_table.table(rows), slide_statuses=statuses)


def _clauses(params: ValidateParams, features: Location | None) -> list[expectations.ExpectationRule]:
    parts = [
        expectations.cohort_rules,
        expectations.balance_rules,
        expectations.expression_rules,
        expectations.slide_rules,
    ]
    chosen = [clause for part in parts for clause in part(params)]
    return chosen if features is None else [*chosen, *expectations.feature_rules(params)]


def _results(
    info: tables.CohortInfo,
    evidence: measurements.CohortData,
    found: dict[str, pd.DataFrame],
    findings: list[suites.ExpectationResult],
    md5: str,
    params: ValidateParams,
) -> tuple[report.Results, drift.DataProfile]:
    measured = found["cohort"].iloc[0].drop(["cohort", "orientation_question"]).astype(float)
    numbers = {str(name): float(f"{value:.9g}") for name, value in measured.items() if value == value}
    numbers["slides"] = float(len(evidence.slides))
    profile = drift.profile(evidence.patients, found["genes"], numbers, md5)
    accepted = None if params.reference_profile is None else drift.read(params.reference_profile)
    results = report.Results(
        name=info.name,
        notice=info.notice,
        endpoint=info.endpoint,
        expression_scale=info.expression_scale,
        md5=md5,
        sources=info.sources,
        passed=all(finding.passed for finding in findings if finding.severity == "critical"),
        numbers=numbers,
        expectations=tuple(findings),
        warnings=info.warnings,
        came=info.counts["patients"] + sum(leaver.reason in PATIENT_REASONS for leaver in info.attrition),
        attrition=_attrition(info, evidence),
        left_out=_by_reason((x.reason, x.patient_id) for x in info.attrition if x.reason not in PATIENT_REASONS)
        | _failed_slides(evidence),
        drift=None if accepted is None else drift.compare(evidence.patients, profile, accepted),
    )
    return results, profile


def _attrition(info: tables.CohortInfo, evidence: measurements.CohortData) -> dict[str, tuple[str, ...]]:
    """Patients of the clinical table who left, by reason; with features, also those none of whose slides gave any."""
    left = [(x.reason, x.patient_id) for x in info.attrition if x.reason in PATIENT_REASONS]
    if evidence.bags is not None:
        gone = set(evidence.slides["patient_id"]) - set(evidence.bags["patient_id"])
        left += [(ALL_FAILED, p) for p in evidence.patients["patient_id"] if p in gone]
    redaction.register_ids(patient for _, patient in left)
    return _by_reason((reason, redaction.redact_id(patient)) for reason, patient in left)


def _failed_slides(evidence: measurements.CohortData) -> dict[str, tuple[str, ...]]:
    if evidence.slide_statuses is None:
        return {}
    failed = evidence.slide_statuses[evidence.slide_statuses["status"] != "OK"]
    return _by_reason((f"failed slide: {s}", i) for s, i in zip(failed["status"], failed["slide_id"], strict=True))


def _by_reason(leaving: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = defaultdict(list)
    for reason, name in leaving:
        found[reason].append(name)
    return {reason: tuple(sorted(names)) for reason, names in sorted(found.items())}


def _stop_if_broken(results: report.Results, out: Path) -> None:
    broken = [f for f in results.expectations if not f.passed and f.severity == "critical"]
    if broken:
        first = broken[0]
        rows = ", ".join(f"{row.key} ({row.value})" for row in first.first[:3])
        more = f"; {len(broken) - 1} more critical" if len(broken) > 1 else ""
        what = f"expectation {first.id} fails ({first.description}): {first.failing} of {first.rows} rows, {rows}{more}"
        raise DataError(what, f"{results.name}, see {out / 'report.html'}", first.hint)


def _result(results: report.Results, run_id: str | None, warnings: tuple[str, ...]) -> ValidateResult:
    return ValidateResult(
        name=results.name,
        notice=results.notice,
        passed=results.passed,
        patients=int(results.numbers["patients"]),
        events=int(results.numbers["events"]),
        expectations=len(results.expectations),
        failed=tuple(finding.id for finding in results.expectations if not finding.passed),
        md5=results.md5,
        run_id=run_id,
        warnings=warnings,
    )
