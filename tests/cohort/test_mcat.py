"""The MCAT layout. The expected rows were computed from the excerpt by the author of the test."""

import numpy as np
import pytest

from mcti.cohort import tables
from mcti.errors import DataError
from mcti.params import IngestParams
from mcti.steps.ingest import ingest
from tests.cohort.layout_files import MCAT, patient_rows, write_files


def test_censorship_becomes_event_and_each_patient_has_one_row(tmp_path):
    write_files(tmp_path, {"all.csv": MCAT})
    params = IngestParams(name="x", format="mcat", expression_scale="z-score")
    result = ingest(tmp_path / "all.csv", tmp_path / "all.csv", None, params, tmp_path / "out")
    assert (result.patients, result.events, result.genes, result.slides) == (2, 1, 3, 3)
    patients = tables.read_patients(tmp_path / "out")
    assert patient_rows(patients.fillna({"age": -1.0})) == [
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
def test_invalid_mcat_tables_are_refused(tmp_path, old, new, words):
    assert old in MCAT
    write_files(tmp_path, {"all.csv": MCAT.replace(old, new, 1)})
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
def test_time_and_event_come_from_the_columns_of_the_endpoint(tmp_path, settings, outcome):
    write_files(tmp_path, {"all.csv": SURVPATH})
    ingest(tmp_path / "all.csv", tmp_path / "all.csv", None, IngestParams(format="mcat", **settings), tmp_path / "out")
    assert [row[-2:] for row in patient_rows(tables.read_patients(tmp_path / "out"))] == outcome


def test_an_endpoint_that_the_table_does_not_have_is_refused(tmp_path):
    write_files(tmp_path, {"all.csv": SURVPATH})
    params = IngestParams(format="mcat", endpoint="PFI")
    with pytest.raises(DataError, match=r"'censorship_pfi' is missing .*: end points of this table: OS, DSS"):
        ingest(tmp_path / "all.csv", tmp_path / "all.csv", None, params, tmp_path / "out")
