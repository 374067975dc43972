"""What the layouts of source tables share: canonical columns, TCGA barcodes, one tumour sample per patient."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mcti.cohort import delayed_entry
from mcti.cohort.raw_tables import Matrix, RawTable, is_missing
from mcti.cohort.tables import PATIENT_COLUMNS, PATIENTS, ExcludedPatient
from mcti.errors import DataError, UsageError, did_you_mean
from mcti.params import IngestParams

DUPLICATE_SAMPLE = "duplicate sample"
NOT_TUMOUR = "sample of normal tissue"
TISSUE_COLUMNS = ("tissue_type", "sample_class", "sample_type")
"""Columns of sample tables that state the tissue, the more specific first: GDC, cBioPortal, Xena. They are compared
without case, and without `samples` and `cases` (`cases.samples.tissue_type`, `tissue_type.samples`)."""
SEX_VALUES = {"female": "1", "male": "0"}

_NORMAL = re.compile(
    r"(?<![a-z])(normals?|controls?|healthy|uninvolved|adjacent|nat)(?![a-z])|peri[ _-]?tumou?r"
    r"|(?<![a-z])non[ _-]?(tumou?r|neoplas|malignan|cancer)",
    re.IGNORECASE,
)
_TUMOUR = re.compile(r"tumou?r|cancer|carcinoma|neoplas|metasta|recurren|primary|leuk", re.IGNORECASE)
_LATER = re.compile(r"metasta|recurren|relapse|post", re.IGNORECASE)
_BARCODE = re.compile(r"TCGA-(?P<site>[A-Za-z0-9]{2})-[A-Za-z0-9]{4}(-(?P<sample_type>\d{2})[A-Z]?.*)?")
_FIRST_NORMAL_TYPE = 10  # sample types 01 to 09 of a TCGA barcode are tumours


def select_columns(table: RawTable, layout_names: Mapping[str, str], params: IngestParams) -> RawTable:
    """The canonical columns of a table under their canonical names, then the covariates that the settings name.

    A column of entries under observation that is not used as such gives a warning (`delayed_entry`).
    layout_names    canonical name -> name in this layout; `params.columns` takes precedence

    Raises
        DataError when a required column, or a column that the settings name, is missing.
        UsageError when a key of `params.columns` is no canonical column.
    """
    canonical = set(PATIENT_COLUMNS)
    for name, source in params.columns.items():
        if name not in canonical:
            raise UsageError(f"{name!r} is not a canonical column", "ingest.columns", did_you_mean(name, canonical))
        _check_column(table, source, f"ingest.columns.{name}")
    for source in params.covariates or ():
        _check_column(table, source, "ingest.covariates")
    names = {name: source for name, source in layout_names.items() if source in table.frame.columns} | params.columns
    _check_required(table, layout_names, names)
    frame = pd.DataFrame({name: table.frame[source] for name, source in names.items()})
    for source in params.covariates or ():
        frame[source] = table.frame[source]
    warnings = [*table.warnings, *delayed_entry.warnings(table.frame, table.where, names.get("entry_months"))]
    return RawTable(frame, table.where, table.rows, warnings, names)


def _check_required(table: RawTable, layout_names: Mapping[str, str], names: Mapping[str, str]) -> None:
    """Check for required columns that the table lacks. The site is exempt: TCGA barcodes may contain it."""
    for column in PATIENTS:
        source = layout_names.get(column.name)
        if column.required and column.name not in names and source is not None and column.name != "site":
            similar = did_you_mean(source, table.frame.columns)
            hint = f"{similar} (ingest.columns can name another source of {column.name})"
            raise DataError(f"column {source!r} is missing", table.where, hint)


def _check_column(table: RawTable, source: str, setting: str) -> None:
    if source not in table.frame.columns:
        hint = did_you_mean(source, table.frame.columns)
        raise DataError(f"column {source!r}, set in {setting}, is missing", f"the header of {table.where}", hint)


def patient_from_barcode(barcode: str) -> str:
    """The patient of a TCGA sample barcode: its first twelve characters; another id is returned unchanged."""
    return barcode[:12] if _BARCODE.fullmatch(barcode) else barcode


def site_from_barcode(barcode: str) -> str:
    """The tissue source site of a TCGA barcode; empty for another id."""
    match = _BARCODE.fullmatch(barcode)
    return match["site"] if match else ""


def is_tumour(barcode: str, tissue_cells: Sequence[str] = ()) -> bool:
    """Whether a sample is of a tumour: as its table states it, else by its TCGA barcode (types 01 to 09).

    tissue_cells    cells of TISSUE_COLUMNS, the more specific first. A sample with another id and without such a
                    cell counts as a tumour.
    """
    for cell in tissue_cells:
        if _NORMAL.search(cell):
            return False
        if _TUMOUR.search(cell):
            return True
    match = _BARCODE.fullmatch(barcode)
    return not match or match["sample_type"] is None or int(match["sample_type"]) < _FIRST_NORMAL_TYPE


def tissue_cells_by_row(frame: pd.DataFrame) -> list[tuple[str, ...]]:
    """For each row of a sample table the cells of the columns that state the tissue."""
    names = [(_tissue_column(str(name)), name) for name in frame.columns]
    columns = [name for column in TISSUE_COLUMNS for plain, name in names if plain == column]
    return list(frame[columns].itertuples(index=False, name=None)) if columns else [()] * len(frame)


def _tissue_column(name: str) -> str:
    words = re.findall(r"[a-z]+", name.casefold())
    return "_".join(word for word in words if word not in {"samples", "cases"})


def add_site(table: RawTable) -> RawTable:
    """The table with a column site; where a patient has none, it is taken from the TCGA barcode."""
    table.require("patient_id")
    from_barcode = table.frame["patient_id"].map(site_from_barcode)
    if "site" not in table.frame.columns:
        originals = {**table.originals, "site": "patient_id"}
        return RawTable(table.frame.assign(site=from_barcode), table.where, table.rows, table.warnings, originals)
    site = table.frame["site"]
    return table.replace_column("site", site.where(~site.map(is_missing), from_barcode))


def select_samples(
    samples: Sequence[str], patients: Sequence[str], tissue_cells: Sequence[Sequence[str]] = ()
) -> tuple[list[int], list[ExcludedPatient]]:
    """Positions of one tumour sample per patient, and the other samples with the reason of their exclusion.

    The first sample by id is selected; a metastasis or recurrence only where the patient has no other tumour sample.

    tissue_cells    for each sample the cells that state its tissue (`tissue_cells_by_row`); empty: barcodes only
    """
    cells = tissue_cells or [()] * len(samples)
    selected: dict[str, int] = {}
    excluded = []
    for position in sorted(range(len(samples)), key=lambda i: (any(map(_LATER.search, cells[i])), samples[i])):
        if not is_tumour(samples[position], cells[position]):
            excluded.append(ExcludedPatient(patient_id=samples[position], reason=NOT_TUMOUR))
        elif patients[position] in selected:
            excluded.append(ExcludedPatient(patient_id=samples[position], reason=DUPLICATE_SAMPLE))
        else:
            selected[patients[position]] = position
    return sorted(selected.values()), excluded


def patients_by_genes(
    matrix: Matrix, patient_of_sample: Mapping[str, str], tissues: Mapping[str, Sequence[str]] | None = None
) -> tuple[Matrix, list[ExcludedPatient]]:
    """A matrix of genes by samples as a matrix of patients by genes, one tumour sample per patient.

    Rows without a gene name, and all but the first row of a gene, are dropped; a warning counts them.

    patient_of_sample   sample -> patient; for a sample that is not in it, the patient is taken from the TCGA barcode
    tissues             sample -> the cells that state its tissue
    """
    first_row: dict[str, int] = {}
    for row, gene in enumerate(matrix.ids):
        if gene.strip():
            first_row.setdefault(gene.strip(), row)
    warnings = list(matrix.warnings)
    if len(first_row) < len(matrix.ids):
        count = len(matrix.ids) - len(first_row)
        warnings.append(f"{matrix.where}: {count} rows dropped (no gene name, or the name of an earlier row)")
    patients = [patient_of_sample.get(sample) or patient_from_barcode(sample) for sample in matrix.genes]
    tissue_cells = [(tissues or {}).get(sample, ()) for sample in matrix.genes]
    selected, excluded = select_samples(matrix.genes, patients, tissue_cells)
    values = np.ascontiguousarray(matrix.values[np.ix_(list(first_row.values()), selected)].T)
    ids = [patients[i] for i in selected]
    rows = [1] * len(ids)  # the sample ids are in the header
    return Matrix(ids, list(first_row), values, matrix.where, rows, warnings), excluded


def replace_words(table: RawTable, column: str, values: Mapping[str, str]) -> RawTable:
    """A column with the words of a layout replaced, regardless of case; other words are left for the parser."""
    if column not in table.frame.columns:
        return table
    cells = table.frame[column].map(lambda text: values.get(text.strip().casefold(), text))
    return table.replace_column(column, cells)


def file_named(names: list[str], word: str, folder: str) -> str:
    """The one file name that contains `word`.

    Raises DataError when none or several do.
    """
    matches = [name for name in names if word.casefold() in name.casefold()]
    if len(matches) != 1:
        what = f"{len(matches)} files have {word!r} in their name, exactly one is needed"
        raise DataError(what, folder, f"files: {', '.join(names[:8]) or 'none'}")
    return matches[0]
