"""The layout of the GDC portal. The expected rows were computed from the excerpts by the author of the test."""

import json

import numpy as np
import pytest

from mcti.cohort import tables
from mcti.errors import DataError, UsageError
from mcti.params import IngestParams
from mcti.steps.ingest import ingest
from tests.cohort.layout_files import GDC_CASES, SAMPLE_SHEET, patient_rows, star_file, write_files


def ingest_gdc(tmp_path, **settings):
    write_files(tmp_path, {"clinical.json": json.dumps(GDC_CASES), "star/gdc_sample_sheet.2026.tsv": SAMPLE_SHEET})
    write_files(tmp_path, {"star/id-1/a.tsv": star_file(2141, 5), "star/b.tsv": star_file(11, 0)})
    params = IngestParams(format="gdc", **{"expression_scale": "counts", **settings})
    return ingest(tmp_path / "clinical.json", tmp_path / "star", None, params, tmp_path / "out")


def test_cases_and_star_counts_are_read(tmp_path):
    result = ingest_gdc(tmp_path)
    assert patient_rows(tables.read_patients(tmp_path / "out").fillna({"age": -1.0})) == [
        ("TCGA-BH-A0B3", "BH", 52.999316, 1.0, "Infiltrating duct carcinoma, NOS", round(1203 / 30.4375, 6), 0),
        ("TCGA-D8-A1JG", "D8", -1.0, 0.0, "Lobular carcinoma, NOS", round(1612 / 30.4375, 6), 1),
    ]
    expression = tables.read_expression(tmp_path / "out")
    assert list(expression.columns) == ["TSPAN6", "TNMD"]
    np.testing.assert_array_equal(expression.to_numpy(), np.float32([[2141, 5], [11, 0]]))
    assert result.excluded == {"sample of normal tissue": 1}


def test_the_expression_scale_selects_the_column(tmp_path):
    ingest_gdc(tmp_path, expression_scale="log2")
    expression = tables.read_expression(tmp_path / "out").to_numpy()
    np.testing.assert_allclose(expression, [[2, 0], [2, 0]], rtol=1e-7)  # log2(3 + 1), log2(0 + 1)
    with pytest.raises(UsageError, match="STAR files have no z-score values"):
        ingest_gdc(tmp_path, expression_scale="z-score")
    with pytest.raises(UsageError, match="the GDC has no end point PFI"):
        ingest_gdc(tmp_path, endpoint="PFI")


def ingest_gdc_case(tmp_path, case, sheet=SAMPLE_SHEET):
    write_files(tmp_path, {"clinical.json": json.dumps([case, GDC_CASES[1]]), "star/gdc_sample_sheet.2026.tsv": sheet})
    write_files(tmp_path, {"star/id-1/a.tsv": star_file(2141, 5), "star/b.tsv": star_file(11, 0)})
    params = IngestParams(format="gdc", expression_scale="counts")
    ingest(tmp_path / "clinical.json", tmp_path / "star", None, params, tmp_path / "out")
    return patient_rows(tables.read_patients(tmp_path / "out"))


NEWER_CASE = {
    "submitter_id": "TCGA-BH-A0B3",
    "demographic": {"gender": "female", "vital_status": "Alive", "age_at_index": 45},
    "diagnoses": [
        {"primary_diagnosis": "Metastasis", "classification_of_tumor": "metastasis", "age_at_diagnosis": 17000},
        {"primary_diagnosis": "Lobular carcinoma, NOS", "classification_of_tumor": "primary", "treatments": [{}]},
    ],
    "follow_ups": [{"days_to_follow_up": 2140}, {"days_to_follow_up": None}, {"days_to_follow_up": 1067}],
    "exposures": [{"alcohol_history": "Not Reported"}],
}


def test_newer_releases_give_the_primary_diagnosis_and_the_last_visit(tmp_path):
    """No site, no last follow-up, no age at diagnosis; a slide in the sample sheet."""
    sheet = SAMPLE_SHEET.replace("Project ID", "Data Type\tProject ID", 1)
    sheet = sheet.replace("\tTCGA-BRCA", "\tGene Expression Quantification\tTCGA-BRCA")
    sheet += "id-4\tx.svs\tBiospecimen\tSlide Image\tTCGA-BRCA\tTCGA-BH-A0B3\tTCGA-BH-A0B3-01A\tPrimary Tumor\n"
    assert ingest_gdc_case(tmp_path, NEWER_CASE, sheet)[0] == (
        "TCGA-BH-A0B3", "BH", 45.0, 1.0, "Lobular carcinoma, NOS", round(2140 / 30.4375, 6), 0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"diagnoses": "none"}, "diagnoses is 'none', not a list of mappings .*case 1"),
        ({"demographic": ["x"]}, "demographic is .*, not a mapping"),
        ({"follow_ups": [{"days_to_follow_up": "late"}]}, "days_to_follow_up is 'late', not a number .*case 1"),
        ({"submitter_id": "../x"}, "patient_id '../x' is not well formed"),
    ],
)
def test_invalid_cases_are_refused(tmp_path, change, words):
    with pytest.raises(DataError, match=words):
        ingest_gdc_case(tmp_path, {**NEWER_CASE, **change})


@pytest.mark.parametrize(
    ("name", "words"),
    [("../../secret.tsv", "is outside its folder"), ("lost.tsv", "of the sample sheet is missing")],
)
def test_only_files_below_the_folder_of_the_sheet_are_read(tmp_path, name, words):
    write_files(tmp_path, {"secret.tsv": star_file(1, 1)})
    with pytest.raises(DataError, match=words):
        ingest_gdc_case(tmp_path, NEWER_CASE, SAMPLE_SHEET.replace("\ta.tsv", f"\t{name}"))


def test_patients_without_reported_values_are_excluded_with_the_reason(tmp_path):
    unreported = {
        "submitter_id": "TCGA-BH-A0B3",
        "demographic": {"gender": "not reported", "vital_status": "Not Reported"},
    }
    assert [row[0] for row in ingest_gdc_case(tmp_path, unreported)] == ["TCGA-D8-A1JG"]
    attrition = tables.read_info(tmp_path / "out").attrition
    assert ("TCGA-BH-A0B3", "no follow-up") in {(patient.patient_id, patient.reason) for patient in attrition}


CPTAC = [
    {
        "submitter_id": name,
        "tissue_source_site": {"code": "S"},
        "demographic": {"gender": "female", "vital_status": "Alive", "age_at_index": 60},
        "diagnoses": [{"primary_diagnosis": "Adenocarcinoma, NOS", "days_to_last_follow_up": 600}],
    }
    for name in ("C3L-00001", "C3L-00002", "C3L-00003")
]
"""Ids from which the tissue cannot be derived; normal samples sort before tumours."""


def ingest_cptac(tmp_path, tissue_columns, cases=CPTAC, **settings):
    """Ingest five samples; `tissue_columns`: header, then the cells of each sample. TSPAN6 counts the row."""
    header, *cells = tissue_columns
    samples = [
        ("C3L-00001", "-01"),
        ("C3L-00001", "-02"),
        ("C3L-00002", "-03"),
        ("C3L-00002", "-01"),
        ("C3L-00003", "-01"),
    ]
    lines = [f"File ID\tFile Name\tCase ID\tSample ID\t{header}"]
    for row, ((case, end), words) in enumerate(zip(samples, cells, strict=True), start=1):
        lines.append(f"id-{row}\t{row}.tsv\t{case}\t{case}{end}\t{words}")
        write_files(tmp_path, {f"star/{row}.tsv": star_file(row, 0)})
    write_files(tmp_path, {"clinical.json": json.dumps(cases), "star/gdc_sample_sheet.tsv": "\n".join(lines) + "\n"})
    params = IngestParams(format="gdc", expression_scale="counts", **settings)
    return ingest(tmp_path / "clinical.json", tmp_path / "star", None, params, tmp_path / "out")


@pytest.mark.parametrize(
    "tissue_columns",
    [
        ("Tissue Type", "Normal", "Tumor", "Tumor", "Normal", "Normal"),
        ("Sample Type", "Solid Tissue Normal", "Primary Tumor", "Primary Tumor", "Blood Derived Normal",
         "Buccal Cell Normal"),
        ("Tissue Type\tTumor Descriptor\tSample Type", "Normal\tNot Applicable\tx", "Tumor\tPrimary\tx",
         "Tumor\tPrimary\tx", "Peritumoral\tNot Applicable\tx", "Normal\tNot Applicable\tPrimary Tumor"),
    ],
)  # fmt: skip
def test_the_tissue_comes_from_the_sample_sheet(tmp_path, tissue_columns):
    result = ingest_cptac(tmp_path, tissue_columns)
    expression = tables.read_expression(tmp_path / "out")
    assert expression["TSPAN6"].to_dict() == {"C3L-00001": 2.0, "C3L-00002": 3.0}
    assert result.excluded == {"no genes": 1, "sample of normal tissue": 3}
    listed = {
        patient.patient_id for patient in tables.read_info(tmp_path / "out").attrition if "normal" in patient.reason
    }
    assert listed == {"C3L-00001-01", "C3L-00002-01", "C3L-00003-01"}


def test_a_metastasis_is_selected_only_where_there_is_no_primary_tumour(tmp_path):
    tissue_columns = ("Sample Type", "Metastatic", "Primary Tumor", "Primary Tumor", "Recurrent Tumor", "Metastatic")
    result = ingest_cptac(tmp_path, tissue_columns)
    assert tables.read_expression(tmp_path / "out")["TSPAN6"].tolist() == [2.0, 3.0, 5.0]
    assert result.excluded == {"duplicate sample": 2}


def test_the_genes_with_the_name_of_an_earlier_gene_are_counted(tmp_path):
    """TNMD is twice in each file; tests/project/test_init.py reads files without such genes."""
    result = ingest_cptac(tmp_path, ("Tissue Type", *["Tumor"] * 5))
    assert any(text.endswith("genes with the name of an earlier gene are left out: 1") for text in result.warnings)


def test_contradictions_of_status_and_dates_are_listed(tmp_path):
    """One patient is alive with a date of death, one dead without, one dead and followed up after death."""
    alive, dateless, followed = (json.loads(json.dumps(case)) for case in CPTAC)
    alive["demographic"] |= {"days_to_death": 500}
    dateless["demographic"] |= {"vital_status": "Dead"}
    followed["demographic"] |= {"vital_status": "Dead", "days_to_death": 365.25}
    result = ingest_cptac(tmp_path, ("Tissue Type", *["Tumor"] * 5), [alive, dateless, followed])
    assert patient_rows(tables.read_patients(tmp_path / "out"))[0][5:] == (12.0, 1)
    assert result.excluded == {"contradictory status and dates": 2, "duplicate sample": 2}
    for words in ("Alive with days_to_death 500: C3L-00001", "Dead without days_to_death: C3L-00002",
                  "followed up after death (days_to_death is taken): C3L-00003"):  # fmt: skip
        assert any(warning.endswith(words) for warning in result.warnings), words


def test_a_cart_without_tumour_samples_or_with_a_file_of_two_cases_is_refused(tmp_path):
    with pytest.raises(DataError, match="every sample is of normal tissue"):
        ingest_cptac(tmp_path, ("Tissue Type", *["Normal"] * 5))
    sheet = (tmp_path / "star/gdc_sample_sheet.tsv").read_text()
    two = sheet.replace("C3L-00001\tC3L-00001-01", "C3L-00001, C3L-00002\tC3L-00001-01, C3L-00002-01")
    write_files(tmp_path, {"star/gdc_sample_sheet.tsv": two})
    with pytest.raises(DataError, match=r"belongs to 2 cases .*row 2"):
        ingest(tmp_path / "clinical.json", tmp_path / "star", None,
               IngestParams(format="gdc", expression_scale="counts"), tmp_path / "out")  # fmt: skip


def test_masked_ages_are_mapped_by_the_settings(tmp_path):
    cases = json.loads(json.dumps(CPTAC))
    cases[0]["demographic"]["age_at_index"] = ">89"
    cases[1]["diagnoses"][0]["age_at_diagnosis"] = "<18"
    ingest_cptac(tmp_path, ("Tissue Type", *["Tumor"] * 5), cases, age_values={">89": 90, "<18": 17})
    assert tables.read_patients(tmp_path / "out")["age"].tolist() == [90.0, 17.0, 60.0]
