"""The local feature store; the store on S3 is tested in tests/steps/test_extract_s3.py."""

import numpy as np
import pytest

from mcti.slides import features
from mcti.slides.feature_store import FeatureStore, feature_path, mask_path, open_store, preview_path
from mcti.slides.features import TileBlock


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path / "store", "", None)


def write(store, key):
    block = TileBlock(
        np.ones((3, 2), np.float32), np.zeros((3, 2), int), np.ones(3, np.float32), np.zeros((0, 2), int), 0
    )
    root = {"schema_version": features.SCHEMA_VERSION, "key": key, "mpp_x": 0.5, "mpp_source": "tiff-tags"}
    grid = {"level0_width": 10, "level0_height": 20}
    features.write(feature_path(store.folder, "A"), [block], 2, "float32", root | {"reader": "tiff"}, grid)
    for path in (preview_path(store.folder, "A"), mask_path(store.folder, "A")):
        path.parent.mkdir(exist_ok=True)
        path.touch()


def test_key_and_info_are_those_of_the_feature_file(store):
    assert (store.read_info("A"), store.read_key("A"), store.has_pictures("A")) == (None, "", False)
    write(store, "k")
    info = store.read_info("A")
    assert (info.key, info.tiles, info.width, info.height, info.is_imported) == ("k", 3, 10, 20, False)
    assert (store.read_key("A"), store.has_pictures("A")) == ("k", True)


@pytest.mark.parametrize(("key", "names"), [("k", []), ("imported from pt", ["A.h5"])])
def test_removing_a_slide_keeps_imported_features(store, key, names):
    write(store, key)
    store.remove_slide("A")
    assert [path.name for path in store.folder.rglob("*") if path.is_file()] == names


def test_the_location_of_a_file_is_its_path(store):
    assert isinstance(store, FeatureStore)
    assert store.location("slides.csv") == str(store.folder / "slides.csv")
