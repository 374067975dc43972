"""The expectation rules as suites of Great Expectations, run through checkpoints in an ephemeral context."""

import os
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict

from mcti.contracts.expectations import KEYS, ExpectationRule

LISTED = 10  # failing rows that a report lists


class FailingRow(BaseModel):
    """A failing row: its key (patient, gene, site …) and the failing value."""

    model_config = ConfigDict(frozen=True)
    key: str
    value: str


class ExpectationResult(BaseModel):
    """The result of an expectation: rows checked, rows failing, and the first failing rows."""

    model_config = ConfigDict(frozen=True)
    id: str
    table: str
    column: str
    severity: str
    description: str
    hint: str
    passed: bool
    rows: int
    failing: int
    first: tuple[FailingRow, ...]


def run(tables: dict[str, pd.DataFrame], rules: list[ExpectationRule]) -> list[ExpectationResult]:
    """The results of the rules on the rows of their tables, in the order of the rules.

    The caller omits rules on tables that do not exist (features that were not passed), because they would fail.
    """
    context = _context()
    source = context.data_sources.add_pandas("cohort")
    results: dict[str, ExpectationResult] = {}
    for name in dict.fromkeys(rule.table for rule in rules):
        chosen = [rule for rule in rules if rule.table == name]
        # Sorted by key, so that the listed rows do not depend on the order of the table.
        ordered = tables[name].sort_values(KEYS[name], ignore_index=True, key=lambda column: column.astype(str))
        frame = _without_nullable_types(ordered)
        for result in _validate(context, source, name, frame, chosen):
            rule = next(rule for rule in chosen if rule.id == result.expectation_config.meta["id"])
            results[rule.id] = _result(rule, result, len(frame))
    return [results[rule.id] for rule in rules]


def _context() -> Any:
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # before the import, so that no usage data are sent
    import great_expectations as gx

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    return context


def _validate(context: Any, source: Any, name: str, frame: pd.DataFrame, rules: list[ExpectationRule]) -> list[Any]:
    import great_expectations as gx

    expectations = [_expectation(rule) for rule in rules]
    suite = context.suites.add(gx.ExpectationSuite(name=name, expectations=expectations))
    batch = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all")
    definition = context.validation_definitions.add(gx.ValidationDefinition(name=name, data=batch, suite=suite))
    form = {"result_format": "COMPLETE", "unexpected_index_column_names": [KEYS[name]]}
    checkpoint = gx.Checkpoint(name=name, validation_definitions=[definition], result_format=form)
    outcome = context.checkpoints.add(checkpoint).run(batch_parameters={"dataframe": frame})
    (validation,) = outcome.run_results.values()
    return list(validation.results)


def _expectation(rule: ExpectationRule) -> Any:
    from great_expectations import expectations

    expectation_class = getattr(expectations, rule.expectation)
    return expectation_class(**rule.arguments, severity=rule.severity, meta={"id": rule.id})


def _without_nullable_types(frame: pd.DataFrame) -> pd.DataFrame:
    """Nullable integers as floats: Great Expectations fails when it compares pd.NA with a number."""
    nullable = [name for name in frame.columns if isinstance(frame[name].dtype, pd.api.extensions.ExtensionDtype)]
    return frame.astype({name: np.float64 for name in nullable if pd.api.types.is_numeric_dtype(frame[name])})


def _result(rule: ExpectationRule, result: Any, rows: int) -> ExpectationResult:
    detail = result.result
    # An expectation that did not run has no counts. It neither holds nor fails: that is a defect of this program.
    assert "unexpected_count" in detail, f"expectation {rule.id} did not run: {result.exception_info}"
    column = rule.arguments["column"]
    listed = detail.get("unexpected_index_list") or []
    first = [FailingRow(key=str(row[KEYS[rule.table]]), value=_shown(row.get(column))) for row in listed[:LISTED]]
    return ExpectationResult(
        id=rule.id,
        table=rule.table,
        column=column,
        severity=rule.severity,
        description=rule.description,
        hint=rule.hint,
        passed=bool(result.success),
        rows=rows,
        failing=int(detail["unexpected_count"]),
        first=tuple(first),
    )


def _shown(value: object) -> str:
    if isinstance(value, float | np.floating):
        return f"{float(value):.6g}"
    text = str(value)
    return text if len(text) <= 200 else f"{text[:200]}…"
