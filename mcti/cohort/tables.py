"""The canonical tables of a cohort: one schema, checked here and rendered into docs/cohort.md.

A cohort is a folder of four files that `ingest` writes and every later step reads: `patients.parquet`,
`expression.parquet`, `slides.parquet`, `cohort.json`.
"""

import re
from collections.abc import Iterator
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

ValueType = Literal["id", "text", "number", "positive", "age", "flag", "path", "md5"]


@dataclass(frozen=True)
class ColumnSchema:
    """One column of a canonical table: its name, what may stand in it, and what it means."""

    name: str
    value_type: ValueType
    required: bool  # the column must be in the table
    filled: bool  # every row must have a value
    description: str


PATIENTS = (
    ColumnSchema("patient_id", "id", True, True, "one row a patient"),
    ColumnSchema(
        "cohort", "text", False, True, "study or cancer type; the name of the cohort where the column is missing"
    ),
    ColumnSchema("site", "text", True, True, "where the patient was treated; folds by site never share one"),
    ColumnSchema("age", "age", False, False, "years at diagnosis; a table without the column is a cohort without age"),
    ColumnSchema("is_female", "flag", True, False, "1 female, 0 male"),
    ColumnSchema("subtype", "text", True, True, "class of the second task; a patient without one leaves the cohort"),
    ColumnSchema(
        "time_months", "positive", True, True, "follow-up in months (days / 30.4375); 0 or none leaves the cohort"
    ),
    ColumnSchema("event", "flag", True, True, "1 the event was seen, 0 censored at time_months"),
)
SLIDES = (
    ColumnSchema("patient_id", "id", True, True, "a patient may have several slides"),
    ColumnSchema("slide_id", "id", True, True, "one row a slide; a file ending such as .svs is dropped"),
    ColumnSchema("path", "path", False, False, "file or s3:// address, relative to the manifest; may miss"),
    ColumnSchema("mpp", "positive", False, False, "µm per pixel of level 0; missing: the file knows it"),
    ColumnSchema("stain", "text", False, False, "H&E where nothing is said"),
    ColumnSchema("md5", "md5", False, False, "hex MD5 of the file"),
)
EXPRESSION_KEY = ColumnSchema(
    "patient_id", "id", True, True, "one row a patient; every other column is a gene, float32"
)

ARROW_TYPES: dict[ValueType, str] = {
    "id": "string",
    "text": "string",
    "path": "string",
    "md5": "string",
    "number": "double",
    "positive": "double",
    "age": "double",
    "flag": "int8",
}
ID_PATTERN = re.compile(r"\w(?:[\w.+\- ]{0,126}[\w.+\-])?")
"""Pattern of every patient and slide id, matched as a whole (`ID_PATTERN.fullmatch`).

Ids become file names and are shown in reports: no path, markup or formula characters, no space at either end.
"""

# Wide tables: 20,000 genes a row. 1,024 rows a group keep one group of one gene block small (docs/cohort.md, "Scale").
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
    """What is known of a cohort beside its rows (`cohort.json`)."""

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


@dataclass(frozen=True)
class Cohort:
    """The tables of a cohort in memory.

    patients    columns of PATIENTS, then the covariates; one row a patient, sorted by patient_id
    expression  index patient_id, one float32 column a gene, sorted by patient_id
    slides      columns of SLIDES; sorted by patient_id and slide_id
    """

    patients: pd.DataFrame
    expression: pd.DataFrame
    slides: pd.DataFrame
    info: CohortInfo


def covariates(patients: pd.DataFrame) -> list[str]:
    """Names of the clinical covariates: every column beyond the schema."""
    known = {column.name for column in PATIENTS}
    return [str(name) for name in patients.columns if name not in known]


def write(cohort: Cohort, folder: Path) -> None:
    """The four files of a cohort into an existing folder; the same cohort gives the same bytes."""
    _write_parquet(cohort.patients, PATIENTS, folder / "patients.parquet")
    _write_parquet(cohort.slides, SLIDES, folder / "slides.parquet")
    _write_expression(cohort.expression, folder / "expression.parquet")
    storage.write_json(folder / "cohort.json", cohort.info.model_dump(mode="json"))


def read_patients(cohort: Location) -> pd.DataFrame:
    """The patients of a cohort folder, columns of PATIENTS then covariates, sorted by patient_id.

    Raises
        DataError: no such table, or it is not what `ingest` writes.
    """
    patients = _read_parquet(storage.join(cohort, "patients.parquet"), PATIENTS)
    for column in ("patient_id", "time_months", "event"):
        if patients[column].isna().any():
            place = f"{storage.join(cohort, 'patients.parquet')}, row {int(patients[column].isna().argmax()) + 1}"
            raise DataError(f"no {column}", place, "write the table with mcti ingest")
    redaction.register_ids(patients["patient_id"])
    patients["is_female"] = patients["is_female"].astype("Int8")
    patients["event"] = patients["event"].astype("int8")
    return patients


def read_slides(cohort: Location) -> pd.DataFrame:
    """The slides of a cohort folder, columns of SLIDES; no row where the cohort has no slides."""
    slides = _read_parquet(storage.join(cohort, "slides.parquet"), SLIDES)
    redaction.register_ids(slides["slide_id"])
    return slides


def read_expression(cohort: Location, genes: list[str] | None = None) -> pd.DataFrame:
    """Expression (patients, genes) float32, index patient_id, sorted; `genes`: only these columns, in this order.

    Raises
        DataError: no such table, or a gene is not in it.
    """
    import pyarrow.parquet as pq

    where = storage.join(cohort, "expression.parquet")
    with storage.local_copy(where) as path:
        known = _names(path, where)
        if known[:1] != ["patient_id"]:
            raise _foreign(where, "patient_id")
        if genes is not None and (strange := [gene for gene in genes if gene not in set(known[1:])]):
            raise DataError(f"gene {strange[0]!r} is missing", where, did_you_mean(strange[0], known[1:]))
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
    """How many blocks `expression_blocks` gives."""
    import pyarrow.parquet as pq

    with storage.local_copy(storage.join(cohort, "expression.parquet")) as path:
        return int(pq.read_metadata(path).num_row_groups)


def gene_names(cohort: Location) -> list[str]:
    """The genes of a cohort folder in the order of the table, without reading a value."""
    where = storage.join(cohort, "expression.parquet")
    with storage.local_copy(where) as path:
        return _names(path, where)[1:]


def read_info(cohort: Location) -> CohortInfo:
    """`cohort.json` of a cohort folder."""
    where = storage.join(cohort, "cohort.json")
    try:
        return CohortInfo.model_validate(storage.read_json(where))
    except ValidationError as error:
        first = error.errors()[0]
        place = f"{where}, key {'.'.join(map(str, first['loc']))}"
        raise DataError(str(first["msg"]), place, "write it anew with mcti ingest") from error


def render_schema() -> str:
    """The schema as Markdown: docs/cohort.md holds exactly this text."""
    parts = []
    for title, columns in (("patients", PATIENTS), ("slides", SLIDES), ("expression", (EXPRESSION_KEY,))):
        parts += [
            f"### {title}",
            "",
            "| column | type | in the table | in every row | meaning |",
            "|---|---|---|---|---|",
        ]
        parts += [
            f"| `{c.name}` | {_words(c)} | {'must be' if c.required else 'may be'} | {'yes' if c.filled else 'no'} "
            f"| {c.description} |"
            for c in columns
        ]
        parts.append("")
    return "\n".join(parts)


def _words(column: ColumnSchema) -> str:
    return {
        "id": "id: letters, digits, `_ . + -`, inner blanks; at most 128",
        "text": "text",
        "number": "number",
        "positive": "number > 0",
        "age": "number 0-120",
        "flag": "0 or 1",
        "path": "path or `s3://`",
        "md5": "32 hex digits",
    }[column.value_type]


def _write_parquet(frame: pd.DataFrame, columns: tuple[ColumnSchema, ...], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    fields = [pa.field(c.name, ARROW_TYPES[c.value_type]) for c in columns]
    known = {c.name for c in columns}
    for name in (n for n in frame.columns if n not in known):
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
    # Statistics of 20,000 columns in each group would outweigh the reading of a narrow slice.
    with pq.ParquetWriter(path, schema, write_statistics=False) as writer:
        for start in range(0, max(len(ids), 1), ROW_GROUP):
            block = values[start : start + ROW_GROUP]
            arrays = [pa.array(ids[start : start + ROW_GROUP], pa.string())]
            arrays += [pa.array(np.ascontiguousarray(block[:, j])) for j in range(block.shape[1])]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema), row_group_size=ROW_GROUP)


def _read_parquet(where: str, columns: tuple[ColumnSchema, ...]) -> pd.DataFrame:
    import pyarrow.parquet as pq

    with storage.local_copy(where) as path:
        known = _names(path, where)
        for column in columns:
            if column.name not in known:
                raise _foreign(where, column.name)
        return pd.DataFrame(pq.read_table(path).to_pandas(ignore_metadata=True))


def _names(path: Path, where: str) -> list[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names: Any = pq.read_schema(path).names
    except pa.ArrowInvalid as error:
        raise DataError("not a Parquet file", where, "write it anew with mcti ingest") from error
    return [str(name) for name in names]


def _foreign(where: str, column: str) -> DataError:
    return DataError(f"column {column!r} is missing", where, "this is no table of a cohort: write it with mcti ingest")
