"""Step `validate_features`: the data contract of the features, of `extract` or of another tool."""

from pathlib import Path

import pandas as pd

from mcti import redaction, storage
from mcti.cohort import tables
from mcti.contracts import expectations, feature_table, measurements, report, suites
from mcti.params import ValidateParams
from mcti.registry.refusals import cache_refusals
from mcti.steps.result import StepResult
from mcti.steps.task_log import logged
from mcti.steps.validate import by_reason, raise_first_failure
from mcti.storage import Location


class ValidateFeaturesResult(StepResult):
    """Result of the contract. usable: slides with features; failed: ids of the expectations that do not hold."""

    name: str
    passed: bool
    slides: int
    usable: int
    tiles: int
    expectations: int
    failed: tuple[str, ...]


@logged
@cache_refusals
def validate_features(
    cohort: Location, features: Location, params: ValidateParams, out: Path
) -> ValidateFeaturesResult:
    """Check the features of a cohort against the expectations of its data contract on features.

    Reads   cohort/{patients.parquet, cohort.json}, features/slides.csv and the feature files
    Writes  out/{report.html, results.json}, atomically and before an error is raised
    Raises  DataError when a critical expectation does not hold, with its first rows and the path of the report
    """
    info, patients = tables.read_info(cohort), tables.read_patients(cohort)
    statuses = feature_table.read_statuses(features)
    measured = measurements.measure_features(patients, feature_table.measure(features, statuses), statuses)
    failed = statuses[statuses["status"] != "OK"]
    outcomes = suites.run(measured, expectations.feature_rules(params))
    results = report.FeatureResults(
        name=info.name,
        notice=info.notice,
        passed=all(outcome.passed for outcome in outcomes if outcome.severity == "critical"),
        numbers=_numbers(measured, statuses),
        expectations=tuple(outcomes),
        failed_slides=by_reason(zip(failed["status"], failed["slide_id"], strict=True)),
    )
    with storage.replacing(out) as draft:
        draft.mkdir()
        document = redaction.text(report.features_html(results, measured))
        (draft / "report.html").write_text(document, encoding="utf-8")
        storage.write_json(draft / "results.json", redaction.tree(results.model_dump(mode="json")))
    raise_first_failure(results.expectations, f"the features of {results.name}, see {Path(out) / 'report.html'}")
    return _result(results)


def _numbers(measured: dict[str, pd.DataFrame], statuses: pd.DataFrame) -> dict[str, int]:
    tiles = measured["patients"]["tiles"]
    return {
        "slides": len(statuses),
        "slides with features": len(measured["bags"]),
        "patches": int(measured["bags"]["tiles"].sum()),
        "patients without a patch": int((tiles == 0).sum()),
    }


def _result(results: report.FeatureResults) -> ValidateFeaturesResult:
    return ValidateFeaturesResult(
        name=results.name,
        passed=results.passed,
        slides=results.numbers["slides"],
        usable=results.numbers["slides with features"],
        tiles=results.numbers["patches"],
        expectations=len(results.expectations),
        failed=tuple(outcome.id for outcome in results.expectations if not outcome.passed),
    )
