"""The layout of MCAT, PORPOISE, MCTI and SurvPath: one CSV with labels, slides and genes, one row a slide.

`censorship` is 1 where the patient was censored: the event is 1 - censorship. SurvPath adds an end point's name to both
columns (`survival_months_dss`, `censorship_dss`); without such columns, `survival_months` is of the end point that the
settings name.
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
}
_GENE_ENDINGS = ("_rnaseq", "_mut", "_cnv")


def read(clinical: Location, expression: Location, slides: Location | None, params: IngestParams) -> RawCohort:
    """`clinical` and `expression` are the same CSV, or two with the same rows; slides are in it where None is given.

    Raises
        DataError: a column is missing; two rows of one patient disagree.
    """
    table = read_columns(clinical, lambda name: not name.endswith(_GENE_ENDINGS))
    table.need("case_id")
    picked = layouts.with_site(layouts.pick(table, _COLUMNS | _outcome(table, params), params))
    patients = _one_row_each(_turned(picked))
    manifest = _slides(table) if slides is None else read_table(slides)
    return RawCohort(patients, _genes(expression), manifest)


def _outcome(table: RawTable, params: IngestParams) -> dict[str, str]:
    """The columns of time and event of the end point.

    Raises
        DataError: the table names the end points of its columns, and the one asked for is not among them.
    """
    ending = f"_{params.endpoint.lower()}"
    named = [name for name in table.frame.columns if name.startswith("censorship_")]
    if f"censorship{ending}" in named:
        return {"time_months": f"survival_months{ending}", "event": f"censorship{ending}"}
    given = {"time_months", "event"} <= set(params.columns)
    if named and params.endpoint != "OS" and not given:
        hint = f"end points of this table: OS, {', '.join(n.removeprefix('censorship_').upper() for n in named)}"
        raise DataError(f"column 'censorship{ending}' is missing", table.where, hint)
    return {"time_months": "survival_months", "event": "censorship"}


def _turned(table: RawTable) -> RawTable:
    """Censorship to event; a column under another name, which the settings gave, is an event already."""
    column = table.originals["event"]
    if not column.startswith("censorship"):
        return table
    for position, text in enumerate(table.frame["event"]):
        if text.strip() not in {"0", "1", "0.0", "1.0"} and not is_missing(text):
            hint = "write 1 (censored) or 0 (the event was seen)"
            raise DataError(f"{column} is {text!r}, neither 0 nor 1", table.at(position, "event"), hint)
    return layouts.words(table, "event", {"0": "1", "1": "0", "0.0": "1", "1.0": "0"})


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
