"""What `mcti init` reads from an expression table: ids, orientation, scale, and the table for `ingest`."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mcti import storage
from mcti.arrays import IntArray
from mcti.cohort import text_files
from mcti.cohort.layouts import patient_from_barcode, select_samples
from mcti.cohort.raw_tables import is_missing, shorten
from mcti.errors import DataError
from mcti.project import coding, column_names, foreign_tables
from mcti.project.coding import Guess
from mcti.storage import Location

_SAMPLE = 200
"""Patients from which the scale is read."""
_COUNTERS = r"__|N_(unmapped|multimapping|noFeature|ambiguous)$"
"""Rows of HTSeq and STAR that count reads without a gene."""
_ANNOTATIONS = frozenset(
    ("entrez_gene_id", "entrez_id", "gene_id", "gene_name", "gene_type", "gene_symbol", "symbol", "hugo_symbol")
) | {"gene_biotype", "biotype", "description", "gene_description", "length", "gene_length", "chr", "chrom", "start",
     "chromosome", "end", "strand", "cytoband", "ensembl_id", "ensembl_gene_id"}  # fmt: skip
"""Columns about a gene, in tables with genes in rows, as `column_names.plain` writes them."""


@dataclass(frozen=True)
class ExpressionProposal:
    """The reading of an expression table.

    ids, genes  patients of the table and their number of genes
    table       the table to be written in place of the source; None: the source can be used as it is
    changes     what `table` changes, for the user
    """

    scale: Guess
    ids: tuple[str, ...]
    genes: int
    table: pd.DataFrame | None
    changes: tuple[str, ...]


def propose(location: Location, patients: Collection[str], scale: str | None = None) -> ExpressionProposal:
    """The proposal for an expression table, genes in columns or in rows.

    patients    ids of the clinical table

    Raises DataError when the table shares no patient with the clinical table, or a cell is no number.
    """
    frame, changes = _read(location)
    frame, key, turned = _by_patient(frame, set(patients), str(location))
    changes = (*changes, *turned)
    if key != "patient_id":
        frame = frame.rename(columns={key: "patient_id"})
        changes = (*changes, f"patient_id: the column {key}")
    frame = frame.reset_index(drop=True)
    genes = frame.drop(columns="patient_id")
    ids = tuple(frame["patient_id"].astype(str))
    few = _numbers(genes.iloc[_spaced(len(genes))], ids, str(location))
    guess = Guess(scale, "as stated") if scale else coding.expression_scale(few.to_numpy(np.float64))
    table = _numbers(genes, ids, str(location)).assign(patient_id=ids) if changes else None
    return ExpressionProposal(guess, ids, genes.shape[1], table, changes)


def _read(location: Location) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """A table with its differences from the form that `ingest` reads; numbers are numbers."""
    where = str(location)
    if not storage.exists(location):
        raise DataError("no such file", where, "check the path")
    with storage.local_copy(location) as path:
        if path.is_dir():
            hint = "name the file; of the GDC's folder of STAR counts, give the clinical JSON as --clinical"
            raise DataError("a folder, not a table", where, hint)
        if text_files.first_bytes(path, where).startswith(b"PAR1"):
            return pd.read_parquet(path), ()
    table = foreign_tables.read(location)
    return table.frame, table.differences


def _by_patient(frame: pd.DataFrame, patients: set[str], where: str) -> tuple[pd.DataFrame, str, tuple[str, ...]]:
    """The table with one row per patient, its id column, and what was changed."""
    if "patient_id" not in frame.columns and frame.index.name is not None:
        frame = frame.reset_index()
    texts = [str(name) for name in frame.columns[:8]
             if name == "patient_id" or not pd.api.types.is_numeric_dtype(frame[name])]  # fmt: skip
    shared = {name: int(frame[name].astype(str).isin(patients).sum()) for name in texts}
    key = "patient_id" if "patient_id" in frame.columns else max(shared, key=lambda n: shared[n], default="")
    if key and shared.get(key, 0):
        return frame, key, ()
    header = sum(str(name) in patients or patient_from_barcode(str(name)) in patients for name in frame.columns)
    if header:
        return _transposed(frame, texts[0] if texts else str(frame.columns[0]), where)
    barcodes = {name: int(frame[name].astype(str).map(patient_from_barcode).isin(patients).sum()) for name in texts}
    if (key := max(barcodes, key=lambda n: barcodes[n], default="")) and barcodes[key]:
        return _one_sample(frame, key)
    column = "patient_id" if "patient_id" in texts else next(iter(texts), None)
    names = [str(name) for name in (() if column is None else frame[column])] + [str(name) for name in frame.columns]
    folded = {_folded(patient) for patient in patients}
    first = next((name for name in names if _folded(name) in folded), names[0])
    hint = _ids_hint(first, patients)
    raise DataError(f"no patient of the clinical table ({min(patients)!r}; here {first!r})", where, hint)


def _ids_hint(identifier: str, patients: set[str]) -> str:
    """How to make the ids of both tables the same; ids that differ only in their form are named."""
    similar = next((patient for patient in patients if _folded(patient) == _folded(identifier)), None)
    if similar is None:
        return "write the same patient_id in both tables"
    return f"{identifier!r} and {similar!r} differ in case, leading zeros or separators: write them in one form"


def _folded(identifier: str) -> str:
    """An id without what spreadsheets and R change: case, separators, leading zeros, and the X before a digit."""
    plain = re.sub(r"[^a-z0-9]", "", patient_from_barcode(re.sub(r"[._]", "-", identifier.upper())).lower())
    return re.sub(r"^x(?=\d)", "", plain).lstrip("0")


def _transposed(frame: pd.DataFrame, key: str, where: str) -> tuple[pd.DataFrame, str, tuple[str, ...]]:
    """Genes in rows to patients in rows; the first row of a gene, one tumour sample of a patient."""
    names = frame[key].astype(str).str.strip()
    is_gene = names.astype(bool) & ~names.str.match(_COUNTERS)
    named = frame[is_gene].drop_duplicates(key).set_index(key)
    notes = [name for name in named.columns if column_names.plain(str(name)) in _ANNOTATIONS]
    numeric = named.drop(columns=notes)
    if numeric.empty:
        raise DataError("the table has no gene", where, "add one row per gene")
    dropped: tuple[str, ...] = (
        (f"{len(frame) - len(numeric)} rows without a new gene name",) if len(numeric) < len(frame) else ()
    )
    dropped += (f"without the columns {', '.join(notes)}",) if notes else ()
    turned = numeric.T.rename_axis(None, axis=1).rename_axis("patient_id").reset_index()
    table, _, changes = _one_sample(turned, "patient_id")
    return table, "patient_id", (f"transposed: genes are in rows ({len(numeric)} of them)", *dropped, *changes)


def _one_sample(frame: pd.DataFrame, key: str) -> tuple[pd.DataFrame, str, tuple[str, ...]]:
    """One tumour sample per patient, by TCGA barcode."""
    samples = frame[key].astype(str).tolist()
    patients = [patient_from_barcode(sample) for sample in samples]
    selected, _ = select_samples(samples, patients)
    table = frame.iloc[selected].assign(**{key: [patients[i] for i in selected]}).reset_index(drop=True)
    changes = (
        () if patients == samples else (f"the patients of {len(samples)} TCGA samples, one tumour sample of each",)
    )
    return table, key, changes


def _spaced(count: int) -> IntArray:
    """Evenly spaced positions of at most _SAMPLE rows."""
    positions: IntArray = np.unique(np.linspace(0, count - 1, min(_SAMPLE, count)).astype(np.int64))
    return positions


def _numbers(genes: pd.DataFrame, ids: Sequence[str], where: str) -> pd.DataFrame:
    """Values (patients, genes) in the unit of the table, NaN where a cell means "no value"; the index is kept.

    Raises DataError when a cell is no number, with patient, gene and value.
    """
    return genes.apply(lambda cells: _gene_numbers(cells, ids, where))


def _gene_numbers(cells: "pd.Series[str]", ids: Sequence[str], where: str) -> "pd.Series[float]":
    try:
        return pd.to_numeric(cells)
    except (ValueError, TypeError):
        texts = cells.astype(str)
    missing = texts.map(is_missing)
    values = pd.to_numeric(texts.where(~missing), errors="coerce")
    wrong = values.isna() & ~missing
    if wrong.any():
        row = wrong.idxmax()
        hint = "leave only patient_id and columns of genes, with decimal points, in the table"
        what = f"a cell is no number ({shorten(texts[row])!r})"
        raise DataError(what, f"{where}, patient {ids[int(row)]}, gene {cells.name}", hint)
    return values


def parquet(table: pd.DataFrame, path: Path) -> None:
    """Write a converted table (n, 1 + g) of n patients: patient_id as text, g genes as float32 in their own unit."""
    numbers = table.drop(columns="patient_id").apply(pd.to_numeric).astype(np.float32)
    numbers.insert(0, "patient_id", table["patient_id"].astype(str))
    numbers.to_parquet(path, index=False)
