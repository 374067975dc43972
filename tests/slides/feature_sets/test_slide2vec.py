"""Files as slide2vec 7.1.4 (artifacts.py) and hs2p 6.1.0 (tiling/io.py) write them."""

import json

import numpy as np
import pytest
import torch

from mcti.errors import DataError
from mcti.slides.feature_sets import slide2vec

FEATURES = torch.from_numpy(np.random.default_rng(4).normal(size=(3, 4)).astype(np.float16))
X, Y = np.array([0, 0, 448]), np.array([0, 448, 0])
META = {"encoder_name": "uni2", "encoder_level": "tile", "tile_size_lv0": 448, "requested_tile_size_px": 224}
META |= {"requested_spacing_um": 0.5, "read_tile_size_px": 224, "mask_path": None, "image_path": "/slides/S1.svs"}
TILING = {"slide": {"dimensions": [9000, 8000], "base_spacing_um": 0.25}, "tiling": {"tile_size_lv0": 448}}


def write(folder, name, values, meta, suffix=".pt"):
    folder.mkdir(parents=True, exist_ok=True)
    if suffix == ".pt":
        torch.save(values, folder / f"{name}.pt")
    else:
        np.savez_compressed(folder / f"{name}.npz", features=values.numpy(), tile_index=np.arange(len(values)))
    (folder / f"{name}.meta.json").write_text(json.dumps(meta))


def write_tiles(folder):
    folder.mkdir(parents=True)
    np.savez_compressed(folder / "S1.coordinates.npz", tile_index=np.arange(3, dtype=np.int32), x=X, y=Y)
    (folder / "S1.coordinates.meta.json").write_text(json.dumps(TILING))
    return folder


@pytest.mark.parametrize("suffix", [".pt", ".npz"])
def test_tiles_with_the_corners_of_hs2p(tmp_path, suffix):
    write(tmp_path / "tile_embeddings", "S1", FEATURES, META, suffix)
    write_tiles(tmp_path / "tiles")
    (entry,) = slide2vec.find(tmp_path)
    slide = entry.read(None)
    np.testing.assert_array_equal(slide.features, FEATURES.numpy())
    np.testing.assert_array_equal(slide.coords, np.stack([X, Y], 1))
    sizes = {"patch_size": 224, "patch_size_level0": 448, "level0_width": 9000, "level0_height": 8000}
    assert (slide.level, slide.grid) == ("patch", sizes)
    expected = {"encoder": "uni2", "target_mpp": 0.5, "mpp_x": 0.25, "mpp_y": 0.25, "mpp_source": "slide2vec"}
    assert slide.attributes == expected


def test_tiles_without_their_corners_have_no_coordinates(tmp_path):
    write(tmp_path / "tile_embeddings", "S1", FEATURES, META)
    slide = slide2vec.find(tmp_path / "tile_embeddings")[0].read(None)
    assert (slide.coords, slide.grid["patch_size_level0"]) == (None, 448)
    other = write_tiles(tmp_path / "elsewhere")
    write(tmp_path / "tile_embeddings", "S1", FEATURES[:2], META)
    with pytest.raises(DataError, match="2 rows of features, 3 tiles"):
        slide2vec.find(tmp_path, other)[0].read(None)


@pytest.mark.parametrize(("folder", "level"), [("slide_embeddings", "slide"), ("patient_embeddings", "patient")])
def test_embeddings_of_slides_and_patients(tmp_path, folder, level):
    write(tmp_path / folder, "A", FEATURES[0], {"encoder_name": "prism", "artifact_type": folder})
    slide = slide2vec.find(tmp_path)[0].read(None)
    np.testing.assert_array_equal(slide.features, FEATURES[:1].numpy())
    assert (slide.level, slide.attributes) == (level, {"encoder": "prism"})


def test_a_run_with_tiles_and_slides_is_refused_by_name(tmp_path):
    write(tmp_path / "tile_embeddings", "S1", FEATURES, META)
    write(tmp_path / "slide_embeddings", "S1", FEATURES[0], META)
    with pytest.raises(DataError, match="2 sets of features"):
        slide2vec.find(tmp_path)
