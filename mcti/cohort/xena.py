"""The files of the UCSC Xena TCGA hub: a phenotype matrix, a survival table, a HiSeq matrix of genes by samples.

Times are days (`OS.time`), events 0 or 1 (`OS`), expression log2(x + 1).
"""

from mcti import storage
from mcti.cohort import layouts
from mcti.cohort.assembly import REDACTED, RawCohort
from mcti.cohort.reading import RawTable, read_matrix, read_table
from mcti.cohort.tables import ExcludedPatient
from mcti.params import IngestParams
from mcti.storage import Location


def read(clinical: Location, expression: Location, slides: Location | None, params: IngestParams) -> RawCohort:
    """`clinical` is a folder with one file `…survival…` and one `…clinicalMatrix…`; `expression` the HiSeq matrix.

    Raises
        DataError: a file or a column is missing, a cell cannot be.
    """
    with storage.local_copy(clinical) as folder:
        names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        files = [layouts.only(names, word, str(clinical)) for word in ("survival", "clinicalMatrix")]
        survival, phenotype = (read_table(folder / f, "\t", shown=storage.join(clinical, f)) for f in files)
    joined = _joined(survival, phenotype)
    table = layouts.pick(joined, _columns(params), params)
    table = layouts.words(table, "is_female", layouts.SEXES)
    owners = dict(zip(survival.frame["sample"], survival.frame["_PATIENT"], strict=True))
    genes, left = layouts.turned(read_matrix(expression, "sample", "\t"), owners, _tissues(phenotype))
    manifest = None if slides is None else read_table(slides)
    return RawCohort(layouts.with_site(table), genes, manifest, [*left, *_redacted(joined)], time_unit="days")


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


def _redacted(table: RawTable) -> list[ExcludedPatient]:
    """Patients whom TCGA took back: their consent or their diagnosis did not hold."""
    if "Redaction" not in table.frame.columns:
        return []
    redacted = table.frame["Redaction"].str.strip().str.casefold() == "redacted"
    return [ExcludedPatient(patient_id=patient, reason=REDACTED) for patient in table.frame["_PATIENT"][redacted]]


def _tissues(phenotype: RawTable) -> dict[str, tuple[str, ...]]:
    """Sample -> the cells that state its tissue."""
    phenotype.need("sampleID")
    return dict(zip(phenotype.frame["sampleID"], layouts.stated_tissues(phenotype.frame), strict=True))


def _joined(survival: RawTable, phenotype: RawTable) -> RawTable:
    """One row a patient: that of the first tumour sample, with the phenotype of the same sample."""
    survival.need("sample", "_PATIENT")
    phenotype.need("sampleID")
    samples = survival.frame["sample"].tolist()
    tissues = _tissues(phenotype)
    stated = [tissues.get(sample, ()) for sample in samples]
    kept, _ = layouts.one_sample_each(samples, survival.frame["_PATIENT"].tolist(), stated)
    frame = survival.frame.iloc[kept].reset_index(drop=True)
    of_sample = phenotype.frame.drop_duplicates("sampleID").set_index("sampleID")
    for column in (c for c in of_sample.columns if c not in frame.columns):
        frame[column] = frame["sample"].map(of_sample[column]).fillna("")
    rows = [survival.rows[i] for i in kept]
    return RawTable(frame, survival.where, rows, [*survival.warnings, *phenotype.warnings])
