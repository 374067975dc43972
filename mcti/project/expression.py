"""What `mcti init` reads from an expression table: ids, orientation, scale, and the table for `ingest`."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mcti import storage
from mcti.arrays import FloatArray
from mcti.cohort import text_files
from mcti.cohort.layouts import patient_from_barcode, select_samples
from mcti.errors import DataError
from mcti.project import coding, foreign_tables
from mcti.project.coding import Guess
from mcti.storage import Location

_SAMPLE = 200
"""Patients and genes from which the scale is read."""


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
    genes = frame.drop(columns="patient_id")
    guess = Guess(scale, "as stated") if scale else coding.expression_scale(_sample(genes, str(location)))
    ids = tuple(frame["patient_id"].astype(str))
    return ExpressionProposal(guess, ids, genes.shape[1], frame if changes else None, changes)


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
    texts = [str(name) for name in frame.columns[:8] if not pd.api.types.is_numeric_dtype(frame[name])]
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
    first = str(frame[texts[0]].iloc[0]) if texts else str(frame.columns[0])
    hint = "write the same patient_id in both tables"
    raise DataError(f"no patient of the clinical table ({min(patients)!r}; here {first!r})", where, hint)


def _transposed(frame: pd.DataFrame, key: str, where: str) -> tuple[pd.DataFrame, str, tuple[str, ...]]:
    """Genes in rows to patients in rows; the first row of a gene, one tumour sample of a patient."""
    named = frame[frame[key].astype(str).str.strip().astype(bool)].drop_duplicates(key).set_index(key)
    numeric = named.drop(columns=[c for c in ("Entrez_Gene_Id",) if c in named.columns])
    if numeric.empty:
        raise DataError("the table has no gene", where, "add one row per gene")
    turned = numeric.T.rename_axis(None, axis=1).rename_axis("patient_id").reset_index()
    table, _, changes = _one_sample(turned, "patient_id")
    return table, "patient_id", (f"transposed: genes are in rows ({len(numeric)} of them)", *changes)


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


def _sample(genes: pd.DataFrame, where: str) -> FloatArray:
    """Values (patients, genes) of evenly spaced patients and genes."""
    rows = np.unique(np.linspace(0, len(genes) - 1, min(_SAMPLE, len(genes))).astype(int))
    few = genes.iloc[rows]
    try:
        values: FloatArray = few.apply(pd.to_numeric).to_numpy(np.float64)
    except (ValueError, TypeError) as error:
        hint = "leave only patient_id and columns of genes, with decimal points, in the table"
        raise DataError(f"a cell is no number ({error})", where, hint) from error
    return values


def parquet(table: pd.DataFrame, path: Path) -> None:
    """Write a converted table (n, 1 + g) of n patients: patient_id as text, g genes as float32 in their own unit."""
    numbers = table.drop(columns="patient_id").apply(pd.to_numeric).astype(np.float32)
    numbers.insert(0, "patient_id", table["patient_id"].astype(str))
    numbers.to_parquet(path, index=False)
