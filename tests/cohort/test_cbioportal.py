"""The cBioPortal layout. The expected rows were computed from the excerpts by the author of the test."""

import numpy as np
import pytest

from mcti.cohort import tables
from mcti.errors import DataError, UsageError
from mcti.params import IngestParams
from mcti.steps.ingest import ingest
from tests.cohort.layout_files import CBIOPORTAL, patient_rows, write_files


def ingest_cbioportal(tmp_path, **settings):
    write_files(tmp_path, CBIOPORTAL)
    params = IngestParams(name="study", format="tcga-cbioportal", expression_scale="z-score", **settings)
    return ingest(tmp_path, tmp_path / "data_mrna.txt", None, params, tmp_path / "out")


def test_numbered_statuses_are_read_and_one_tumour_sample_per_patient_is_selected(tmp_path):
    result = ingest_cbioportal(tmp_path)
    assert patient_rows(tables.read_patients(tmp_path / "out")) == [
        ("TCGA-05-4249", "05", 67.0, 0.0, "LUAD", 50.03, 0),
        ("TCGA-05-4250", "05", 79.0, 1.0, "LUAD", 3.98, 1),
    ]
    expression = tables.read_expression(tmp_path / "out")
    assert list(expression.columns) == ["TP53", "EGFR"]  # the second TP53 and the row without a name are dropped
    np.testing.assert_array_equal(expression.to_numpy(), np.float32([[1.5, -1], [2.5, np.nan]]))
    attrition = {(patient.patient_id, patient.reason) for patient in tables.read_info(tmp_path / "out").attrition}
    assert attrition == {
        ("TCGA-05-4244", "no follow-up"),  # zero months
        ("TCGA-18-3406", "no follow-up"),  # status not available
        ("TCGA-05-4250-02", "duplicate sample"),
        ("TCGA-05-4250-11", "sample of normal tissue"),
    }
    assert any("2 rows dropped (no gene name" in warning for warning in result.warnings)


PAN_CANCER = {
    "data_clinical_patient.txt": (
        "#Patient Identifier\tSubtype\tSex\tOverall Survival Status\tAge\tOS\tDSS\tDSS status\tPFS\tPFS status\n"
        '#"Identifier" of a patient\tSubtype\tSex\tstatus\tage\tmonths\tmonths\tstatus\tmonths\tstatus\n'
        "#STRING\tSTRING\tSTRING\tSTRING\tNUMBER\tNUMBER\tNUMBER\tSTRING\tNUMBER\tSTRING\n"
        "#1\t1\t1\t1\t1\t1\t1\t1\t1\t1\n"
        "PATIENT_ID\tSUBTYPE\tSEX\tOS_STATUS\tAGE\tOS_MONTHS\tDSS_MONTHS\tDSS_STATUS\tPFS_MONTHS\tPFS_STATUS\n"
        "TCGA-3C-AAAU\tLumA\tFemale\t0:LIVING\t55\t133.05\t133.05\t0:ALIVE OR DEAD TUMOR FREE\t59.44\t1:PROGRESSION\n"
        "TCGA-A1-A0SB\tBRCA_Normal\tMALE\tDECEASED\t70\t8.5\t8.5\t1:DEAD WITH TUMOR\t8.5\t0:CENSORED\n"
        "TCGA-A1-A0SE\t\t[Not Available]\tLIVING\t[Not Available]\t43.4\t\t\t43.4\t0:CENSORED\n"
    ),
    "data_clinical_sample.txt": (
        "#Sample\tPatient\tTissue Source Site Code\tOncotree Code\n" * 4
        + "SAMPLE_ID\tPATIENT_ID\tTISSUE_SOURCE_SITE_CODE\tONCOTREE_CODE\n"
        "TCGA-3C-AAAU-01\tTCGA-3C-AAAU\t3C\tIDC\n"
        "TCGA-A1-A0SB-06\tTCGA-A1-A0SB\tZZ\tILC\n"
        "TCGA-A1-A0SB-01\tTCGA-A1-A0SB\tA1\tIDC\n"
        "TCGA-A1-A0SE-01\tTCGA-A1-A0SE\t[Not Available]\tILC\n"
    ),
    "data_mrna.txt": "Hugo_Symbol\tTCGA-3C-AAAU-01\tTCGA-A1-A0SB-01\tTCGA-A1-A0SE-01\nTP53\t1\tNA\t-1e-2\n",
}  # fmt: skip


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("OS", [("3C", 55.0, 1.0, "IDC", 133.05, 0), ("A1", 70.0, 0.0, "IDC", 8.5, 1), ("A1", -1, -1, "ILC", 43.4, 0)]),
        ("DSS", [("3C", 55.0, 1.0, "IDC", 133.05, 0), ("A1", 70.0, 0.0, "IDC", 8.5, 1)]),
        ("PFI", [("3C", 55.0, 1.0, "IDC", 59.44, 1), ("A1", 70.0, 0.0, "IDC", 8.5, 0), ("A1", -1, -1, "ILC", 43.4, 0)]),
    ],
)
def test_studies_of_the_pan_cancer_atlas_are_read(tmp_path, endpoint, expected):
    """Four lines of comment, statuses with and without numbers, a site that only the barcode contains."""
    write_files(tmp_path, PAN_CANCER)
    params = IngestParams(format="tcga-cbioportal", expression_scale="z-score", endpoint=endpoint)
    ingest(tmp_path, tmp_path / "data_mrna.txt", None, params, tmp_path / "out")
    patients = tables.read_patients(tmp_path / "out").fillna({"age": -1.0, "is_female": -1})
    assert [row[1:] for row in patient_rows(patients)] == expected


def test_the_patient_of_a_sample_comes_from_the_sample_file(tmp_path):
    head = "#x\n" * 4
    write_files(
        tmp_path,
        {
            "data_clinical_patient.txt": head + "PATIENT_ID\tSEX\tAGE\tOS_MONTHS\tOS_STATUS\tCENTER\n"
            "P-04\tFemale\t39\t14.2\t1:DECEASED\tNY\nP-15\tMale\t44\t3\t0:LIVING\tNY\n",
            "data_clinical_sample.txt": head + "SAMPLE_ID\tPATIENT_ID\tONCOTREE_CODE\n"
            "P-04-T02-IM3\tP-04\tILC\nP-04-T01-IM3\tP-04\tIDC\nP-15-T01-IM3\tP-15\tILC\n",
            "mrna.txt": "Hugo_Symbol\tP-15-T01-IM3\tP-04-T02-IM3\tP-04-T01-IM3\nTP53\t1.5\t9\t2.5\n",
        },
    )
    params = IngestParams(format="tcga-cbioportal", columns={"site": "CENTER"})
    result = ingest(tmp_path, tmp_path / "mrna.txt", None, params, tmp_path / "out")
    assert patient_rows(tables.read_patients(tmp_path / "out")) == [
        ("P-04", "NY", 39.0, 1.0, "IDC", 14.2, 1),
        ("P-15", "NY", 44.0, 0.0, "ILC", 3.0, 0),
    ]
    assert tables.read_expression(tmp_path / "out")["TP53"].tolist() == [2.5, 1.5]
    assert result.excluded == {"duplicate sample": 1}
    with pytest.raises(DataError, match=r"site is missing .*ingest\.columns can name another source of site"):
        ingest(tmp_path, tmp_path / "mrna.txt", None, IngestParams(format="tcga-cbioportal"), tmp_path / "none")
    params = IngestParams(format="tcga-cbioportal", endpoint="DMFS")
    with pytest.raises(UsageError, match=r"have no end point DMFS in ingest\.endpoint"):
        ingest(tmp_path, tmp_path / "mrna.txt", None, params, tmp_path / "none")


def test_time_and_event_come_from_the_columns_of_the_endpoint(tmp_path):
    ingest_cbioportal(tmp_path, endpoint="DFI")
    assert [row[-2:] for row in patient_rows(tables.read_patients(tmp_path / "out"))] == [
        (50.03, 0),
        (2.0, 1),
        (12.19, 0),
    ]
    with pytest.raises(DataError, match="'DSS_MONTHS' is missing"):
        ingest_cbioportal(tmp_path, endpoint="DSS")


def test_a_setting_with_an_unknown_column_gets_the_most_similar_name(tmp_path):
    with pytest.raises(
        DataError, match=r"ingest\.columns\.subtype.*data_clinical_patient.txt: did you mean ONCOTREE_CODE"
    ):
        ingest_cbioportal(tmp_path, columns={"subtype": "ONCOTREE"})
    with pytest.raises(UsageError, match="did you mean subtype"):
        ingest_cbioportal(tmp_path, columns={"sub_type": "ONCOTREE_CODE"})
    with pytest.raises(DataError, match=r"ingest\.covariates.*did you mean DFS_MONTHS"):
        ingest_cbioportal(tmp_path, covariates=("DFS_MONTH",))


def test_the_tissue_comes_from_the_sample_file(tmp_path):
    files = {
        "data_clinical_patient.txt": (
            "PATIENT_ID\tTISSUE_SOURCE_SITE_CODE\tAGE\tSEX\tOS_MONTHS\tOS_STATUS\n"
            "P1\tX\t50\tMale\t10\t0:LIVING\nP2\tX\t60\tFemale\t20\t1:DECEASED\n"
        ),
        "data_clinical_sample.txt": (
            "PATIENT_ID\tSAMPLE_ID\tSAMPLE_TYPE\tONCOTREE_CODE\n"
            "P1\tP1-A\tNormal\tNONE\nP1\tP1-B\tPrimary\tLUAD\nP2\tP2-A\tMetastasis\tMET\nP2\tP2-B\tPrimary\tLUSC\n"
        ),
        "data_mrna.txt": "Hugo_Symbol\tP1-A\tP1-B\tP2-A\tP2-B\nTP53\t1\t2\t3\t4\n",
    }
    write_files(tmp_path, files)
    params = IngestParams(format="tcga-cbioportal", expression_scale="z-score")
    result = ingest(tmp_path, tmp_path / "data_mrna.txt", None, params, tmp_path / "out")
    assert tables.read_expression(tmp_path / "out")["TP53"].tolist() == [2.0, 4.0]
    assert tables.read_patients(tmp_path / "out")["subtype"].tolist() == ["LUAD", "LUSC"]
    assert result.excluded == {"duplicate sample": 1, "sample of normal tissue": 1}
