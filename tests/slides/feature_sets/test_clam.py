"""Files as CLAM writes them: features and coordinates without attributes, the tiling in the folder `patches`."""

import h5py
import numpy as np
import pytest
import torch

from mcti.errors import DataError
from mcti.slides.feature_sets import clam

FEATURES = np.random.default_rng(2).normal(size=(5, 3)).astype(np.float32)
COORDS = np.array([[x * 1024, 2048] for x in range(5)], np.int32)
TILING = {"patch_size": 256, "patch_level": 1, "downsample": np.array([4.0, 4.0]), "name": "S1"}
TILING |= {"downsampled_level_dim": np.array([2560, 1920]), "level_dim": np.array([2560, 1920]), "save_path": "/home/u"}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "h5_files").mkdir()
    with h5py.File(tmp_path / "h5_files" / "S1.h5", "w") as h5:
        h5["features"], h5["coords"] = FEATURES, COORDS
    (tmp_path / "pt_files").mkdir()
    torch.save(torch.from_numpy(FEATURES), tmp_path / "pt_files" / "S1.pt")
    return tmp_path


def write_tiling(folder, coords=COORDS):
    folder.mkdir(parents=True)
    with h5py.File(folder / "S1.h5", "w") as h5:
        h5["coords"] = coords
        h5["coords"].attrs.update(TILING)
    return folder


def test_sizes_that_no_file_states_are_left_out(folder):
    (entry,) = clam.find(folder)  # one slide in two folders
    slide = entry.read(None)
    np.testing.assert_array_equal(slide.features, FEATURES)
    np.testing.assert_array_equal(slide.coords, COORDS)
    assert (slide.grid, slide.attributes) == ({}, {})


def test_the_tiling_states_the_sizes_in_level_0_pixels(folder, tmp_path):
    write_tiling(tmp_path / "run" / "patches")
    slide = clam.find(folder, tmp_path / "run" / "patches")[0].read(None)
    sizes = {name: slide.grid[name] for name in ("patch_size", "patch_size_level0", "level0_width", "level0_height")}
    # 256 px of level 1, each of 4 x 4 px of level 0
    assert sizes == {"patch_size": 256, "patch_size_level0": 1024, "level0_width": 10240, "level0_height": 7680}
    assert "save_path" not in slide.grid


def test_tensors_take_their_coordinates_from_the_tiling(folder):
    (folder / "h5_files" / "S1.h5").unlink()
    assert clam.find(folder)[0].read(None).coords is None
    write_tiling(folder / "patches")
    np.testing.assert_array_equal(clam.find(folder)[0].read(None).coords, COORDS)


def test_a_tiling_of_other_tiles_is_refused(folder):
    write_tiling(folder / "patches", COORDS[:4])
    with pytest.raises(DataError, match="other tiles than"):
        clam.find(folder)[0].read(None)


def test_the_folder_of_the_files_itself_can_be_given(folder):
    assert clam.find(folder / "h5_files")[0].read(None).coords is not None
    assert clam.find(folder / "pt_files")[0].read(None).coords is None
