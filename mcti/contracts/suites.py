"""The clauses as suites of Great Expectations, run through checkpoints on an ephemeral context."""

import os
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict

from mcti.contracts.expectations import KEYS, ExpectationRule

LISTED = 10  # failing rows that a report names


class FailingRow(BaseModel):
    """A failing row: its key (patient, gene, site …) and the value that fails."""

    model_config = ConfigDict(frozen=True)
    key: str
    value: str


class ExpectationResult(BaseModel):
    """What an expectation found."""

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


def run(tables: dict[str, pd.DataFrame], clauses: list[ExpectationRule]) -> list[ExpectationResult]:
    """The findings of the clauses on their tables, in the order of the clauses.

    A clause on a table that is not there (features that nobody gave) is left out by the caller, never passed.
    """
    context = _context()
    source = context.data_sources.add_pandas("cohort")
    found: dict[str, ExpectationResult] = {}
    for name in dict.fromkeys(clause.table for clause in clauses):
        chosen = [clause for clause in clauses if clause.table == name]
        # Listed rows come in the order of their keys, whatever the order of the table.
        frame = _plain(tables[name].sort_values(KEYS[name], ignore_index=True, key=lambda c: c.astype(str)))
        for result in _validate(context, source, name, frame, chosen):
            clause = next(c for c in chosen if c.id == result.expectation_config.meta["id"])
            found[clause.id] = _finding(clause, result, len(frame))
    return [found[clause.id] for clause in clauses]


def _context() -> Any:
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # before the import: nobody is told that a hospital runs this
    import great_expectations as gx

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    return context


def _validate(context: Any, source: Any, name: str, frame: pd.DataFrame, clauses: list[ExpectationRule]) -> list[Any]:
    import great_expectations as gx

    made = [_expectation(clause) for clause in clauses]
    suite = context.suites.add(gx.ExpectationSuite(name=name, expectations=made))
    batch = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all")
    definition = context.validation_definitions.add(gx.ValidationDefinition(name=name, data=batch, suite=suite))
    form = {"result_format": "COMPLETE", "unexpected_index_column_names": [KEYS[name]]}
    checkpoint = gx.Checkpoint(name=name, validation_definitions=[definition], result_format=form)
    outcome = context.checkpoints.add(checkpoint).run(batch_parameters={"dataframe": frame})
    (validation,) = outcome.run_results.values()
    return list(validation.results)


def _expectation(clause: ExpectationRule) -> Any:
    from great_expectations import expectations

    kind = getattr(expectations, clause.kind)
    return kind(**clause.arguments, severity=clause.severity, meta={"id": clause.id})


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Nullable integers as floats: Great Expectations compares pd.NA with numbers and fails on it."""
    nullable = [name for name in frame.columns if isinstance(frame[name].dtype, pd.api.extensions.ExtensionDtype)]
    return frame.astype({name: np.float64 for name in nullable if pd.api.types.is_numeric_dtype(frame[name])})


def _finding(clause: ExpectationRule, result: Any, rows: int) -> ExpectationResult:
    detail = result.result
    # An expectation that could not run has no counts; taken for a pass or a fail it would hide a defect of ours.
    assert "unexpected_count" in detail, f"expectation {clause.id} did not run: {result.exception_info}"
    column = clause.arguments["column"]
    listed = detail.get("unexpected_index_list") or []
    first = [FailingRow(key=str(row[KEYS[clause.table]]), value=_shown(row.get(column))) for row in listed[:LISTED]]
    return ExpectationResult(
        id=clause.id,
        table=clause.table,
        column=column,
        severity=clause.severity,
        description=clause.description,
        hint=clause.hint,
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
