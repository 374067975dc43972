"""The files of a cBioPortal study: data_clinical_patient.txt, data_clinical_sample.txt and an mRNA matrix.

Times are months, `#` lines are comments, statuses have the form `1:DECEASED`; the matrix has genes as rows.
"""

from mcti import storage
from mcti.cohort import layouts
from mcti.cohort.assembly import RawCohort
from mcti.cohort.raw_tables import RawTable
from mcti.cohort.reading import TSV, TSV_WITH_COMMENTS, read_matrix, read_table
from mcti.errors import UsageError, did_you_mean
from mcti.params import IngestParams
from mcti.storage import Location

_ENDPOINTS = {"OS": "OS", "DSS": "DSS", "DFI": "DFS", "PFI": "PFS"}
"""The end points of Liu et al. (Cell 173, 2018, 400-416) under the names of the studies."""

_STATUS_VALUES = {"living": "0", "deceased": "1", "diseasefree": "0", "recurred/progressed": "1", "censored": "0"}
_STATUS_VALUES |= {"progression": "1", "alive or dead tumor free": "0", "dead with tumor": "1"}


def read(clinical: Location, expression: Location, slides: Location | None, params: IngestParams) -> RawCohort:
    """The raw tables of a study.

    clinical    folder of the study
    expression  its mRNA file (Hugo_Symbol, Entrez_Gene_Id, one column per sample)

    Raises
        UsageError when the studies do not have the end point.
        DataError when a file or a column is missing, or a cell is invalid.
    """
    if params.endpoint not in _ENDPOINTS:
        what = f"cBioPortal studies have no end point {params.endpoint}"
        raise UsageError(what, "ingest.endpoint", did_you_mean(params.endpoint, _ENDPOINTS))
    patients = read_table(storage.join(clinical, "data_clinical_patient.txt"), TSV_WITH_COMMENTS)
    samples = read_table(storage.join(clinical, "data_clinical_sample.txt"), TSV_WITH_COMMENTS)
    table = layouts.select_columns(_joined(patients, samples), _columns(params), params)
    matrix = read_matrix(expression, "Hugo_Symbol", TSV, skip=("Entrez_Gene_Id",))
    patient_of_sample = dict(zip(samples.frame["SAMPLE_ID"], samples.frame["PATIENT_ID"], strict=True))
    tissues = dict(zip(samples.frame["SAMPLE_ID"], layouts.tissue_cells_by_row(samples.frame), strict=True))
    genes, excluded = layouts.patients_by_genes(matrix, patient_of_sample, tissues)
    table = layouts.replace_words(table, "is_female", layouts.SEX_VALUES)
    table = layouts.replace_words(table, "event", _status_values())
    manifest = None if slides is None else read_table(slides)
    return RawCohort(layouts.add_site(table), genes, manifest, excluded, time_unit="months")


def _columns(params: IngestParams) -> dict[str, str]:
    endpoint = _ENDPOINTS[params.endpoint]
    return {
        "patient_id": "PATIENT_ID",
        "site": "TISSUE_SOURCE_SITE_CODE",
        "age": "AGE",
        "is_female": "SEX",
        "subtype": "ONCOTREE_CODE",
        "time_months": f"{endpoint}_MONTHS",
        "event": f"{endpoint}_STATUS",
    }


def _status_values() -> dict[str, str]:
    """Status word -> 0 or 1, with and without the leading number that newer studies write."""
    numbered = {f"{value}:{word}": value for word, value in _STATUS_VALUES.items()}
    return {**_STATUS_VALUES, **numbered}


def _joined(patients: RawTable, samples: RawTable) -> RawTable:
    """The patients with the columns of their selected tumour sample."""
    patients.require("PATIENT_ID")
    samples.require("PATIENT_ID", "SAMPLE_ID")
    ids, owners = samples.frame["SAMPLE_ID"].tolist(), samples.frame["PATIENT_ID"].tolist()
    selected, _ = layouts.select_samples(ids, owners, layouts.tissue_cells_by_row(samples.frame))
    by_patient = samples.frame.iloc[selected].set_index("PATIENT_ID")
    frame = patients.frame.copy()
    for column in (c for c in by_patient.columns if c not in frame.columns):
        frame[column] = frame["PATIENT_ID"].map(by_patient[column]).fillna("")
    return RawTable(frame, patients.where, patients.rows, [*patients.warnings, *samples.warnings])
