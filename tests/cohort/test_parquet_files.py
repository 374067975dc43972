"""Source tables in Parquet."""

import numpy as np
import pandas as pd
import pytest

from mcti.cohort import parquet_files
from mcti.errors import DataError


def test_cells_are_text_and_whole_numbers_remain_whole(tmp_path):
    pd.DataFrame({"patient_id": ["a", "b"], "n": pd.array([1, None], "Int64")}).to_parquet(tmp_path / "t.parquet")
    table = parquet_files.read_table(tmp_path / "t.parquet", "t")
    assert table.frame["n"].tolist() == ["1", ""]
    assert table.rows == [1, 2]


def test_a_matrix_is_read_as_float32(tmp_path):
    pd.DataFrame({"G": [1.5, np.nan], "patient_id": ["a", "b"]}).to_parquet(tmp_path / "t.parquet")
    matrix = parquet_files.read_matrix(tmp_path / "t.parquet", "t", "patient_id")
    assert (matrix.ids, matrix.genes, matrix.values.dtype) == (["a", "b"], ["G"], np.float32)
    np.testing.assert_array_equal(matrix.values[:, 0], np.float32([1.5, np.nan]))


def test_text_genes_and_damaged_files_are_refused(tmp_path):
    pd.DataFrame({"patient_id": ["a"], "G": ["x"]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"column 'G' is of type .*, not a number"):
        parquet_files.read_matrix(tmp_path / "t.parquet", "t", "patient_id")
    (tmp_path / "t.parquet").write_bytes(b"PAR1 damaged")
    with pytest.raises(DataError, match="cannot be read"):
        parquet_files.read_table(tmp_path / "t.parquet", "t")
