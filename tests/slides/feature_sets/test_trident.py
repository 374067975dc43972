"""Files as TRIDENT 0.3 writes them (trident/IO.py save_h5, wsi_objects/WSI.py), read back with h5py as the oracle."""

import h5py
import numpy as np
import pytest
import torch

from mcti.errors import DataError
from mcti.slides.feature_sets import trident

RNG = np.random.default_rng(1)
PATCHES = RNG.normal(size=(6, 4)).astype(np.float32)
COORDS = np.array([[x * 512, 0] for x in range(6)])
GRID = {"patch_size": 256, "patch_size_level0": 512, "level0_magnification": 40, "target_magnification": 20}
GRID |= {"overlap": 0, "name": "S1", "savetodir": "/data/job", "level0_width": 9000, "level0_height": 8000}


def write(file, values, coords=COORDS, encoder=None):
    """`save_h5`: chunks of one row; None becomes the text None."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(file, "w") as h5:
        for name, data in (("features", values), ("coords", coords)):
            h5.create_dataset(name, data=data, maxshape=(None, *data.shape[1:]), chunks=(1, *data.shape[1:]))
        h5["features"].attrs.update({"name": "S1", "savetodir": "/data/job", "encoder": encoder or "None"})
        h5["coords"].attrs.update(GRID)
    return file


def test_patch_features_with_the_encoder_of_their_attribute(tmp_path):
    write(tmp_path / "features_x" / "S1.h5", PATCHES, encoder="uni_v2")
    (entry,) = trident.find(tmp_path)  # the job folder
    slide = entry.read(None)
    np.testing.assert_array_equal(slide.features, PATCHES)
    np.testing.assert_array_equal(slide.coords, COORDS)
    assert (slide.slide_id, slide.level) == ("S1", "patch")
    assert slide.attributes == {"encoder": "uni_v2", "target_mpp": 0.5}  # 20x
    assert slide.grid == {name: value for name, value in GRID.items() if name != "savetodir"}


def test_slide_features_are_one_vector_without_the_coordinates_of_the_patches(tmp_path):
    vector = RNG.normal(size=768).astype(np.float32)
    write(tmp_path / "20x_512px_0px_overlap" / "slide_features_titan" / "S1.h5", vector)
    (entry,) = trident.find(tmp_path)
    slide = entry.read(None)
    np.testing.assert_array_equal(slide.features, vector[None])
    assert (slide.level, slide.coords, slide.attributes) == ("slide", None, {"encoder": "titan"})


def test_slide_features_of_one_row_are_found_by_the_coordinates_of_many_patches(tmp_path):
    write(tmp_path / "S1.h5", PATCHES[:1])
    assert trident.find(tmp_path)[0].read(None).level == "slide"
    write(tmp_path / "S1.h5", PATCHES[:1], COORDS[:1])
    assert trident.find(tmp_path)[0].read(None).level == "patch"


def test_features_saved_as_pt_have_the_encoder_of_their_folder(tmp_path):
    folder = tmp_path / "features_conch_v15"
    folder.mkdir()
    torch.save(torch.from_numpy(PATCHES), folder / "S1.pt")
    slide = trident.find(folder)[0].read(None)
    np.testing.assert_array_equal(slide.features, PATCHES)
    assert (slide.attributes, slide.coords) == ({"encoder": "conch_v15"}, None)


def test_a_job_folder_with_two_sets_is_refused_by_name(tmp_path):
    write(tmp_path / "features_uni" / "S1.h5", PATCHES)
    write(tmp_path / "slide_features_titan" / "S1.h5", PATCHES[0])
    with pytest.raises(DataError, match="2 sets of features: slide_features_titan, features_uni"):
        trident.find(tmp_path)
