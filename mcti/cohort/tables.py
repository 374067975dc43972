"""The canonical tables of a cohort: one schema, enforced in this module and rendered into docs/cohort.md.

A cohort is a folder of four files that `ingest` writes and every later step reads: `patients.parquet`,
`expression.parquet`, `slides.parquet`, `cohort.json`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mcti import redaction, storage
from mcti.errors import DataError, did_you_mean
from mcti.storage import Location

ValueType = Literal["id", "text", "number", "positive", "not_negative", "age", "flag", "path", "md5"]


@dataclass(frozen=True)
class ColumnSchema:
    """One column of a canonical table.

    required    the table must have the column
    filled      every row must have a value
    """

    name: str
    value_type: ValueType
    required: bool
    filled: bool
    description: str


PATIENTS = (
    ColumnSchema("patient_id", "id", True, True, "one row per patient"),
    ColumnSchema(
        "cohort", "text", False, True, "study or cancer type; the name of the cohort where the column is missing"
    ),
    ColumnSchema("site", "text", True, True, "treating hospital; folds by site never split a site"),
    ColumnSchema("age", "age", False, False, "years at diagnosis; without this column every age is missing"),
    ColumnSchema("is_female", "flag", True, False, "1 female, 0 male"),
    ColumnSchema("subtype", "text", True, True, "class of the second task; a patient without a subtype is excluded"),
    ColumnSchema(
        "time_months",
        "positive",
        True,
        True,
        "follow-up (days / 30.4375); a patient with 0 or none is excluded",
    ),
    ColumnSchema("event", "flag", True, True, "1 the event was observed, 0 censored at time_months"),
)
OPTIONAL_PATIENTS = (
    ColumnSchema(
        "competing", "flag", False, True, "1 a competing event ended the observation at time_months; event is then 0"
    ),
    ColumnSchema(
        "entry_months",
        "not_negative",
        False,
        True,
        "entry under observation, from the origin of time_months (left truncation); a patient without one, or whose "
        "follow-up ends before it, is excluded",
    ),
)
"""Columns of patients that only some cohorts have: a table without them is written without them."""
PATIENT_COLUMNS = tuple(column.name for column in (*PATIENTS, *OPTIONAL_PATIENTS))
"""Names of all columns of patients that have a meaning of their own: none of them is a covariate."""
SLIDES = (
    ColumnSchema("patient_id", "id", True, True, "a patient may have several slides"),
    ColumnSchema("slide_id", "id", True, True, "one row per slide; a file suffix such as .svs is dropped"),
    ColumnSchema("path", "path", False, False, "path relative to the manifest, or s3:// address; may be missing"),
    ColumnSchema("mpp", "positive", False, False, "µm per pixel of level 0; missing: taken from the file"),
    ColumnSchema("stain", "text", False, False, "missing: H&E"),
    ColumnSchema("md5", "md5", False, False, "hex MD5 of the file"),
)
EXPRESSION_KEY = ColumnSchema(
    "patient_id", "id", True, True, "one row per patient; every other column is a gene, float32"
)

ARROW_TYPES: dict[ValueType, str] = {
    "id": "string",
    "text": "string",
    "path": "string",
    "md5": "string",
    "number": "double",
    "positive": "double",
    "not_negative": "double",
    "age": "double",
    "flag": "int8",
}
ID_PATTERN = re.compile(r"\w(?:[\w.+\- ]{0,126}[\w.+\-])?")
"""Pattern of every patient and slide id, matched as a whole (`ID_PATTERN.fullmatch`).

Ids become file names and are shown in reports: no path, markup or formula characters, no space at either end.
"""
ID_RULE = "use letters, digits, spaces and _ . + - only, a letter, digit or _ first, at most 128 characters"
"""ID_PATTERN in words, the hint of error messages."""

# Tables have up to 20,000 genes per row. Groups of 1,024 rows keep the memory of one group small (docs/cohort.md).
ROW_GROUP = 1024


class ExcludedPatient(BaseModel):
    """A patient who was excluded from the analysis: the reason, and the step that excluded them.

    `cohort.json` lists the patients, samples and rows that `ingest` excluded, each as {patient_id, reason}.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    patient_id: str
    reason: str
    step: str = Field("ingest", exclude=True)  # always ingest in cohort.json, therefore not written


class CohortInfo(BaseModel):
    """The description of a cohort (`cohort.json`).

    counts      patients, events, genes, slides; competing_events where the cohort has some; late_entries (entries after
                the origin) with entry_months
    median_late_entry  median of the entries after the origin in months; not in the file of a cohort without any
    sources     {clinical, expression, slides: MD5 of the source file}
    attrition   excluded patients, samples and rows of other tables
    ordered_levels  levels of each ordered categorical covariate, lowest first; not in the file of a cohort without one
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    notice: str
    endpoint: Literal["OS", "DSS", "DFI", "PFI", "DMFS"]
    expression_scale: Literal["counts", "tpm", "log2", "z-score"]
    counts: dict[str, int]
    covariates: tuple[str, ...]
    sources: dict[str, str]
    attrition: tuple[ExcludedPatient, ...]
    warnings: tuple[str, ...] = ()
    event_confirmed: bool = False
    median_late_entry: float | None = Field(None, exclude_if=lambda months: months is None)
    ordered_levels: dict[str, tuple[str, ...]] = Field({}, exclude_if=lambda levels: not levels)


@dataclass(frozen=True)
class Cohort:
    """The tables of a cohort in memory.

    patients    columns of PATIENTS, those of OPTIONAL_PATIENTS that it has, then the covariates; one row per patient,
                sorted by patient_id
    expression  index patient_id, one float32 column per gene, sorted by patient_id
    slides      columns of SLIDES; sorted by patient_id and slide_id
    """

    patients: pd.DataFrame
    expression: pd.DataFrame
    slides: pd.DataFrame
    info: CohortInfo


def covariates(patients: pd.DataFrame) -> list[str]:
    """Names of the clinical covariates: every column beyond the schema."""
    return [str(name) for name in patients.columns if name not in PATIENT_COLUMNS]


def covariate_columns(patients: pd.DataFrame) -> dict[str, bool]:
    """The clinical columns that can be covariates, {name: whether it is numeric}: age, is_female, then the others."""
    names = [name for name in ("age", "is_female", *covariates(patients)) if name in patients]
    return {name: pd.api.types.is_numeric_dtype(patients[name]) for name in names}


def with_levels(patients: pd.DataFrame, ordered: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """The patients (n rows) with each ordered categorical covariate as an ordered pandas categorical, lowest first."""
    present = [name for name in ordered if name in patients]
    return patients.assign(
        **{name: pd.Categorical(patients[name], categories=list(ordered[name]), ordered=True) for name in present}
    )


def write(cohort: Cohort, folder: Path) -> None:
    """Write the four files of a cohort to an existing folder; the same cohort gives the same bytes."""
    optional = (column for column in OPTIONAL_PATIENTS if column.name in cohort.patients)
    _write_parquet(cohort.patients, (*PATIENTS, *optional), folder / "patients.parquet")
    _write_parquet(cohort.slides, SLIDES, folder / "slides.parquet")
    _write_expression(cohort.expression, folder / "expression.parquet")
    storage.write_json(folder / "cohort.json", cohort.info.model_dump(mode="json"))


def read_patients(cohort: Location) -> pd.DataFrame:
    """The patients of a cohort folder with the columns of `Cohort`, sorted by patient_id.

    Raises DataError when there is no such table, or `ingest` did not write it.
    """
    patients = _read_parquet(storage.join(cohort, "patients.parquet"), PATIENTS)
    for column in ("patient_id", "time_months", "event", "competing"):
        if column in patients and patients[column].isna().any():
            where = f"{storage.join(cohort, 'patients.parquet')}, row {int(patients[column].isna().argmax()) + 1}"
            raise DataError(f"{column} is missing", where, "write the table with mcti ingest")
    redaction.register_ids(patients["patient_id"])
    patients["is_female"] = patients["is_female"].astype("Int8")
    patients["event"] = patients["event"].astype("int8")
    return patients


def read_slides(cohort: Location) -> pd.DataFrame:
    """The slides of a cohort folder, columns of SLIDES; no rows where the cohort has no slides.

    Raises DataError when there is no such table, or `ingest` did not write it.
    """
    slides = _read_parquet(storage.join(cohort, "slides.parquet"), SLIDES)
    redaction.register_ids(slides["slide_id"])
    return slides


def read_expression(cohort: Location, genes: list[str] | None = None) -> pd.DataFrame:
    """Expression (patients, genes) float32, index patient_id, sorted; `genes`: only these columns, in this order.

    Raises DataError when there is no such table, or a gene is missing.
    """
    import pyarrow.parquet as pq

    where = storage.join(cohort, "expression.parquet")
    with storage.local_copy(where) as path:
        names = _column_names(path, where)
        if names[:1] != ["patient_id"]:
            raise _missing_column_error(where, "patient_id")
        if genes is not None and (missing := [gene for gene in genes if gene not in set(names[1:])]):
            raise DataError(f"gene {missing[0]!r} is missing", where, did_you_mean(missing[0], names[1:]))
        columns = None if genes is None else ["patient_id", *genes]
        frame = pd.DataFrame(pq.read_table(path, columns=columns).to_pandas(ignore_metadata=True))
    return frame.set_index("patient_id").astype(np.float32, copy=False)


def expression_blocks(cohort: Location) -> Iterator[tuple[list[str], npt.NDArray[np.float32]]]:
    """The expression of a cohort folder in blocks of a row group: patient ids (n,) and values (n, genes)."""
    import pyarrow.parquet as pq

    with storage.local_copy(storage.join(cohort, "expression.parquet")) as path, pq.ParquetFile(path) as file:
        for number in range(file.num_row_groups):
            group = file.read_row_group(number)
            values = np.empty((group.num_rows, group.num_columns - 1), dtype=np.float32)
            for j in range(1, group.num_columns):
                values[:, j - 1] = group.column(j).to_numpy()
            yield group.column(0).to_pylist(), values


def expression_groups(cohort: Location) -> int:
    """The number of blocks of `expression_blocks`."""
    import pyarrow.parquet as pq

    with storage.local_copy(storage.join(cohort, "expression.parquet")) as path:
        return int(pq.read_metadata(path).num_row_groups)


def gene_names(cohort: Location) -> list[str]:
    """The genes of a cohort folder in the order of the table; no value is read."""
    where = storage.join(cohort, "expression.parquet")
    with storage.local_copy(where) as path:
        return _column_names(path, where)[1:]


def read_info(cohort: Location) -> CohortInfo:
    """Read `cohort.json` of a cohort folder.

    Raises DataError when there is no such file, or a key is invalid.
    """
    where = storage.join(cohort, "cohort.json")
    try:
        return CohortInfo.model_validate(storage.read_json(where))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise DataError(str(first["msg"]), f"{where}, key {key}", "run mcti ingest again") from error


def render_schema() -> str:
    """The schema as Markdown, exactly as docs/cohort.md contains it."""
    parts = []
    for title, columns in (
        ("patients", (*PATIENTS, *OPTIONAL_PATIENTS)),
        ("slides", SLIDES),
        ("expression", (EXPRESSION_KEY,)),
    ):
        parts += [
            f"### {title}",
            "",
            "| column | type | required | may have missing values | meaning |",
            "|---|---|---|---|---|",
        ]
        parts += [
            f"| `{c.name}` | {_type_description(c)} | {_yes(c.required)} | {_yes(not c.filled)} | {c.description} |"
            for c in columns
        ]
        parts.append("")
    return "\n".join(parts)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _type_description(column: ColumnSchema) -> str:
    return {
        "id": "id: letters, digits, `_ . + -`, inner spaces; at most 128 characters",
        "text": "text",
        "number": "number",
        "positive": "number > 0",
        "not_negative": "number >= 0",
        "age": "number 0-120",
        "flag": "0 or 1",
        "path": "path or `s3://`",
        "md5": "32 hex digits",
    }[column.value_type]


def _write_parquet(frame: pd.DataFrame, columns: tuple[ColumnSchema, ...], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    fields = [pa.field(c.name, ARROW_TYPES[c.value_type]) for c in columns]
    schema = {c.name for c in columns}
    for name in (n for n in frame.columns if n not in schema):
        numeric = pd.api.types.is_numeric_dtype(frame[name])
        fields.append(pa.field(str(name), pa.float64() if numeric else pa.string()))
    arrays = [pa.Array.from_pandas(frame[field.name], type=field.type) for field in fields]
    pq.write_table(pa.Table.from_arrays(arrays, schema=pa.schema(fields)), path)


def _write_expression(expression: pd.DataFrame, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    genes = [pa.field(str(gene), pa.float32()) for gene in expression.columns]
    schema = pa.schema([pa.field("patient_id", pa.string()), *genes])
    ids = np.asarray(expression.index, dtype=object)
    values = expression.to_numpy(dtype=np.float32)
    # Without statistics: those of 20,000 columns per group would cost more than reading a few columns.
    with pq.ParquetWriter(path, schema, write_statistics=False) as writer:
        for start in range(0, max(len(ids), 1), ROW_GROUP):
            block = values[start : start + ROW_GROUP]
            arrays = [pa.array(ids[start : start + ROW_GROUP], pa.string())]
            arrays += [pa.array(np.ascontiguousarray(block[:, j])) for j in range(block.shape[1])]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema), row_group_size=ROW_GROUP)


def _read_parquet(where: str, columns: tuple[ColumnSchema, ...]) -> pd.DataFrame:
    import pyarrow.parquet as pq

    with storage.local_copy(where) as path:
        names = _column_names(path, where)
        for column in columns:
            if column.name not in names:
                raise _missing_column_error(where, column.name)
        return pd.DataFrame(pq.read_table(path).to_pandas(ignore_metadata=True))


def _column_names(path: Path, where: str) -> list[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names: Any = pq.read_schema(path).names
    except pa.ArrowInvalid as error:
        raise DataError("not a Parquet file", where, "run mcti ingest again") from error
    return [str(name) for name in names]


def _missing_column_error(where: str, column: str) -> DataError:
    return DataError(f"column {column!r} is missing", where, "use a cohort that mcti ingest wrote")
