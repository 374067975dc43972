"""Layouts of cohort tables, each by its name in `ingest.format`, all read into the same raw tables."""

from collections.abc import Callable

from mcti.cohort.assembly import RawCohort
from mcti.cohort.reading import read_matrix, read_table
from mcti.params import IngestParams
from mcti.storage import Location

Source = Callable[[Location, Location, Location | None], RawCohort]


def read(clinical: Location, expression: Location, slides: Location | None, params: IngestParams) -> RawCohort:
    """The raw tables in the layout that `params.format` names.

    Raises
        DataError: a file is not what its layout says, with row, column and value.
    """
    return SOURCES[params.format](clinical, expression, slides)


def canonical(clinical: Location, expression: Location, slides: Location | None) -> RawCohort:
    """CSV or Parquet under the columns of docs/cohort.md; times in the unit that the settings name."""
    return RawCohort(
        clinical=read_table(clinical),
        expression=read_matrix(expression, key="patient_id"),
        slides=None if slides is None else read_table(slides),
    )


SOURCES: dict[str, Source] = {"canonical": canonical}
