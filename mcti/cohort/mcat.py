"""The layout of MCAT, PORPOISE, MCTI and SurvPath: one CSV with labels, slides and genes, one row per slide.

`censorship` is 1 where the patient was censored: event = 1 - censorship. SurvPath adds the name of an end point to both
columns (`survival_months_dss`, `censorship_dss`); without such columns, `survival_months` belongs to the end point of
the settings.
"""

from mcti.cohort import layouts
from mcti.cohort.assembly import RawCohort
from mcti.cohort.raw_tables import Matrix, RawTable, as_matrix, is_missing
from mcti.cohort.reading import read_columns, read_table
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
_GENE_SUFFIXES = ("_rnaseq", "_mut", "_cnv")


def read(clinical: Location, expression: Location, slides: Location | None, params: IngestParams) -> RawCohort:
    """The raw tables of a cohort in this layout.

    clinical, expression    the same CSV, or two CSVs with the same rows
    slides                  slide manifest; None: the slides of the clinical CSV

    Raises DataError when a column is missing, or two rows of a patient disagree.
    """
    table = read_columns(clinical, lambda name: not name.endswith(_GENE_SUFFIXES))
    table.require("case_id")
    columns = _COLUMNS | _outcome_columns(table, params)
    labels = layouts.add_site(layouts.select_columns(table, columns, params))
    patients = _one_row_per_patient(_event_from_censorship(labels))
    manifest = _slides(table) if slides is None else read_table(slides)
    return RawCohort(patients, _genes(expression), manifest)


def _outcome_columns(table: RawTable, params: IngestParams) -> dict[str, str]:
    """The columns of time and event of the end point.

    Raises DataError when the columns of the table name their end points, and the one of the settings is not among them.
    """
    suffix = f"_{params.endpoint.lower()}"
    with_endpoint = [name for name in table.frame.columns if name.startswith("censorship_")]
    if f"censorship{suffix}" in with_endpoint:
        return {"time_months": f"survival_months{suffix}", "event": f"censorship{suffix}"}
    in_settings = {"time_months", "event"} <= set(params.columns)
    if with_endpoint and params.endpoint != "OS" and not in_settings:
        endpoints = ", ".join(name.removeprefix("censorship_").upper() for name in with_endpoint)
        hint = f"end points of this table: OS, {endpoints}"
        raise DataError(f"column 'censorship{suffix}' is missing", table.where, hint)
    return {"time_months": "survival_months", "event": "censorship"}


def _event_from_censorship(table: RawTable) -> RawTable:
    """Event = 1 - censorship; a column with another name, set in ingest.columns, is an event already."""
    column = table.originals["event"]
    if not column.startswith("censorship"):
        return table
    for position, text in enumerate(table.frame["event"]):
        if text.strip() not in {"0", "1", "0.0", "1.0"} and not is_missing(text):
            hint = "write 1 (censored) or 0 (the event was observed)"
            raise DataError(f"{column} is {text!r}, neither 0 nor 1", table.address(position, "event"), hint)
    return layouts.replace_words(table, "event", {"0": "1", "1": "0", "0.0": "1", "1.0": "0"})


def _one_row_per_patient(table: RawTable) -> RawTable:
    """The first row of each patient; the other rows, one per slide, must agree with it."""
    frame = table.frame
    first = frame.drop_duplicates("patient_id").set_index("patient_id")
    for column in first.columns:
        expected = frame["patient_id"].map(first[column])
        for position in (expected != frame[column]).to_numpy().nonzero()[0][:1]:
            name = table.originals.get(column, column)
            what = f"{name} is {frame[column].iloc[position]!r}, and {expected.iloc[position]!r} in another row"
            hint = "write the same value in all rows of a patient"
            raise DataError(what, table.address(int(position), column), hint)
    kept = (~frame.duplicated("patient_id")).to_numpy().nonzero()[0]
    rows = [table.rows[i] for i in kept]
    return RawTable(frame.iloc[kept].reset_index(drop=True), table.where, rows, table.warnings, table.originals)


def _slides(table: RawTable) -> RawTable | None:
    if "slide_id" not in table.frame.columns:
        return None
    frame = table.frame[["case_id", "slide_id"]].rename(columns={"case_id": "patient_id"})
    return RawTable(frame, table.where, table.rows, [], {"patient_id": "case_id"})


def _genes(expression: Location) -> Matrix:
    """RNA under the gene symbol; mutations and copy numbers keep their suffix, since they have the same symbols."""
    table = read_columns(expression, lambda name: name == "case_id" or name.endswith(_GENE_SUFFIXES))
    table.require("case_id")
    matrix = as_matrix(table, "case_id")
    first_row: dict[str, int] = {}
    for row, patient in enumerate(matrix.ids):
        first_row.setdefault(patient, row)
    kept = list(first_row.values())
    genes = [name.removesuffix("_rnaseq") for name in matrix.genes]
    ids, rows = [matrix.ids[i] for i in kept], [matrix.rows[i] for i in kept]
    return Matrix(ids, genes, matrix.values[kept], matrix.where, rows)
