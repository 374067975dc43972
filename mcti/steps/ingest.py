"""Step `ingest`: source tables to the canonical cohort."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from mcti import storage
from mcti.params import IngestParams
from mcti.registry.pipeline_run import tracked
from mcti.steps.result import StepResult
from mcti.steps.task_log import logged
from mcti.storage import Location

if TYPE_CHECKING:
    from mcti.cohort.tables import CohortInfo


class IngestResult(StepResult):
    """Size of the cohort; `excluded`: {reason: number of patients, samples and rows}.

    competing_events    None: the source states none
    late_entries    patients under observation only from a time after the origin, and the median of these times in
                    months; absent for a cohort without entry_months
    """

    name: str
    notice: str
    patients: int
    events: int
    genes: int
    slides: int
    excluded: dict[str, int]
    warnings: tuple[str, ...]
    competing_events: int | None = Field(None, exclude_if=lambda count: count is None)
    late_entries: int | None = Field(None, exclude_if=lambda value: value is None)
    median_late_entry: float | None = Field(None, exclude_if=lambda value: value is None)


@logged
@tracked
def ingest(
    clinical: Location, expression: Location, slides: Location | None, params: IngestParams, out: Path
) -> IngestResult:
    """Read the source tables, join them by patient, and write the cohort.

    Reads   clinical table, expression table, slide manifest (None: a cohort without slides) in `params.format`
    Writes  out/{patients,expression,slides}.parquet and out/cohort.json, atomically
    Raises  DataError when a cell, id or column is invalid, with file, row, column and value
    """
    from mcti.cohort import sources, tables
    from mcti.cohort.assembly import assemble

    raw = sources.read(clinical, expression, slides, params)
    cohort = assemble(raw, params)
    digests = {"clinical": storage.tree_md5(clinical), "expression": storage.tree_md5(expression)}
    if slides is not None:
        digests["slides"] = storage.tree_md5(slides)
    info = cohort.info.model_copy(update={"sources": digests})
    with storage.replacing(out) as draft:
        draft.mkdir()
        tables.write(tables.Cohort(cohort.patients, cohort.expression, cohort.slides, info), draft)
    return _result(info)


def _result(info: "CohortInfo") -> IngestResult:
    reasons = Counter(patient.reason for patient in info.attrition)
    counts = {name: info.counts[name] for name in ("patients", "events", "genes", "slides")}
    counts |= {"competing_events": info.counts["competing_events"]} if "competing_events" in info.counts else {}
    excluded = dict(sorted(reasons.items()))
    entry = {"late_entries": info.counts.get("late_entries"), "median_late_entry": info.median_late_entry}
    return IngestResult(
        name=info.name, notice=info.notice, excluded=excluded, warnings=info.warnings, **counts, **entry
    )
