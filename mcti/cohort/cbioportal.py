"""The files of a cBioPortal study: data_clinical_patient.txt, data_clinical_sample.txt and an mRNA matrix.

Times are months, `#` lines are comments, statuses read `1:DECEASED`; the matrix has genes as rows.
"""

from mcti import storage
from mcti.cohort import layouts
from mcti.cohort.assembly import RawCohort
from mcti.cohort.reading import RawTable, read_matrix, read_table
from mcti.errors import UsageError, did_you_mean
from mcti.params import IngestParams
from mcti.storage import Location

_ENDPOINTS = {"OS": "OS", "DSS": "DSS", "DFI": "DFS", "PFI": "PFS"}
"""The end points of Liu et al. (Cell 173, 2018, 400-416) under the study's names."""

_STATUS_WORDS = {"living": "0", "deceased": "1", "diseasefree": "0", "recurred/progressed": "1", "censored": "0"}
_STATUS_WORDS |= {"progression": "1", "alive or dead tumor free": "0", "dead with tumor": "1"}


def read(clinical: Location, expression: Location, slides: Location | None, params: IngestParams) -> RawCohort:
    """`clinical` is the study's folder; `expression` its mRNA file (Hugo_Symbol, Entrez_Gene_Id, one column a sample).

    Raises
        UsageError: an end point that these studies do not have.
        DataError: a file or a column is missing, a cell cannot be.
    """
    if params.endpoint not in _ENDPOINTS:
        what = f"cBioPortal studies have no {params.endpoint}"
        raise UsageError(what, "ingest.endpoint", did_you_mean(params.endpoint, _ENDPOINTS))
    patients = read_table(storage.join(clinical, "data_clinical_patient.txt"), "\t", "#")
    samples = read_table(storage.join(clinical, "data_clinical_sample.txt"), "\t", "#")
    table = layouts.pick(_joined(patients, samples), _columns(params), params)
    matrix = read_matrix(expression, "Hugo_Symbol", "\t", skip=("Entrez_Gene_Id",))
    owners = dict(zip(samples.frame["SAMPLE_ID"], samples.frame["PATIENT_ID"], strict=True))
    tissues = dict(zip(samples.frame["SAMPLE_ID"], layouts.stated_tissues(samples.frame), strict=True))
    genes, left = layouts.turned(matrix, owners, tissues)
    table = layouts.words(layouts.words(table, "is_female", layouts.SEXES), "event", _statuses())
    manifest = None if slides is None else read_table(slides)
    return RawCohort(layouts.with_site(table), genes, manifest, left, time_unit="months")


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


def _statuses() -> dict[str, str]:
    """The words of all statuses, with and without the leading number that newer studies write."""
    numbered = {f"{value}:{word}": value for word, value in _STATUS_WORDS.items()}
    return {**_STATUS_WORDS, **numbered}


def _joined(patients: RawTable, samples: RawTable) -> RawTable:
    """The patients with the columns of their first tumour sample."""
    patients.need("PATIENT_ID")
    samples.need("PATIENT_ID", "SAMPLE_ID")
    ids, owners = samples.frame["SAMPLE_ID"].tolist(), samples.frame["PATIENT_ID"].tolist()
    kept, _ = layouts.one_sample_each(ids, owners, layouts.stated_tissues(samples.frame))
    of_patient = samples.frame.iloc[kept].set_index("PATIENT_ID")
    frame = patients.frame.copy()
    for column in (c for c in of_patient.columns if c not in frame.columns):
        frame[column] = frame["PATIENT_ID"].map(of_patient[column]).fillna("")
    return RawTable(frame, patients.where, patients.rows, [*patients.warnings, *samples.warnings])
