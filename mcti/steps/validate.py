"""The cohort against its data contract."""

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pandas as pd

from mcti import storage
from mcti.cohort import leakage, tables
from mcti.cohort.assembly import NO_FOLLOWUP, NOT_CLINICAL, NOT_CLINICAL_SLIDE
from mcti.contracts import bags, clauses, drift, measures, report, suites
from mcti.contracts.expression import Expression
from mcti.errors import DataError
from mcti.params import ValidateParams
from mcti.steps.result import StepResult
from mcti.storage import Location


class ValidateResult(StepResult):
    """How the contract was kept; `failed` names the expectations that do not hold."""

    name: str
    notice: str
    passed: bool
    patients: int
    events: int
    expectations: int
    failed: tuple[str, ...]
    md5: str


def validate(cohort: Location, features: Location | None, params: ValidateParams, out: Path) -> ValidateResult:
    """Hold a cohort against its data contract.

    Reads   cohort/*, features/slides.csv and the feature files (None: features are not looked at)
    Writes  out/{report.html,results.json,profile.json}: all of it or nothing, and before a failure is raised
    Raises  DataError when a critical expectation does not hold: the first of them, its first rows, and the report
    """
    with storage.local(cohort) as folder:
        info = tables.read_info(folder)
        evidence = _with_features(_evidence(folder, info), features)
        found = measures.measure(evidence)
        findings = suites.run(found, _clauses(params, features))
        results, profile = _results(info, evidence, found, findings, storage.tree_md5(folder), params)
    with storage.replacing(out) as draft:
        draft.mkdir()
        page = report.html(results, found, _came(info))
        (draft / "report.html").write_text(page, encoding="utf-8")
        storage.write_json(draft / "results.json", results.model_dump(mode="json"))
        storage.write_json(draft / "profile.json", profile.model_dump(mode="json"))
    _stop_if_broken(results, Path(out))
    return _result(results)


def _evidence(folder: Path, info: tables.CohortInfo) -> measures.Evidence:
    genes = tables.gene_names(folder)
    markers = [gene for gene in measures.MARKERS if gene in set(genes)]
    slides = tables.read_slides(folder)
    twins = [*leakage.same_slides(slides), *leakage.same_profiles(lambda: tables.expression_blocks(folder))]
    return measures.Evidence(
        patients=tables.read_patients(folder),
        slides=slides,
        expression=Expression(genes, lambda: tables.expression_blocks(folder)),
        markers=tables.read_expression(folder, markers),
        scale=info.expression_scale,
        no_followup=sum(leaver.reason == NO_FOLLOWUP for leaver in info.attrition),
        twins=twins,
    )


def _with_features(evidence: measures.Evidence, features: Location | None) -> measures.Evidence:
    if features is None:
        return evidence
    statuses, rows = bags.read_statuses(features), []
    with storage.local(features) as folder:
        for slide in statuses.to_dict("records"):
            if slide["status"] == "OK":
                rows.append(bags.describe(folder / f"{slide['slide_id']}.h5", slide["slide_id"], slide["patient_id"]))
    return replace(evidence, bags=bags.table(rows), slide_statuses=statuses)


def _clauses(params: ValidateParams, features: Location | None) -> list[clauses.Clause]:
    parts = [clauses.cohort_clauses, clauses.balance_clauses, clauses.expression_clauses, clauses.slide_clauses]
    chosen = [clause for part in parts for clause in part(params)]
    return chosen if features is None else [*chosen, *clauses.feature_clauses(params)]


def _results(
    info: tables.CohortInfo,
    evidence: measures.Evidence,
    found: dict[str, pd.DataFrame],
    findings: list[suites.Finding],
    md5: str,
    params: ValidateParams,
) -> tuple[report.Results, drift.Profile]:
    measured = found["cohort"].iloc[0].drop("cohort").astype(float)
    numbers = {str(name): float(f"{value:.9g}") for name, value in measured.items() if value == value}
    numbers["slides"] = float(len(evidence.slides))
    profile = drift.profile(evidence.patients, found["genes"], numbers, md5)
    accepted = None if params.accepted is None else drift.read(params.accepted)
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
        attrition=_attrition(info),
        drift=None if accepted is None else drift.compare(evidence.patients, profile, accepted),
    )
    return results, profile


def _attrition(info: tables.CohortInfo) -> dict[str, tuple[str, ...]]:
    by_reason: dict[str, list[str]] = defaultdict(list)
    for leaver in info.attrition:
        by_reason[leaver.reason].append(leaver.patient_id)
    return {reason: tuple(sorted(ids)) for reason, ids in sorted(by_reason.items())}


def _came(info: tables.CohortInfo) -> int:
    """Patients of the clinical table: those who stayed and those who left it."""
    strangers = {NOT_CLINICAL, NOT_CLINICAL_SLIDE}
    return info.counts["patients"] + sum(leaver.reason not in strangers for leaver in info.attrition)


def _stop_if_broken(results: report.Results, out: Path) -> None:
    broken = [f for f in results.expectations if not f.passed and f.severity == "critical"]
    if broken:
        first = broken[0]
        rows = ", ".join(f"{row.key} ({row.value})" for row in first.first[:3])
        more = f"; {len(broken) - 1} more critical" if len(broken) > 1 else ""
        what = f"expectation {first.id} fails ({first.says}): {first.failing} of {first.rows} rows, {rows}{more}"
        raise DataError(what, f"{results.name}, see {out / 'report.html'}", first.mend)


def _result(results: report.Results) -> ValidateResult:
    return ValidateResult(
        name=results.name,
        notice=results.notice,
        passed=results.passed,
        patients=int(results.numbers["patients"]),
        events=int(results.numbers["events"]),
        expectations=len(results.expectations),
        failed=tuple(finding.id for finding in results.expectations if not finding.passed),
        md5=results.md5,
    )
