"""Layouts of cohort tables, each by its name in `ingest.format`, all read into the same raw tables."""

from collections.abc import Callable

from mcti.cohort import cbioportal, gdc, layouts, mcat, xena
from mcti.cohort.assembly import RawCohort
from mcti.cohort.reading import RawTable, read_matrix, read_table
from mcti.cohort.tables import PATIENTS
from mcti.params import IngestParams
from mcti.storage import Location

Source = Callable[[Location, Location, Location | None, IngestParams], RawCohort]


def read(clinical: Location, expression: Location, slides: Location | None, params: IngestParams) -> RawCohort:
    """The raw tables in the layout that `params.format` names.

    Raises
        DataError: a file is not what its layout says, with row, column and value; the settings name a column that is
            not there.
        UsageError: the settings name no canonical column, or an end point that the layout does not have.
    """
    return SOURCES[params.format](clinical, expression, slides, params)


def canonical(clinical: Location, expression: Location, slides: Location | None, params: IngestParams) -> RawCohort:
    """CSV or Parquet under the columns of docs/cohort.md; times in the unit that the settings name."""
    return RawCohort(
        clinical=_clinical(read_table(clinical), params),
        expression=read_matrix(expression, key="patient_id"),
        slides=None if slides is None else read_table(slides),
    )


def _clinical(table: RawTable, params: IngestParams) -> RawTable:
    known = {column.name for column in PATIENTS}
    taken = known | set(params.columns.values())
    if params.covariates is None:
        rest = tuple(str(name) for name in table.frame.columns if name not in taken)
        params = params.model_copy(update={"covariates": rest})
    return layouts.pick(table, {name: name for name in known}, params)


SOURCES: dict[str, Source] = {
    "canonical": canonical,
    "mcat": mcat.read,
    "tcga-cbioportal": cbioportal.read,
    "xena": xena.read,
    "gdc": gdc.read,
}
