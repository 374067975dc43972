"""The layout of MCAT, PORPOISE, MCTI and SurvPath: one CSV with labels, slides and genes, one row a slide.

`censorship` is 1 where the patient was censored: the event is 1 - censorship.
"""

from mcti.cohort import layouts
from mcti.cohort.assembly import RawCohort
from mcti.cohort.reading import Matrix, RawTable, as_matrix, is_missing, read_columns, read_table
from mcti.errors import DataError
from mcti.params import IngestParams
from mcti.storage import Location

_COLUMNS = {
    "patient_id": "case_id",
    "site": "site",
    "age": "age",
    "is_female": "is_female",
    "subtype": "oncotree_code",
    "time_months": "survival_months",
    "event": "censorship",
}
_GENE_ENDINGS = ("_rnaseq", "_mut", "_cnv")


def read(clinical: Location, expression: Location, slides: Location | None, params: IngestParams) -> RawCohort:
    """`clinical` and `expression` are the same CSV, or two with the same rows; slides are in it where None is given.

    Raises
        DataError: a column is missing; two rows of one patient disagree.
    """
    table = read_columns(clinical, lambda name: not name.endswith(_GENE_ENDINGS))
    table.need("case_id", "survival_months", "censorship")
    picked = layouts.with_site(layouts.pick(table, _COLUMNS, params))
    patients = _one_row_each(layouts.words(picked, "event", _turned(table, params)))
    manifest = _slides(table) if slides is None else read_table(slides)
    return RawCohort(patients, _genes(expression), manifest)


def _turned(table: RawTable, params: IngestParams) -> dict[str, str]:
    """Censorship to event; a column that the settings name instead is an event already."""
    if "event" in params.columns:
        return {}
    for position, text in enumerate(table.frame["censorship"]):
        if text.strip() not in {"0", "1", "0.0", "1.0"} and not is_missing(text):
            mend = "write 1 (censored) or 0 (the event was seen)"
            raise DataError(f"censorship is {text!r}, neither 0 nor 1", table.at(position, "censorship"), mend)
    return {"0": "1", "1": "0", "0.0": "1", "1.0": "0"}


def _one_row_each(table: RawTable) -> RawTable:
    """The first row of each patient; the others, one a slide, must say the same."""
    frame = table.frame
    first = frame.drop_duplicates("patient_id").set_index("patient_id")
    for column in first.columns:
        expected = frame["patient_id"].map(first[column])
        for position in (expected != frame[column]).to_numpy().nonzero()[0][:1]:
            name = table.originals.get(column, column)
            what = f"{name} is {frame[column].iloc[position]!r}, and {expected.iloc[position]!r} in another row"
            raise DataError(what, table.at(int(position), column), "say the same in all rows of a patient")
    kept = (~frame.duplicated("patient_id")).to_numpy().nonzero()[0]
    rows = [table.rows[i] for i in kept]
    return RawTable(frame.iloc[kept].reset_index(drop=True), table.where, rows, table.warnings, table.originals)


def _slides(table: RawTable) -> RawTable | None:
    if "slide_id" not in table.frame.columns:
        return None
    frame = table.frame[["case_id", "slide_id"]].rename(columns={"case_id": "patient_id"})
    return RawTable(frame, table.where, table.rows, [], {"patient_id": "case_id"})


def _genes(expression: Location) -> Matrix:
    """RNA under the bare symbol; mutations and copy numbers keep their endings, since their symbols are the same."""
    table = read_columns(expression, lambda name: name == "case_id" or name.endswith(_GENE_ENDINGS))
    table.need("case_id")
    matrix = as_matrix(table, "case_id")
    first: dict[str, int] = {}
    for position, patient in enumerate(matrix.ids):
        first.setdefault(patient, position)
    kept = list(first.values())
    genes = [name.removesuffix("_rnaseq") for name in matrix.genes]
    return Matrix(
        [matrix.ids[i] for i in kept], genes, matrix.values[kept], matrix.where, [matrix.rows[i] for i in kept]
    )
