"""The files of the UCSC Xena TCGA hub: a phenotype matrix, a survival table, a HiSeq matrix of genes by samples.

Times are days (`OS.time`), events 0 or 1 (`OS`), expression log2(x + 1).
"""

from mcti import storage
from mcti.cohort import layouts
from mcti.cohort.assembly import REDACTED, RawCohort
from mcti.cohort.raw_tables import RawTable
from mcti.cohort.reading import TSV, read_matrix, read_table
from mcti.cohort.tables import ExcludedPatient
from mcti.params import IngestParams
from mcti.storage import Location


def read(clinical: Location, expression: Location, slides: Location | None, params: IngestParams) -> RawCohort:
    """The raw tables of a TCGA cohort.

    clinical    folder with one file `…survival…` and one file `…clinicalMatrix…`
    expression  the HiSeq matrix

    Raises DataError when a file or a column is missing, or a cell is invalid.
    """
    with storage.local_copy(clinical) as folder:
        names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        files = [layouts.file_named(names, word, str(clinical)) for word in ("survival", "clinicalMatrix")]
        survival, phenotype = (read_table(folder / f, TSV, display_name=storage.join(clinical, f)) for f in files)
    joined = _joined(survival, phenotype)
    table = layouts.select_columns(joined, _columns(params), params)
    table = layouts.replace_words(table, "is_female", layouts.SEX_VALUES)
    patient_of_sample = dict(zip(survival.frame["sample"], survival.frame["_PATIENT"], strict=True))
    matrix = read_matrix(expression, "sample", TSV)
    genes, excluded = layouts.patients_by_genes(matrix, patient_of_sample, _tissues(phenotype))
    manifest = None if slides is None else read_table(slides)
    excluded = [*excluded, *_redacted_patients(joined)]
    return RawCohort(layouts.add_site(table), genes, manifest, excluded, time_unit="days")


def _columns(params: IngestParams) -> dict[str, str]:
    return {
        "patient_id": "_PATIENT",
        "site": "tissue_source_site",
        "age": "age_at_initial_pathologic_diagnosis",
        "is_female": "gender",
        "subtype": "histological_type",
        "time_months": f"{params.endpoint}.time",
        "event": params.endpoint,
    }


def _redacted_patients(table: RawTable) -> list[ExcludedPatient]:
    """Patients whom TCGA withdrew because their consent or their diagnosis was invalid."""
    if "Redaction" not in table.frame.columns:
        return []
    is_redacted = table.frame["Redaction"].str.strip().str.casefold() == "redacted"
    return [ExcludedPatient(patient_id=patient, reason=REDACTED) for patient in table.frame["_PATIENT"][is_redacted]]


def _tissues(phenotype: RawTable) -> dict[str, tuple[str, ...]]:
    """Sample -> the cells that state its tissue."""
    phenotype.require("sampleID")
    return dict(zip(phenotype.frame["sampleID"], layouts.tissue_cells_by_row(phenotype.frame), strict=True))


def _joined(survival: RawTable, phenotype: RawTable) -> RawTable:
    """One row per patient: that of the selected tumour sample, with the phenotype of the same sample."""
    survival.require("sample", "_PATIENT")
    phenotype.require("sampleID")
    samples = survival.frame["sample"].tolist()
    tissues = _tissues(phenotype)
    tissue_cells = [tissues.get(sample, ()) for sample in samples]
    selected, _ = layouts.select_samples(samples, survival.frame["_PATIENT"].tolist(), tissue_cells)
    frame = survival.frame.iloc[selected].reset_index(drop=True)
    by_sample = phenotype.frame.drop_duplicates("sampleID").set_index("sampleID")
    for column in (c for c in by_sample.columns if c not in frame.columns):
        frame[column] = frame["sample"].map(by_sample[column]).fillna("")
    rows = [survival.rows[i] for i in selected]
    return RawTable(frame, survival.where, rows, [*survival.warnings, *phenotype.warnings])
