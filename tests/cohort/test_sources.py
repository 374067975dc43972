"""Each layout from a hand-made excerpt; the expected rows are worked out by hand beside it."""

import json

import numpy as np
import pandas as pd
import pytest

from mcti import s3, storage
from mcti.cohort import tables
from mcti.errors import DataError, UsageError
from mcti.params import IngestParams
from mcti.steps.ingest import ingest


def write(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def rows(patients):
    """The canonical columns as plain tuples; times to six decimals."""
    columns = ["patient_id", "site", "age", "is_female", "subtype", "time_months", "event"]
    return [
        tuple(round(v, 6) if isinstance(v, float) else v for v in row)
        for row in patients[columns].astype({"is_female": float}).itertuples(index=False, name=None)
    ]


MCAT = """,case_id,slide_id,site,is_female,oncotree_code,age,survival_months,censorship,t,AAK1_rnaseq,TP53_mut,MYC_cnv
0,TCGA-3C-AALI,TCGA-3C-AALI-01Z-00-DX1.F6.svs,3C,1,IDC,50,131.57,1,1.0,-0.25,0,1
1,TCGA-3C-AALI,TCGA-3C-AALI-01Z-00-DX2.CF.svs,3C,1,IDC,50,131.57,1,1.0,-0.25,0,1
2,TCGA-4H-AAAK,TCGA-4H-AAAK-01Z-00-DX1.AB.svs,4H,0,ILC,,11.5,0,0.0,2.5,1,-2
"""


def test_mcat_turns_censorship_round_and_keeps_one_row_a_patient(tmp_path):
    write(tmp_path, {"all.csv": MCAT})
    params = IngestParams(name="x", format="mcat", expression_scale="z-score")
    result = ingest(tmp_path / "all.csv", tmp_path / "all.csv", None, params, tmp_path / "out")
    assert (result.patients, result.events, result.genes, result.slides) == (2, 1, 3, 3)
    found = tables.read_patients(tmp_path / "out")
    assert rows(found.fillna({"age": -1.0})) == [
        ("TCGA-3C-AALI", "3C", 50.0, 1.0, "IDC", 131.57, 0),  # censorship 1: censored
        ("TCGA-4H-AAAK", "4H", -1.0, 0.0, "ILC", 11.5, 1),  # censorship 0: the event was seen
    ]
    expression = tables.read_expression(tmp_path / "out")
    assert list(expression.columns) == ["AAK1", "TP53_mut", "MYC_cnv"]
    np.testing.assert_array_equal(expression.to_numpy(), np.float32([[-0.25, 0, 1], [2.5, 1, -2]]))
    slides = tables.read_slides(tmp_path / "out")
    assert slides["slide_id"].tolist() == [
        "TCGA-3C-AALI-01Z-00-DX1.F6",
        "TCGA-3C-AALI-01Z-00-DX2.CF",
        "TCGA-4H-AAAK-01Z-00-DX1.AB",
    ]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "131.57,1,1.0,-0.25,0,1\n2",
            "130.0,1,1.0,-0.25,0,1\n2",
            ["survival_months is '130.0', and '131.57'", "row 3"],
        ),
        ("11.5,0,0.0", "11.5,2,0.0", ["censorship is '2'", "row 4", "1 (censored)"]),
        ("censorship", "censored", ["'censorship' is missing", "did you mean censored?"]),
        ("2.5,1,-2", "high,1,-2", ["'high' is not a number", "row 4", "AAK1_rnaseq"]),
    ],
)
def test_mcat_that_cannot_be_is_refused(tmp_path, old, new, words):
    assert old in MCAT
    write(tmp_path, {"all.csv": MCAT.replace(old, new, 1)})
    with pytest.raises(DataError) as caught:
        ingest(tmp_path / "all.csv", tmp_path / "all.csv", None, IngestParams(format="mcat"), tmp_path / "out")
    assert all(word in str(caught.value) for word in words), str(caught.value)


SURVPATH = """,case_id,slide_id,is_female,oncotree_code,age,survival_months,censorship,survival_months_dss,censorship_dss,A_rnaseq
0,TCGA-3C-AALI,TCGA-3C-AALI-01Z-00-DX1.svs,1,IDC,50,131.57,0,100.5,1,-0.25
1,TCGA-4H-AAAK,TCGA-4H-AAAK-01Z-00-DX1.svs,0,ILC,60,11.5,1,9.5,0,2.5
"""  # noqa: E501  (the header of the layout)


@pytest.mark.parametrize(
    ("settings", "outcome"),
    [
        ({}, [(131.57, 1), (11.5, 0)]),
        ({"endpoint": "DSS"}, [(100.5, 0), (9.5, 1)]),
        ({"columns": {"time_months": "survival_months_dss", "event": "censorship_dss"}}, [(100.5, 0), (9.5, 1)]),
        ({"time_unit": "years"}, [(1578.84, 1), (138.0, 0)]),
    ],
)
def test_mcat_takes_the_columns_of_the_endpoint_and_turns_any_censorship_round(tmp_path, settings, outcome):
    write(tmp_path, {"all.csv": SURVPATH})
    ingest(tmp_path / "all.csv", tmp_path / "all.csv", None, IngestParams(format="mcat", **settings), tmp_path / "out")
    assert [row[-2:] for row in rows(tables.read_patients(tmp_path / "out"))] == outcome


def test_mcat_that_names_its_endpoints_has_no_other(tmp_path):
    write(tmp_path, {"all.csv": SURVPATH})
    params = IngestParams(format="mcat", endpoint="PFI")
    with pytest.raises(DataError, match=r"'censorship_pfi' is missing .*: end points of this table: OS, DSS"):
        ingest(tmp_path / "all.csv", tmp_path / "all.csv", None, params, tmp_path / "out")


CBIOPORTAL = {
    "data_clinical_patient.txt": (
        "#Patient Identifier\tAge\tSex\tOverall Survival (Months)\tOverall Survival Status\n"
        "#STRING\tNUMBER\tSTRING\tNUMBER\tSTRING\n"
        "PATIENT_ID\tAGE\tSEX\tOS_MONTHS\tOS_STATUS\tDFS_MONTHS\tDFS_STATUS\n"
        "TCGA-05-4244\t70\tMale\t0.0\t0:LIVING\t\t\n"
        "TCGA-05-4249\t67\tMale\t50.03\t0:LIVING\t50.03\t0:DiseaseFree\n"
        "TCGA-05-4250\t79\tFemale\t3.98\t1:DECEASED\t2.0\t1:Recurred/Progressed\n"
        "TCGA-18-3406\t67\tMale\t12.19\t[Not Available]\t12.19\t0:DiseaseFree\n"
    ),
    "data_clinical_sample.txt": (
        "#Patient Identifier\tSample Identifier\n"
        "PATIENT_ID\tSAMPLE_ID\tONCOTREE_CODE\n"
        "TCGA-05-4244\tTCGA-05-4244-01\tLUAD\n"
        "TCGA-05-4249\tTCGA-05-4249-01\tLUAD\n"
        "TCGA-05-4250\tTCGA-05-4250-01\tLUAD\n"
        "TCGA-18-3406\tTCGA-18-3406-01\tLUSC\n"
    ),
    "data_mrna.txt": (
        "Hugo_Symbol\tEntrez_Gene_Id\tTCGA-05-4249-01\tTCGA-05-4250-01\tTCGA-05-4250-11\tTCGA-05-4250-02\tTCGA-18-3406-01\n"
        "TP53\t7157\t1.5\t2.5\t9\t8\t3.5\n"
        "\t100133144\t0\t0\t0\t0\t0\n"
        "EGFR\t1956\t-1\t\t9\t8\t0.25\n"
        "TP53\t7157\t7\t7\t7\t7\t7\n"
    ),
}


def cbioportal(tmp_path, **settings):
    write(tmp_path, CBIOPORTAL)
    params = IngestParams(name="study", format="tcga-cbioportal", expression_scale="z-score", **settings)
    return ingest(tmp_path, tmp_path / "data_mrna.txt", None, params, tmp_path / "out")


def test_cbioportal_reads_numbered_statuses_and_one_tumour_sample_a_patient(tmp_path):
    result = cbioportal(tmp_path)
    assert rows(tables.read_patients(tmp_path / "out")) == [
        ("TCGA-05-4249", "05", 67.0, 0.0, "LUAD", 50.03, 0),
        ("TCGA-05-4250", "05", 79.0, 1.0, "LUAD", 3.98, 1),
    ]
    expression = tables.read_expression(tmp_path / "out")
    assert list(expression.columns) == ["TP53", "EGFR"]  # the second TP53 and the row without a name are left out
    np.testing.assert_array_equal(expression.to_numpy(), np.float32([[1.5, -1], [2.5, np.nan]]))
    left = {(leaver.patient_id, leaver.reason) for leaver in tables.read_info(tmp_path / "out").attrition}
    assert left == {
        ("TCGA-05-4244", "no follow-up"),  # zero months
        ("TCGA-18-3406", "no follow-up"),  # status not available
        ("TCGA-05-4250-02", "duplicate sample"),
        ("TCGA-05-4250-11", "sample of normal tissue"),
    }
    assert any("2 rows without a gene name" in warning for warning in result.warnings)


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
def test_cbioportal_of_the_pan_cancer_atlas(tmp_path, endpoint, expected):
    """Four lines of comment, statuses with and without numbers, a site that only the barcode tells."""
    write(tmp_path, PAN_CANCER)
    params = IngestParams(format="tcga-cbioportal", expression_scale="z-score", endpoint=endpoint)
    ingest(tmp_path, tmp_path / "data_mrna.txt", None, params, tmp_path / "out")
    found = tables.read_patients(tmp_path / "out").fillna({"age": -1.0, "is_female": -1})
    assert [row[1:] for row in rows(found)] == expected


def test_cbioportal_of_another_project_takes_the_patient_of_a_sample_from_its_sample_file(tmp_path):
    head = "#x\n" * 4
    write(
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
    assert rows(tables.read_patients(tmp_path / "out")) == [
        ("P-04", "NY", 39.0, 1.0, "IDC", 14.2, 1),
        ("P-15", "NY", 44.0, 0.0, "ILC", 3.0, 0),
    ]
    assert tables.read_expression(tmp_path / "out")["TP53"].tolist() == [2.5, 1.5]
    assert result.excluded == {"duplicate sample": 1}
    with pytest.raises(DataError, match=r"no site .*ingest\.columns gives site another source"):
        ingest(tmp_path, tmp_path / "mrna.txt", None, IngestParams(format="tcga-cbioportal"), tmp_path / "none")
    params = IngestParams(format="tcga-cbioportal", endpoint="DMFS")
    with pytest.raises(UsageError, match=r"have no DMFS in ingest\.endpoint"):
        ingest(tmp_path, tmp_path / "mrna.txt", None, params, tmp_path / "none")


def test_another_endpoint_takes_its_own_columns(tmp_path):
    cbioportal(tmp_path, endpoint="DFI")
    assert [row[-2:] for row in rows(tables.read_patients(tmp_path / "out"))] == [(50.03, 0), (2.0, 1), (12.19, 0)]
    with pytest.raises(DataError, match="'DSS_MONTHS' is missing"):
        cbioportal(tmp_path, endpoint="DSS")


def test_settings_that_name_a_column_that_is_not_there_get_its_near_miss(tmp_path):
    with pytest.raises(
        DataError, match=r"ingest\.columns\.subtype.*data_clinical_patient.txt: did you mean ONCOTREE_CODE"
    ):
        cbioportal(tmp_path, columns={"subtype": "ONCOTREE"})
    with pytest.raises(UsageError, match="did you mean subtype"):
        cbioportal(tmp_path, columns={"sub_type": "ONCOTREE_CODE"})
    with pytest.raises(DataError, match=r"ingest\.covariates.*did you mean DFS_MONTHS"):
        cbioportal(tmp_path, covariates=("DFS_MONTH",))


XENA = {
    "clinical/BRCA_clinicalMatrix": (
        "sampleID\tage_at_initial_pathologic_diagnosis\tgender\thistological_type\ttissue_source_site\n"
        "TCGA-3C-AAAU-01\t55\tFEMALE\tInfiltrating Lobular Carcinoma\t3C\n"
        "TCGA-3C-AALI-01\t50\tMALE\tInfiltrating Ductal Carcinoma\t3C\n"
        "TCGA-3C-AALI-11\t50\tMALE\tInfiltrating Ductal Carcinoma\t3C\n"
    ),
    "clinical/BRCA_survival.txt": (
        "sample\t_PATIENT\tOS\tOS.time\tPFI\tPFI.time\n"
        "TCGA-3C-AAAU-01\tTCGA-3C-AAAU\t0\t4047\t1\t1808\n"
        "TCGA-3C-AALI-01\tTCGA-3C-AALI\t1\t365.25\t0\t365.25\n"
        "TCGA-3C-AALI-11\tTCGA-3C-AALI\t1\t365.25\t0\t365.25\n"
    ),
    "HiSeqV2": (
        "sample\tTCGA-3C-AALI-11\tTCGA-3C-AALI-01\tTCGA-3C-AAAU-01\nARHGEF10L\t9.0\t9.25\t8.5\nHIF3A\t1.0\t2.5\t3.75\n"
    ),
}


def test_xena_reads_days_and_leaves_normal_tissue_out(tmp_path):
    write(tmp_path, XENA)
    params = IngestParams(name="BRCA", format="xena", expression_scale="log2")
    result = ingest(tmp_path / "clinical", tmp_path / "HiSeqV2", None, params, tmp_path / "out")
    assert rows(tables.read_patients(tmp_path / "out")) == [
        ("TCGA-3C-AAAU", "3C", 55.0, 1.0, "Infiltrating Lobular Carcinoma", round(4047 / 30.4375, 6), 0),
        ("TCGA-3C-AALI", "3C", 50.0, 0.0, "Infiltrating Ductal Carcinoma", 12.0, 1),
    ]
    np.testing.assert_array_equal(
        tables.read_expression(tmp_path / "out").to_numpy(), np.float32([[8.5, 3.75], [9.25, 2.5]])
    )
    assert result.excluded == {"sample of normal tissue": 1}


def test_xena_without_a_site_takes_the_barcode_and_leaves_out_who_was_redacted(tmp_path):
    phenotype, survival = XENA["clinical/BRCA_clinicalMatrix"], XENA["clinical/BRCA_survival.txt"]
    redaction = dict(zip(survival.splitlines(), ("Redaction", "", "Redacted", "Redacted"), strict=True))
    files = {
        **XENA,
        "clinical/BRCA_clinicalMatrix": phenotype.replace("Lobular Carcinoma\t3C", "Lobular Carcinoma\t"),
        "clinical/BRCA_survival.txt": "".join(f"{line}\t{word}\n" for line, word in redaction.items()),
    }
    write(tmp_path, files)
    params = IngestParams(name="BRCA", format="xena", endpoint="PFI")
    result = ingest(tmp_path / "clinical", tmp_path / "HiSeqV2", None, params, tmp_path / "out")
    assert rows(tables.read_patients(tmp_path / "out")) == [
        ("TCGA-3C-AAAU", "3C", 55.0, 1.0, "Infiltrating Lobular Carcinoma", round(1808 / 30.4375, 6), 1)
    ]
    assert result.excluded == {"redacted by the source": 1, "sample of normal tissue": 1}


def test_xena_without_its_survival_file_says_which_one(tmp_path):
    write(tmp_path, {name: text for name, text in XENA.items() if "survival" not in name})
    with pytest.raises(DataError, match="0 files with 'survival' in their name"):
        ingest(tmp_path / "clinical", tmp_path / "HiSeqV2", None, IngestParams(format="xena"), tmp_path / "out")


GDC_CASES = [
    {
        "submitter_id": "TCGA-BH-A0B3",
        "project": {"project_id": "TCGA-BRCA"},
        "tissue_source_site": {"code": "BH"},
        "demographic": {"gender": "female", "vital_status": "Alive", "days_to_death": None},
        "diagnoses": [
            {
                "age_at_diagnosis": 19358,
                "days_to_last_follow_up": 1203,
                "primary_diagnosis": "Infiltrating duct carcinoma, NOS",
            }
        ],
    },
    {
        "submitter_id": "TCGA-D8-A1JG",
        "project": {"project_id": "TCGA-BRCA"},
        "tissue_source_site": {"code": "D8"},
        "demographic": {"gender": "male", "vital_status": "Dead", "days_to_death": 1612},
        "diagnoses": [
            {"age_at_diagnosis": None, "days_to_last_follow_up": 1600, "primary_diagnosis": "Lobular carcinoma, NOS"}
        ],
    },
]
SHEET = (
    "File ID\tFile Name\tData Category\tProject ID\tCase ID\tSample ID\tSample Type\n"
    "id-1\ta.tsv\tTranscriptome Profiling\tTCGA-BRCA\tTCGA-BH-A0B3\tTCGA-BH-A0B3-01A\tPrimary Tumor\n"
    "id-2\tb.tsv\tTranscriptome Profiling\tTCGA-BRCA\tTCGA-D8-A1JG\tTCGA-D8-A1JG-01B\tPrimary Tumor\n"
    "id-3\tc.tsv\tTranscriptome Profiling\tTCGA-BRCA\tTCGA-BH-A0B3\tTCGA-BH-A0B3-11A\tSolid Tissue Normal\n"
)


def star(first, second):
    return (
        "# gene-model: GENCODE v36\n"
        "gene_id\tgene_name\tgene_type\tunstranded\ttpm_unstranded\n"
        "N_unmapped\t\t\t100\t\n"
        f"ENSG00000000003.15\tTSPAN6\tprotein_coding\t{first}\t3.0\n"
        f"ENSG00000000005.6\tTNMD\tprotein_coding\t{second}\t0.0\n"
        "ENSG00000182378.15_PAR_Y\tTNMD\tprotein_coding\t7\t7\n"
    )


def gdc(tmp_path, **settings):
    write(tmp_path, {"clinical.json": json.dumps(GDC_CASES), "star/gdc_sample_sheet.2026.tsv": SHEET})
    write(tmp_path, {"star/id-1/a.tsv": star(2141, 5), "star/b.tsv": star(11, 0)})
    params = IngestParams(format="gdc", **{"expression_scale": "counts", **settings})
    return ingest(tmp_path / "clinical.json", tmp_path / "star", None, params, tmp_path / "out")


def test_gdc_reads_cases_and_star_counts(tmp_path):
    result = gdc(tmp_path)
    assert rows(tables.read_patients(tmp_path / "out").fillna({"age": -1.0})) == [
        ("TCGA-BH-A0B3", "BH", 52.999316, 1.0, "Infiltrating duct carcinoma, NOS", round(1203 / 30.4375, 6), 0),
        ("TCGA-D8-A1JG", "D8", -1.0, 0.0, "Lobular carcinoma, NOS", round(1612 / 30.4375, 6), 1),
    ]
    found = tables.read_expression(tmp_path / "out")
    assert list(found.columns) == ["TSPAN6", "TNMD"]
    np.testing.assert_array_equal(found.to_numpy(), np.float32([[2141, 5], [11, 0]]))
    assert result.excluded == {"sample of normal tissue": 1}


def test_gdc_takes_the_column_of_the_scale(tmp_path):
    gdc(tmp_path, expression_scale="log2")
    found = tables.read_expression(tmp_path / "out").to_numpy()
    np.testing.assert_allclose(found, [[2, 0], [2, 0]], rtol=1e-7)  # log2(3 + 1), log2(0 + 1)
    with pytest.raises(UsageError, match="STAR counts are no z-score"):
        gdc(tmp_path, expression_scale="z-score")
    with pytest.raises(UsageError, match="the GDC has no PFI"):
        gdc(tmp_path, endpoint="PFI")


def gdc_with(tmp_path, case, sheet=SHEET):
    write(tmp_path, {"clinical.json": json.dumps([case, GDC_CASES[1]]), "star/gdc_sample_sheet.2026.tsv": sheet})
    write(tmp_path, {"star/id-1/a.tsv": star(2141, 5), "star/b.tsv": star(11, 0)})
    params = IngestParams(format="gdc", expression_scale="counts")
    ingest(tmp_path / "clinical.json", tmp_path / "star", None, params, tmp_path / "out")
    return rows(tables.read_patients(tmp_path / "out"))


NEWER = {
    "submitter_id": "TCGA-BH-A0B3",
    "demographic": {"gender": "female", "vital_status": "Alive", "age_at_index": 45},
    "diagnoses": [
        {"primary_diagnosis": "Metastasis", "classification_of_tumor": "metastasis", "age_at_diagnosis": 17000},
        {"primary_diagnosis": "Lobular carcinoma, NOS", "classification_of_tumor": "primary", "treatments": [{}]},
    ],
    "follow_ups": [{"days_to_follow_up": 2140}, {"days_to_follow_up": None}, {"days_to_follow_up": 1067}],
    "exposures": [{"alcohol_history": "Not Reported"}],
}


def test_gdc_of_a_newer_release_takes_the_primary_diagnosis_and_the_last_visit(tmp_path):
    """No site, no last follow-up, no age at diagnosis; a slide in the sample sheet."""
    sheet = SHEET.replace("Project ID", "Data Type\tProject ID", 1)
    sheet = sheet.replace("\tTCGA-BRCA", "\tGene Expression Quantification\tTCGA-BRCA")
    sheet += "id-4\tx.svs\tBiospecimen\tSlide Image\tTCGA-BRCA\tTCGA-BH-A0B3\tTCGA-BH-A0B3-01A\tPrimary Tumor\n"
    assert gdc_with(tmp_path, NEWER, sheet)[0] == (
        "TCGA-BH-A0B3", "BH", 45.0, 1.0, "Lobular carcinoma, NOS", round(2140 / 30.4375, 6), 0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"diagnoses": "none"}, "diagnoses is 'none', not a list of mappings .*case 1"),
        ({"demographic": ["x"]}, "demographic is .*, not a mapping"),
        ({"follow_ups": [{"days_to_follow_up": "late"}]}, "days_to_follow_up is 'late', not a number .*case 1"),
        ({"submitter_id": "../x"}, "patient_id '../x' is not well-formed"),
    ],
)
def test_gdc_cases_that_cannot_be_are_refused(tmp_path, change, words):
    with pytest.raises(DataError, match=words):
        gdc_with(tmp_path, {**NEWER, **change})


@pytest.mark.parametrize(
    ("name", "words"),
    [("../../secret.tsv", "is not below its folder"), ("lost.tsv", "of the sample sheet is missing")],
)
def test_gdc_reads_only_files_below_its_folder(tmp_path, name, words):
    write(tmp_path, {"secret.tsv": star(1, 1)})
    with pytest.raises(DataError, match=words):
        gdc_with(tmp_path, NEWER, SHEET.replace("\ta.tsv", f"\t{name}"))


def test_gdc_patients_of_whom_nothing_is_reported_leave_with_the_reason(tmp_path):
    silent = {"submitter_id": "TCGA-BH-A0B3", "demographic": {"gender": "not reported", "vital_status": "Not Reported"}}
    assert [row[0] for row in gdc_with(tmp_path, silent)] == ["TCGA-D8-A1JG"]
    left = tables.read_info(tmp_path / "out").attrition
    assert ("TCGA-BH-A0B3", "no follow-up") in {(leaver.patient_id, leaver.reason) for leaver in left}


CPTAC = [
    {
        "submitter_id": name,
        "tissue_source_site": {"code": "S"},
        "demographic": {"gender": "female", "vital_status": "Alive", "age_at_index": 60},
        "diagnoses": [{"primary_diagnosis": "Adenocarcinoma, NOS", "days_to_last_follow_up": 600}],
    }
    for name in ("C3L-00001", "C3L-00002", "C3L-00003")
]
"""Names that say nothing of the tissue; ids of normal samples come before those of tumours."""


def cptac(tmp_path, kinds, cases=CPTAC, **settings):
    """kinds: header and cells that state the tissue, of (case, sample) in order; each sample counts its row."""
    header, *cells = kinds
    places = [
        ("C3L-00001", "-01"),
        ("C3L-00001", "-02"),
        ("C3L-00002", "-03"),
        ("C3L-00002", "-01"),
        ("C3L-00003", "-01"),
    ]
    lines = [f"File ID\tFile Name\tCase ID\tSample ID\t{header}"]
    for row, ((case, end), words) in enumerate(zip(places, cells, strict=True), start=1):
        lines.append(f"id-{row}\t{row}.tsv\t{case}\t{case}{end}\t{words}")
        write(tmp_path, {f"star/{row}.tsv": star(row, 0)})
    write(tmp_path, {"clinical.json": json.dumps(cases), "star/gdc_sample_sheet.tsv": "\n".join(lines) + "\n"})
    params = IngestParams(format="gdc", expression_scale="counts", **settings)
    return ingest(tmp_path / "clinical.json", tmp_path / "star", None, params, tmp_path / "out")


@pytest.mark.parametrize(
    "kinds",
    [
        ("Tissue Type", "Normal", "Tumor", "Tumor", "Normal", "Normal"),
        ("Sample Type", "Solid Tissue Normal", "Primary Tumor", "Primary Tumor", "Blood Derived Normal",
         "Buccal Cell Normal"),
        ("Tissue Type\tTumor Descriptor\tSample Type", "Normal\tNot Applicable\tx", "Tumor\tPrimary\tx",
         "Tumor\tPrimary\tx", "Peritumoral\tNot Applicable\tx", "Normal\tNot Applicable\tPrimary Tumor"),
    ],
)  # fmt: skip
def test_gdc_takes_the_tissue_from_the_sample_sheet(tmp_path, kinds):
    result = cptac(tmp_path, kinds)
    found = tables.read_expression(tmp_path / "out")
    assert found["TSPAN6"].to_dict() == {"C3L-00001": 2.0, "C3L-00002": 3.0}
    assert result.excluded == {"no genes": 1, "sample of normal tissue": 3}
    listed = {leaver.patient_id for leaver in tables.read_info(tmp_path / "out").attrition if "normal" in leaver.reason}
    assert listed == {"C3L-00001-01", "C3L-00002-01", "C3L-00003-01"}


def test_gdc_takes_a_metastasis_only_where_there_is_no_primary_tumour(tmp_path):
    kinds = ("Sample Type", "Metastatic", "Primary Tumor", "Primary Tumor", "Recurrent Tumor", "Metastatic")
    result = cptac(tmp_path, kinds)
    assert tables.read_expression(tmp_path / "out")["TSPAN6"].tolist() == [2.0, 3.0, 5.0]
    assert result.excluded == {"duplicate sample": 2}


def test_gdc_lists_contradictions_of_status_and_dates(tmp_path):
    """By hand: alive with a date of death, dead without one, dead and followed up after it."""
    alive, dateless, followed = (json.loads(json.dumps(case)) for case in CPTAC)
    alive["demographic"] |= {"days_to_death": 500}
    dateless["demographic"] |= {"vital_status": "Dead"}
    followed["demographic"] |= {"vital_status": "Dead", "days_to_death": 365.25}
    result = cptac(tmp_path, ("Tissue Type", *["Tumor"] * 5), [alive, dateless, followed])
    assert rows(tables.read_patients(tmp_path / "out"))[0][5:] == (12.0, 1)
    assert result.excluded == {"contradictory status and dates": 2, "duplicate sample": 2}
    for words in ("Alive with days_to_death 500: C3L-00001", "Dead without days_to_death: C3L-00002",
                  "followed up after death (days_to_death is taken): C3L-00003"):  # fmt: skip
        assert any(warning.endswith(words) for warning in result.warnings), words


def test_gdc_without_a_tumour_or_with_a_file_of_two_cases_is_refused(tmp_path):
    with pytest.raises(DataError, match="every sample is of normal tissue"):
        cptac(tmp_path, ("Tissue Type", *["Normal"] * 5))
    sheet = (tmp_path / "star/gdc_sample_sheet.tsv").read_text()
    two = sheet.replace("C3L-00001\tC3L-00001-01", "C3L-00001, C3L-00002\tC3L-00001-01, C3L-00002-01")
    write(tmp_path, {"star/gdc_sample_sheet.tsv": two})
    with pytest.raises(DataError, match=r"a file of 2 cases .*row 2"):
        ingest(tmp_path / "clinical.json", tmp_path / "star", None,
               IngestParams(format="gdc", expression_scale="counts"), tmp_path / "out")  # fmt: skip


def test_cbioportal_takes_the_tissue_from_its_sample_file(tmp_path):
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
    write(tmp_path, files)
    params = IngestParams(format="tcga-cbioportal", expression_scale="z-score")
    result = ingest(tmp_path, tmp_path / "data_mrna.txt", None, params, tmp_path / "out")
    assert tables.read_expression(tmp_path / "out")["TP53"].tolist() == [2.0, 4.0]
    assert tables.read_patients(tmp_path / "out")["subtype"].tolist() == ["LUAD", "LUSC"]
    assert result.excluded == {"duplicate sample": 1, "sample of normal tissue": 1}


def test_xena_takes_the_tissue_from_its_phenotype(tmp_path):
    files = {
        "clinical/clinicalMatrix": (
            "sampleID\tsample_type\tage_at_initial_pathologic_diagnosis\tgender\thistological_type\ttissue_source_site\n"
            "P1-A\tSolid Tissue Normal\t50\tMALE\tnone\tX\nP1-B\tPrimary Tumor\t50\tMALE\tIDC\tX\n"
        ),
        "clinical/survival": "sample\t_PATIENT\tOS\tOS.time\nP1-A\tP1\t0\t365.25\nP1-B\tP1\t0\t365.25\n",
        "HiSeqV2": "sample\tP1-A\tP1-B\nTP53\t1\t2\n",
    }
    write(tmp_path, files)
    result = ingest(tmp_path / "clinical", tmp_path / "HiSeqV2", None, IngestParams(format="xena"), tmp_path / "out")
    assert tables.read_expression(tmp_path / "out")["TP53"].tolist() == [2.0]
    assert tables.read_patients(tmp_path / "out")["subtype"].tolist() == ["IDC"]
    assert result.excluded == {"sample of normal tissue": 1}


@pytest.mark.parametrize("cell", [">89", "> 89", ">=90", "90+", "<18"])
def test_masked_ages_are_mapped_by_one_setting(tmp_path, cell):
    clinical = f"patient_id,site,age,is_female,subtype,time_months,event\na,x,{cell},1,k,3,1\nb,x,50,1,k,4,0\n"
    write(tmp_path, {"c.csv": clinical, "g.csv": "patient_id,G\na,1\nb,2\n"})

    def read(**settings):
        ingest(tmp_path / "c.csv", tmp_path / "g.csv", None, IngestParams(**settings), tmp_path / "out")
        return tables.read_patients(tmp_path / "out")["age"].tolist()

    with pytest.raises(DataError, match=r"ingest\.age_values: \{.*YEARS"):
        read()
    assert read(age_values={cell.replace(" ", ""): 90}) == [90.0, 50.0]


def test_gdc_masks_ages_the_same_way(tmp_path):
    cases = json.loads(json.dumps(CPTAC))
    cases[0]["demographic"]["age_at_index"] = ">89"
    cases[1]["diagnoses"][0]["age_at_diagnosis"] = "<18"
    cptac(tmp_path, ("Tissue Type", *["Tumor"] * 5), cases, age_values={">89": 90, "<18": 17})
    assert tables.read_patients(tmp_path / "out")["age"].tolist() == [90.0, 17.0, 60.0]


def test_a_table_without_age_is_a_cohort_without_age(tmp_path):
    clinical = "patient_id,site,is_female,subtype,time_months,event\na,x,1,k,3,1\nb,x,1,k,4,0\n"
    write(tmp_path, {"c.csv": clinical, "g.csv": "patient_id,G\na,1\nb,2\n"})
    result = ingest(tmp_path / "c.csv", tmp_path / "g.csv", None, IngestParams(), tmp_path / "out")
    assert tables.read_patients(tmp_path / "out")["age"].isna().all()
    assert any("a cohort without age" in warning for warning in result.warnings)
    write(tmp_path, {"c.csv": clinical.replace("site", "Age,site").replace("a,x", "a,50,x").replace("b,x", "b,5,x")})
    with pytest.raises(DataError, match=r"column 'age' is missing .*did you mean Age"):
        ingest(tmp_path / "c.csv", tmp_path / "g.csv", None, IngestParams(), tmp_path / "out")


@pytest.mark.slow
@pytest.mark.stack
@pytest.mark.parametrize("layout", ["mcat", "tcga-cbioportal", "xena", "gdc", "canonical"])
def test_every_layout_comes_from_s3_as_from_a_folder(tmp_path, servers_of, layout):
    canonical = {
        "c.csv": "patient_id,site,age,is_female,subtype,time_months,event\na,x,50,1,k,3,1\nb,x,50,1,k,4,0\n",
        "g.csv": "patient_id,G\na,1\nb,2\n",
    }
    cases = {"gdc/clinical.json": json.dumps(GDC_CASES), "gdc/star/gdc_sample_sheet.2026.tsv": SHEET}
    files, clinical, expression = {
        "canonical": (canonical, "c.csv", "g.csv"),
        "mcat": ({"all.csv": MCAT}, "all.csv", "all.csv"),
        "tcga-cbioportal": ({f"study/{n}": t for n, t in CBIOPORTAL.items()}, "study", "study/data_mrna.txt"),
        "xena": (XENA, "clinical", "HiSeqV2"),
        "gdc": (
            {**cases, "gdc/star/id-1/a.tsv": star(2141, 5), "gdc/star/b.tsv": star(11, 0)},
            "gdc/clinical.json",
            "gdc/star",
        ),
    }[layout]
    write(tmp_path / "here", files)
    for name, text in files.items():
        s3.put(f"s3://mcti-data/{layout}/{name}", text.encode())
    params = IngestParams(format=layout, expression_scale="counts" if layout == "gdc" else "log2")
    for base, out in ((str(tmp_path / "here"), "local"), (f"s3://mcti-data/{layout}", "s3")):
        ingest(storage.join(base, clinical), storage.join(base, expression), None, params, tmp_path / out)
    for name in ("patients.parquet", "expression.parquet", "slides.parquet"):
        assert (tmp_path / "local" / name).read_bytes() == (tmp_path / "s3" / name).read_bytes()
    local, fetched = (tables.read_info(tmp_path / out) for out in ("local", "s3"))
    assert local.sources == fetched.sources
    # Remarks name the address that the user gave, not the copy that was read.
    assert [w.replace(str(tmp_path / "here"), f"s3://mcti-data/{layout}") for w in local.warnings] == list(
        fetched.warnings
    )


def test_canonical_columns_may_have_other_names(tmp_path):
    clinical = pd.DataFrame(
        {"id": ["a", "b"], "hospital": "x", "age": 50, "is_female": 1, "kind": "k", "months": [1, 2], "dead": [0, 1]}
    )
    clinical.to_csv(tmp_path / "clinical.csv", index=False)
    pd.DataFrame({"patient_id": ["a", "b"], "G": [1.0, 2.0]}).to_csv(tmp_path / "genes.csv", index=False)
    names = {"patient_id": "id", "site": "hospital", "subtype": "kind", "time_months": "months", "event": "dead"}
    params = IngestParams(columns=names)
    result = ingest(tmp_path / "clinical.csv", tmp_path / "genes.csv", None, params, tmp_path / "out")
    assert (result.patients, result.events) == (2, 1)
    assert tables.read_info(tmp_path / "out").covariates == ()
