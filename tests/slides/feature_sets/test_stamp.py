"""Files as STAMP writes them: tiles since 2.0, embeddings since 2.2 one file each, before in one file."""

import h5py
import numpy as np
import pytest

from mcti.errors import DataError
from mcti.slides.feature_sets import stamp
from mcti.slides.portable import MissingMpp

FEATS = np.random.default_rng(3).normal(size=(4, 5)).astype(np.float16)
CORNERS = np.array([[0, 0], [256, 0], [0, 256], [512, 768]], np.float32)  # µm


def write(file, attributes, **tables):
    file.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(file, "w") as h5:
        for name, values in tables.items():
            h5[name] = values
        h5.attrs.update(attributes)
    return file


def test_tiles_get_the_pixels_of_their_own_scanner(tmp_path):
    attributes = {"stamp_version": "2.5.0", "extractor": "virchow2", "unit": "um", "tile_size_um": 256.0}
    attributes |= {"tile_size_px": 224, "code_hash": "abcd1234", "feat_type": "tile"}
    write(tmp_path / "site" / "S1.h5", attributes, feats=FEATS, coords=CORNERS)
    (entry,) = stamp.find(tmp_path)  # STAMP keeps the folders of the slides
    for mpp in (0.25, 0.5):
        slide = entry.read(mpp)
        np.testing.assert_array_equal(slide.features, FEATS)
        np.testing.assert_array_equal(slide.coords, CORNERS / mpp)
        assert slide.grid == {"patch_size": 224, "patch_size_level0": 256 / mpp}
        assert slide.attributes["encoder"] == "virchow2"
        assert slide.attributes["target_mpp"] == pytest.approx(256 / 224)
    with pytest.raises(MissingMpp, match="mpp is not known"):
        entry.read(None)


def test_release_2_0_names_the_tile_size_without_its_unit(tmp_path):
    write(tmp_path / "S1.h5", {"unit": "um", "tile_size": 256.0, "extractor": "uni"}, feats=FEATS, coords=CORNERS)
    assert stamp.find(tmp_path)[0].read(0.5).grid == {"patch_size_level0": 512}


def test_release_1_is_refused_since_its_coordinates_have_another_unit(tmp_path):
    write(tmp_path / "S1.h5", {"extractor": "ctranspath"}, feats=FEATS, coords=CORNERS)
    with pytest.raises(DataError, match="not 'um'"):
        stamp.find(tmp_path)[0].read(0.5)


@pytest.mark.parametrize("level", ["slide", "patient"])
@pytest.mark.parametrize("shape", [(5,), (1, 5)])
def test_embeddings_are_one_vector(tmp_path, level, shape):
    attributes = {"version": "2.5.0", "encoder": "titan", "precision": "torch.float32", "feat_type": level}
    write(tmp_path / "A.h5", attributes, feats=FEATS[0].astype(np.float32).reshape(shape))
    slide = stamp.find(tmp_path)[0].read(None)
    np.testing.assert_array_equal(slide.features, FEATS[:1].astype(np.float32))
    assert (slide.level, slide.coords, slide.attributes["encoder"]) == (level, None, "titan")


def test_one_file_with_all_slides_of_earlier_releases(tmp_path):
    file = write(tmp_path / "chief-slide-1a2b.h5", {"encoder": "chief"}, S2=FEATS[1], S1=FEATS[0])
    for source in (file, tmp_path):
        entries = stamp.find(source)
        assert [entry.name for entry in entries] == ["S1", "S2"]
        np.testing.assert_array_equal(entries[1].read(None).features, FEATS[1:2])
        assert entries[0].read(None).attributes == {"encoder": "chief"}
