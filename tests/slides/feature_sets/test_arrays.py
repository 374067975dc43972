"""Arrays of files without pickle."""

import numpy as np
import pytest
import torch

from mcti.errors import DataError
from mcti.slides.feature_sets import arrays


def test_the_arrays_of_nested_mappings(tmp_path):
    torch.save({"S1": {"features": torch.ones(2)}, "note": "x", "names": ["a", "b"]}, tmp_path / "set.pt")
    read = arrays.read_arrays(tmp_path / "set.pt")
    assert sorted(read) == ["S1", "names"]
    np.testing.assert_array_equal(read["S1"], [1, 1])
    assert arrays.texts(read["names"]) == ["a", "b"]


@pytest.mark.parametrize("name", ["a.pt", "a.npy", "a.npz", "a.h5"])
def test_broken_files_are_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"broken")
    with pytest.raises(DataError, match=name.replace(".", r"\.")):
        arrays.read_arrays(tmp_path / name)


def test_pickle_files_are_refused_with_the_way_out(tmp_path):
    (tmp_path / "TCGA_features.pkl").write_bytes(b"x")
    with pytest.raises(DataError, match=r"a pickle file.*convert it to \.npz or Parquet"):
        arrays.read_arrays(tmp_path / "TCGA_features.pkl")
