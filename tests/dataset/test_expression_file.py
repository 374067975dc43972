import numpy as np
import pytest

from mcti.dataset.expression_file import ExpressionFile


def test_blocks_are_joined_and_read_without_a_copy(tmp_path):
    values = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    values[2, 1] = np.nan
    blocks = [(["a", "b"], values[:2]), (["c", "d", "e", "f", "g"], values[2:])]
    ExpressionFile.write(tmp_path / "x", ["G1", "G2", "G3"], iter(blocks))
    file = ExpressionFile.read(tmp_path / "x")
    assert (file.ids, file.genes) == (tuple("abcdefg"), ("G1", "G2", "G3"))
    np.testing.assert_array_equal(file.values, values)
    assert isinstance(file.values, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        file.values[0, 0] = 1


def test_columns_in_another_order_of_memory_keep_their_rows(tmp_path):
    values = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    ExpressionFile.write(tmp_path / "x", ["G1", "G2", "G3"], [(["a", "b"], values)])
    assert ExpressionFile.read(tmp_path / "x").values.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_a_table_without_genes_has_its_patients(tmp_path):
    ExpressionFile.write(tmp_path / "x", [], [(["a", "b"], np.empty((2, 0), dtype=np.float32))])
    assert ExpressionFile.read(tmp_path / "x").values.shape == (2, 0)
