"""Layouts of source tables, each under its name in `ingest.format`, all read into the same raw tables."""

from collections.abc import Callable

from mcti.cohort import cbioportal, gdc, layouts, mcat, xena
from mcti.cohort.assembly import RawCohort
from mcti.cohort.raw_tables import RawTable
from mcti.cohort.reading import read_matrix, read_table
from mcti.cohort.tables import PATIENT_COLUMNS
from mcti.errors import DataError, did_you_mean
from mcti.params import IngestParams
from mcti.storage import Location

Source = Callable[[Location, Location, Location | None, IngestParams], RawCohort]


def read(clinical: Location, expression: Location, slides: Location | None, params: IngestParams) -> RawCohort:
    """The raw tables in the layout that `params.format` names.

    Raises
        DataError when a file does not have the layout, with row, column and value, or a column of the settings is
            missing.
        UsageError when a setting names no canonical column, or an end point that the layout does not have.
    """
    return SOURCES[params.format](clinical, expression, slides, params)


def canonical(clinical: Location, expression: Location, slides: Location | None, params: IngestParams) -> RawCohort:
    """CSV or Parquet with the columns of docs/cohort.md; times in `params.time_unit`.

    Raises DataError when a file is not such a table.
    """
    return RawCohort(
        clinical=_clinical(read_table(clinical), params),
        expression=read_matrix(expression, key="patient_id"),
        slides=None if slides is None else read_table(slides),
    )


def _clinical(table: RawTable, params: IngestParams) -> RawTable:
    canonical_names = set(PATIENT_COLUMNS)
    if params.endpoints:
        _check_outcomes(table, params)
        outcome = params.endpoints[params.endpoint]
        names = outcome.columns()
        params = params.model_copy(update={"columns": params.columns | names})
    if params.covariates is None:
        used = canonical_names | set(params.columns.values()) | params.outcome_columns
        covariates = tuple(str(name) for name in table.frame.columns if name not in used)
        params = params.model_copy(update={"covariates": covariates})
    if params.endpoints:  # an end point names its column of competing events
        canonical_names.discard("competing")
    return layouts.select_columns(table, {name: name for name in canonical_names}, params)


def _check_outcomes(table: RawTable, params: IngestParams) -> None:
    """Check that the table has the columns of every end point: a misspelled one would become a covariate."""
    for name, columns in params.endpoints.items():
        for column in columns.columns().values():
            if column not in table.frame.columns:
                what = f"column {column!r}, set in ingest.endpoints.{name}, is missing"
                raise DataError(what, f"the header of {table.where}", did_you_mean(column, table.frame.columns))
    if "competing" in table.frame.columns and "competing" not in params.outcome_columns:
        hint = "add it to its end point, e.g. DSS: {time_months: …, event: …, competing: competing}, or rename it"
        raise DataError("column 'competing' belongs to no end point of ingest.endpoints", table.where, hint)


SOURCES: dict[str, Source] = {
    "canonical": canonical,
    "mcat": mcat.read,
    "tcga-cbioportal": cbioportal.read,
    "xena": xena.read,
    "gdc": gdc.read,
}
