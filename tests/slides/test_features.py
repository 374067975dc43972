"""Feature files: standard names, deterministic bytes, keys that depend on every setting."""

import h5py
import numpy as np
import pytest

from mcti.errors import DataError
from mcti.params import ExtractParams, TissueParams
from mcti.slides import features, tile_blocks
from mcti.slides.encoder_protocol import EncoderIdentity
from mcti.slides.hed44 import Hed44Encoder
from mcti.slides.manifest import SlideRow

from .conftest import extract_one

ENCODER = Hed44Encoder()


@pytest.fixture(scope="module")
def feature_file(painted_once, tmp_path_factory):
    out = tmp_path_factory.mktemp("features")
    outcome = extract_one(SlideRow("P", "P1", str(painted_once)), ExtractParams(), ENCODER, out)
    assert outcome.status == "OK", outcome
    return out / "P1.h5"


def test_the_file_has_the_names_that_tridents_readers_expect(feature_file):
    """Names from TRIDENT 0.3.1's readers, as its version 0.3.1 requires."""
    with h5py.File(feature_file) as file:
        coords, numbers = file["coords"][:], file["features"]
        attributes = dict(file["coords"].attrs)
        assert numbers.shape == (len(coords), 44)
        assert (numbers.dtype, coords.dtype) == (np.float32, np.int64)
        assert numbers.chunks[0] >= 256
        assert file["tissue_fraction"].shape == (len(coords),)
    assert (np.lexsort((coords[:, 0], coords[:, 1])) == np.arange(len(coords))).all()
    expected = {
        "patch_size": 256,
        "patch_size_level0": 256,
        "level0_magnification": 20,
        "target_magnification": 20,
        "overlap": 0,
        "level0_width": 2048,
        "level0_height": 2048,
        "name": "P1",
    }
    assert attributes == expected


def test_the_file_attributes_state_the_provenance(feature_file):
    with h5py.File(feature_file) as file:
        root = dict(file.attrs)
        kept = len(file["features"])
    assert root["schema_version"] == features.SCHEMA_VERSION
    assert (root["mpp_x"], root["mpp_source"], root["target_mpp"]) == (0.5, "aperio", 0.5)
    assert root["encoder"] == "hed44"
    assert root["tiles_kept"] == kept == root["tiles_candidate"] - root["tiles_failed"] - root["tiles_blurred"]
    assert len(root["slide_content_id"]) == 64


def test_a_second_run_and_any_number_of_threads_give_the_same_bytes(feature_file, painted_once, tmp_path):
    for threads in (1, 3):
        extract_one(SlideRow("P", "P1", str(painted_once)), ExtractParams(), ENCODER, tmp_path, threads)
        assert (tmp_path / "P1.h5").read_bytes() == feature_file.read_bytes()
        (tmp_path / "P1.h5").unlink()


def test_several_blocks_give_the_bytes_of_one_and_finished_blocks_survive_a_kill(
    feature_file, painted_once, tmp_path, monkeypatch
):
    monkeypatch.setattr(tile_blocks, "_BLOCK", 64)  # a multiple of the batch
    monkeypatch.setattr(tile_blocks, "_BATCH", 16)
    whole = tmp_path / "whole"
    row = SlideRow("P", "P1", str(painted_once))
    params = ExtractParams(tile=128)

    class Killed(KeyboardInterrupt):
        pass

    class Dying(Hed44Encoder):
        calls = 0

        def encode(self, tiles):
            Dying.calls += 1
            if Dying.calls > 5:
                raise Killed
            return super().encode(tiles)

    with pytest.raises(Killed):
        extract_one(row, params, Dying(), tmp_path)
    assert list(tmp_path.glob(".*.blocks/*.npz"))
    counts = []

    class Counting(Hed44Encoder):
        def encode(self, tiles):
            counts.append(len(tiles))
            return super().encode(tiles)

    outcome = extract_one(row, params, Counting(), tmp_path)
    assert sum(counts) < outcome.tiles  # the first block was not encoded again
    assert not list(tmp_path.glob(".*"))
    monkeypatch.setattr(tile_blocks, "_BLOCK", 4096)
    whole.mkdir()
    extract_one(row, params, Hed44Encoder(), whole)
    assert (whole / "P1.h5").read_bytes() == (tmp_path / "P1.h5").read_bytes()


def test_half_precision_is_the_rounded_single_precision(feature_file, painted_once, tmp_path):
    extract_one(SlideRow("P", "P1", str(painted_once)), ExtractParams(dtype="float16"), ENCODER, tmp_path)
    half, _ = features.read(tmp_path / "P1.h5")
    np.testing.assert_array_equal(half, features.read(feature_file)[0].astype(np.float16))


def test_the_key_depends_only_on_what_the_features_depend_on():
    base = features.compute_key("c", None, ExtractParams(), ENCODER.identity)
    same = [ExtractParams(workers=7), ExtractParams(max_failed_slides_share=1.0)]
    assert {features.compute_key("c", None, params, ENCODER.identity) for params in same} == {base}
    others = [
        features.compute_key("d", None, ExtractParams(), ENCODER.identity),
        features.compute_key("c", 0.5, ExtractParams(), ENCODER.identity),
        features.compute_key("c", None, ExtractParams(tile=224), ENCODER.identity),
        features.compute_key("c", None, ExtractParams(tissue=TissueParams(min_area_mm2=1.0)), ENCODER.identity),
        features.compute_key("c", None, ExtractParams(), EncoderIdentity("hed44", "", "hed44-2")),
    ]
    assert len({base, *others}) == 6


def test_a_damaged_file_is_no_feature_file(feature_file, tmp_path):
    data = feature_file.read_bytes()
    for name, content in {"cut.h5": data[: len(data) // 2], "empty.h5": b"", "text.h5": b"hello"}.items():
        (tmp_path / name).write_bytes(content)
        assert features.read_info(tmp_path / name) is None
        with pytest.raises(DataError, match="not a feature file"):
            features.read(tmp_path / name)
