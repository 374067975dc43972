"""What the layouts share: canonical columns picked from a table, TCGA barcodes, one sample a patient."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mcti.cohort.reading import Matrix, RawTable, is_missing
from mcti.cohort.tables import PATIENTS, ExcludedPatient
from mcti.errors import DataError, UsageError, did_you_mean
from mcti.params import IngestParams

DUPLICATE_SAMPLE = "duplicate sample"
NOT_TUMOUR = "sample of normal tissue"
TISSUE_COLUMNS = ("Tissue Type", "TISSUE_TYPE", "tissue_type", "tissue_type.samples", "SAMPLE_CLASS",
                  "Sample Type", "SAMPLE_TYPE", "sample_type", "sample_type.samples")  # fmt: skip
"""Columns of sample tables that state the tissue, the more specific first: GDC, cBioPortal, Xena."""
_NORMAL = re.compile(r"\bnormals?\b|peritumou?ral|\bcontrol\b", re.IGNORECASE)
_TUMOUR = re.compile(r"tumou?r|cancer|carcinoma|neoplas|metasta|recurren|primary|leuk", re.IGNORECASE)
_LATER = re.compile(r"metasta|recurren|relapse|post", re.IGNORECASE)
_BARCODE = re.compile(r"TCGA-(?P<site>[A-Za-z0-9]{2})-[A-Za-z0-9]{4}(-(?P<kind>\d{2})[A-Z]?.*)?")


def pick(table: RawTable, defaults: Mapping[str, str], params: IngestParams) -> RawTable:
    """The canonical columns of a table under their names, then the covariates that the settings keep.

    `defaults`: canonical name -> the layout's name for it; `params.columns` goes before.

    Raises
        DataError: a column that every patient needs, or that the settings name, is not there.
        UsageError: `params.columns` names no canonical column.
    """
    canonical = {column.name for column in PATIENTS}
    for name, source in params.columns.items():
        if name not in canonical:
            raise UsageError(f"{name!r} is no canonical column", "ingest.columns", did_you_mean(name, canonical))
        _named(table, source, f"ingest.columns.{name}")
    for source in params.covariates or ():
        _named(table, source, "ingest.covariates")
    names = {name: source for name, source in defaults.items() if source in table.frame.columns} | params.columns
    _check_required(table, defaults, names)
    frame = pd.DataFrame({name: table.frame[source] for name, source in names.items()})
    for source in params.covariates or ():
        frame[source] = table.frame[source]
    return RawTable(frame, table.where, table.rows, table.warnings, names)


def _check_required(table: RawTable, defaults: Mapping[str, str], names: Mapping[str, str]) -> None:
    """A required column that the table lacks under the layout's name; barcodes may still tell the site."""
    for column in PATIENTS:
        source = defaults.get(column.name)
        if column.required and column.name not in names and source is not None and column.name != "site":
            near = did_you_mean(source, table.frame.columns)
            hint = f"{near} (ingest.columns gives {column.name} another source)"
            raise DataError(f"column {source!r} is missing", table.where, hint)


def _named(table: RawTable, source: str, key: str) -> None:
    if source not in table.frame.columns:
        hint = did_you_mean(source, table.frame.columns)
        raise DataError(f"column {source!r}, which {key} names, is missing", f"the header of {table.where}", hint)


def patient_of(barcode: str) -> str:
    """The patient of a TCGA sample barcode: its first twelve characters; another id stays as it is."""
    return barcode[:12] if _BARCODE.fullmatch(barcode) else barcode


def site_of(barcode: str) -> str:
    """The tissue source site of a TCGA barcode, or nothing."""
    match = _BARCODE.fullmatch(barcode)
    return match["site"] if match else ""


def is_tumour(barcode: str, stated: Sequence[str] = ()) -> bool:
    """Whether a sample is of a tumour: as its table states it, else by its TCGA barcode (types 01 to 09).

    stated  cells of TISSUE_COLUMNS, the more specific first; ids of another form without a statement: a tumour
    """
    for cell in stated:
        if _NORMAL.search(cell):
            return False
        if _TUMOUR.search(cell):
            return True
    match = _BARCODE.fullmatch(barcode)
    return not match or match["kind"] is None or int(match["kind"]) < 10


def stated_tissues(frame: pd.DataFrame) -> list[tuple[str, ...]]:
    """For each row of a sample table the cells of the columns that state the tissue."""
    columns = [name for name in TISSUE_COLUMNS if name in frame.columns]
    return list(frame[columns].itertuples(index=False, name=None)) if columns else [()] * len(frame)


def with_site(table: RawTable) -> RawTable:
    """The table with a column site; where a patient has none, the TCGA barcode tells it."""
    table.need("patient_id")
    told = table.frame["patient_id"].map(site_of)
    if "site" not in table.frame.columns:
        originals = {**table.originals, "site": "patient_id"}
        return RawTable(table.frame.assign(site=told), table.where, table.rows, table.warnings, originals)
    site = table.frame["site"]
    filled = site.where(~site.map(is_missing), told)
    return RawTable(table.frame.assign(site=filled), table.where, table.rows, table.warnings, table.originals)


def one_sample_each(
    samples: Sequence[str], patients: Sequence[str], stated: Sequence[Sequence[str]] = ()
) -> tuple[list[int], list[ExcludedPatient]]:
    """Positions of one tumour sample a patient; the others leave with their reason.

    The first by its id, of those that are stated to be metastases or recurrences only where there is no other.
    stated  for each sample the cells that state its tissue (`stated_tissues`); empty: barcodes alone
    """
    cells = stated or [()] * len(samples)
    kept: dict[str, int] = {}
    left = []
    for position in sorted(range(len(samples)), key=lambda i: (_is_later(cells[i]), samples[i])):
        if not is_tumour(samples[position], cells[position]):
            left.append(ExcludedPatient(patient_id=samples[position], reason=NOT_TUMOUR))
        elif patients[position] in kept:
            left.append(ExcludedPatient(patient_id=samples[position], reason=DUPLICATE_SAMPLE))
        else:
            kept[patients[position]] = position
    return sorted(kept.values()), left


def _is_later(stated: Sequence[str]) -> bool:
    return any(_LATER.search(cell) for cell in stated)


def turned(
    matrix: Matrix, owners: Mapping[str, str], tissues: Mapping[str, Sequence[str]] | None = None
) -> tuple[Matrix, list[ExcludedPatient]]:
    """A matrix of genes by samples as patients by genes, one tumour sample a patient.

    `owners`: sample -> patient; of a sample that is not in it, the TCGA barcode tells the patient. `tissues`: sample ->
    the cells that state its tissue. Genes without a name
    and all but the first of a name are left out, and a warning counts them.
    """
    first: dict[str, int] = {}
    for position, gene in enumerate(matrix.ids):
        if gene.strip():
            first.setdefault(gene.strip(), position)
    warnings = list(matrix.warnings)
    if len(first) < len(matrix.ids):
        count = len(matrix.ids) - len(first)
        warnings.append(f"{matrix.where}: {count} rows without a gene name, or of a gene that stands above, left out")
    patients = [owners.get(sample) or patient_of(sample) for sample in matrix.genes]
    stated = [(tissues or {}).get(sample, ()) for sample in matrix.genes]
    kept, left = one_sample_each(matrix.genes, patients, stated)
    values = np.ascontiguousarray(matrix.values[np.ix_(list(first.values()), kept)].T)
    ids = [patients[i] for i in kept]
    rows = [1] * len(ids)  # the samples stand in the header
    return Matrix(ids, list(first), values, matrix.where, rows, warnings), left


def words(table: RawTable, column: str, meanings: Mapping[str, str]) -> RawTable:
    """A column with the layout's own words replaced, upper and lower case alike; other words stay for the reader."""
    if column not in table.frame.columns:
        return table
    mapped = table.frame[column].map(lambda text: meanings.get(text.strip().casefold(), text))
    return RawTable(table.frame.assign(**{column: mapped}), table.where, table.rows, table.warnings, table.originals)


SEXES = {"female": "1", "male": "0"}


def only(names: list[str], word: str, folder: str) -> str:
    """The one name that contains `word`.

    Raises
        DataError: none or several do.
    """
    found = [name for name in names if word.casefold() in name.casefold()]
    if len(found) != 1:
        what = f"{len(found)} files with {word!r} in their name, where one is needed"
        raise DataError(what, folder, f"files: {', '.join(names[:8]) or 'none'}")
    return found[0]
