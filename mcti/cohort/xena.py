"""The files of the UCSC Xena TCGA hub: a phenotype matrix, a survival table, a HiSeq matrix of genes by samples.

Times are days (`OS.time`), events 0 or 1 (`OS`), expression log2(x + 1).
"""

from mcti import storage
from mcti.cohort import layouts
from mcti.cohort.assembly import RawCohort
from mcti.cohort.reading import RawTable, read_matrix, read_table
from mcti.params import IngestParams
from mcti.storage import Location


def read(clinical: Location, expression: Location, slides: Location | None, params: IngestParams) -> RawCohort:
    """`clinical` is a folder with one file `…survival…` and one `…clinicalMatrix…`; `expression` the HiSeq matrix.

    Raises
        DataError: a file or a column is missing, a cell cannot be.
    """
    with storage.local(clinical) as folder:
        names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        survival = read_table(folder / layouts.only(names, "survival", str(clinical)), "\t")
        phenotype = read_table(folder / layouts.only(names, "clinicalMatrix", str(clinical)), "\t")
    matrix = read_matrix(expression, "sample", "\t")
    genes, left = layouts.turned(matrix)
    table = layouts.pick(_joined(survival, phenotype), _columns(params), params)
    table = layouts.words(table, "is_female", layouts.SEXES)
    manifest = None if slides is None else read_table(slides)
    return RawCohort(layouts.with_site(table), genes, manifest, left, time_unit="days")


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


def _joined(survival: RawTable, phenotype: RawTable) -> RawTable:
    """One row a patient: that of the first tumour sample, with the phenotype of the same sample."""
    survival.need("sample", "_PATIENT")
    phenotype.need("sampleID")
    samples = survival.frame["sample"].tolist()
    kept, _ = layouts.one_sample_each(samples, survival.frame["_PATIENT"].tolist())
    frame = survival.frame.iloc[kept].reset_index(drop=True)
    of_sample = phenotype.frame.drop_duplicates("sampleID").set_index("sampleID")
    for column in (c for c in of_sample.columns if c not in frame.columns):
        frame[column] = frame["sample"].map(of_sample[column]).fillna("")
    rows = [survival.rows[i] for i in kept]
    return RawTable(frame, survival.where, rows, [*survival.warnings, *phenotype.warnings])
