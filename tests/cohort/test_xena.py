"""The UCSC Xena layout. The expected rows were computed from the excerpts by the author of the test."""

import numpy as np
import pytest

from mcti.cohort import tables
from mcti.errors import DataError
from mcti.params import IngestParams
from mcti.steps.ingest import ingest
from tests.cohort.layout_files import XENA, patient_rows, write_files


def test_days_are_converted_and_normal_tissue_is_excluded(tmp_path):
    write_files(tmp_path, XENA)
    params = IngestParams(name="BRCA", format="xena", expression_scale="log2")
    result = ingest(tmp_path / "clinical", tmp_path / "HiSeqV2", None, params, tmp_path / "out")
    assert patient_rows(tables.read_patients(tmp_path / "out")) == [
        ("TCGA-3C-AAAU", "3C", 55.0, 1.0, "Infiltrating Lobular Carcinoma", round(4047 / 30.4375, 6), 0),
        ("TCGA-3C-AALI", "3C", 50.0, 0.0, "Infiltrating Ductal Carcinoma", 12.0, 1),
    ]
    np.testing.assert_array_equal(
        tables.read_expression(tmp_path / "out").to_numpy(), np.float32([[8.5, 3.75], [9.25, 2.5]])
    )
    assert result.excluded == {"sample of normal tissue": 1}


def test_a_missing_site_comes_from_the_barcode_and_redacted_patients_are_excluded(tmp_path):
    phenotype, survival = XENA["clinical/BRCA_clinicalMatrix"], XENA["clinical/BRCA_survival.txt"]
    redaction = dict(zip(survival.splitlines(), ("Redaction", "", "Redacted", "Redacted"), strict=True))
    files = {
        **XENA,
        "clinical/BRCA_clinicalMatrix": phenotype.replace("Lobular Carcinoma\t3C", "Lobular Carcinoma\t"),
        "clinical/BRCA_survival.txt": "".join(f"{line}\t{word}\n" for line, word in redaction.items()),
    }
    write_files(tmp_path, files)
    params = IngestParams(name="BRCA", format="xena", endpoint="PFI")
    result = ingest(tmp_path / "clinical", tmp_path / "HiSeqV2", None, params, tmp_path / "out")
    assert patient_rows(tables.read_patients(tmp_path / "out")) == [
        ("TCGA-3C-AAAU", "3C", 55.0, 1.0, "Infiltrating Lobular Carcinoma", round(1808 / 30.4375, 6), 1)
    ]
    assert result.excluded == {"redacted by the source": 1, "sample of normal tissue": 1}


def test_a_missing_survival_file_is_named(tmp_path):
    write_files(tmp_path, {name: text for name, text in XENA.items() if "survival" not in name})
    with pytest.raises(DataError, match="0 files have 'survival' in their name"):
        ingest(tmp_path / "clinical", tmp_path / "HiSeqV2", None, IngestParams(format="xena"), tmp_path / "out")


def test_the_tissue_comes_from_the_phenotype_matrix(tmp_path):
    files = {
        "clinical/clinicalMatrix": (
            "sampleID\tsample_type\tage_at_initial_pathologic_diagnosis\tgender\thistological_type\ttissue_source_site\n"
            "P1-A\tSolid Tissue Normal\t50\tMALE\tnone\tX\nP1-B\tPrimary Tumor\t50\tMALE\tIDC\tX\n"
        ),
        "clinical/survival": "sample\t_PATIENT\tOS\tOS.time\nP1-A\tP1\t0\t365.25\nP1-B\tP1\t0\t365.25\n",
        "HiSeqV2": "sample\tP1-A\tP1-B\nTP53\t1\t2\n",
    }
    write_files(tmp_path, files)
    result = ingest(tmp_path / "clinical", tmp_path / "HiSeqV2", None, IngestParams(format="xena"), tmp_path / "out")
    assert tables.read_expression(tmp_path / "out")["TP53"].tolist() == [2.0]
    assert tables.read_patients(tmp_path / "out")["subtype"].tolist() == ["IDC"]
    assert result.excluded == {"sample of normal tissue": 1}
