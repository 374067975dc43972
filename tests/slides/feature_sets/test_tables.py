"""Parquet tables written by pyarrow: one row per slide or patient, as lists or as columns."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mcti.errors import DataError
from mcti.slides.feature_sets import tables

ROWS = np.random.default_rng(6).normal(size=(3, 4)).astype(np.float32)


def test_lists_by_slide_with_their_patients(tmp_path):
    lists = pa.array(list(ROWS), pa.list_(pa.float32()))
    table = pa.table({"slide_id": ["S1", "S2", "S3"], "patient_id": ["P1", "P1", "P2"], "embedding": lists})
    pq.write_table(table, tmp_path / "prism.parquet")
    entries = tables.find(tmp_path / "prism.parquet")
    assert [(e.name, e.patient_id) for e in entries] == [("S1", "P1"), ("S2", "P1"), ("S3", "P2")]
    np.testing.assert_array_equal(entries[2].read(None).features, ROWS[2:])
    assert entries[0].read(None).level == "slide"


@pytest.mark.parametrize("dtype", [pa.float32(), pa.float16(), pa.float64()])
def test_one_column_per_feature_by_patient(tmp_path, dtype):
    columns = {str(i): pa.array(ROWS[:, i].astype(dtype.to_pandas_dtype()), dtype) for i in range(4)}
    pq.write_table(pa.table({"patient_id": ["P1", "P2", "P3"], **columns}), tmp_path / "chief.parquet")
    entries = tables.find(tmp_path)
    np.testing.assert_allclose(entries[1].read(None).features[0], ROWS[1], atol=2e-3)  # float16: 11 bits
    assert entries[1].read(None).level == "patient"


def test_one_file_a_slide_with_its_corners(tmp_path):
    for name in ("S1", "S2"):
        columns = {"x": [0, 512, 1024], "y": [0, 0, 0]} | {f"f{i}": ROWS[:, i] for i in range(4)}
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    slide = tables.find(tmp_path)[0].read(None)
    np.testing.assert_array_equal(slide.features, ROWS)
    np.testing.assert_array_equal(slide.coords, [[0, 0], [512, 0], [1024, 0]])


def test_a_table_without_ids_and_a_broken_table_are_refused(tmp_path):
    pq.write_table(pa.table({"f0": ROWS[:, 0]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="no column slide_id or patient_id"):
        tables.find(tmp_path / "a.parquet")
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="not a table"):
        tables.find(tmp_path / "a.parquet")


def test_ids_in_the_index_of_a_data_frame(tmp_path):
    pd.DataFrame(ROWS, index=["S1", "S2", "S3"]).rename(columns=str).to_parquet(tmp_path / "a.parquet")
    pd.DataFrame(ROWS, index=pd.Index(["P1", "P2", "P3"], name="case_id")).rename(columns=str).to_parquet(
        tmp_path / "b.parquet"
    )
    assert [entry.name for entry in tables.find(tmp_path / "a.parquet")] == ["S1", "S2", "S3"]
    second = tables.find(tmp_path / "b.parquet")[1].read(None)
    np.testing.assert_array_equal(second.features, ROWS[1:2])
    assert (second.slide_id, second.level) == ("P2", "patient")


def test_a_csv_table_keeps_columns_of_whole_numbers(tmp_path):
    (tmp_path / "a.csv").write_text("slide_id,f0,f1\n007,0,1.5\n008,0,2.5\n")
    entries = tables.find(tmp_path / "a.csv")
    assert [entry.name for entry in entries] == ["007", "008"]
    np.testing.assert_array_equal(entries[1].read(None).features, [[0, 2.5]])
