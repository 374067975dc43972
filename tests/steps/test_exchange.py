"""Imports of whole sets: mpp by slide, coverage of the table, broken files, patients, mixed sets."""

import csv

import h5py
import numpy as np
import pytest
import torch

from mcti.errors import DataError, UsageError
from mcti.slides import features
from mcti.slides.exchange import find_entries, from_store
from mcti.steps.exchange import export_features, import_features

ROWS = np.random.default_rng(8).normal(size=(20, 4)).astype(np.float32)
MICROMETRES = np.array([[x * 128.0, y * 128.0] for y in range(4) for x in range(5)])


def write_stamp(folder, *names):
    folder.mkdir()
    for name in names:
        with h5py.File(folder / f"{name}.h5", "w") as file:
            file["feats"], file["coords"] = ROWS.astype(np.float16), MICROMETRES
            file.attrs.update({"unit": "um", "extractor": "uni", "tile_size_um": 128.0, "tile_size_px": 256})
    return folder


def write_tensors(folder, **tensors):
    folder.mkdir()
    for name, values in tensors.items():
        torch.save(torch.as_tensor(values), folder / f"{name}.pt")
    return folder


def write_table(path, text):
    path.write_text(text)
    return path


def rows(store):
    with (store / "slides.csv").open(newline="") as stream:
        return {row["slide_id"]: row for row in csv.DictReader(stream)}


def test_slides_of_two_scanners_keep_their_own_mpp(tmp_path):
    source = write_stamp(tmp_path / "stamp", "A", "B", "C")
    table = write_table(tmp_path / "slides.csv", "patient_id,slide_id,mpp\nP1,A.svs,0.25\nP1,B.ndpi,0.5\nP2,C,\n")
    import_features(source, "stamp", tmp_path / "store", slides=table, mpp=1.0)
    for name, mpp in (("A", 0.25), ("B", 0.5), ("C", 1.0)):
        with h5py.File(tmp_path / "store" / f"{name}.h5") as file:
            order = np.lexsort(MICROMETRES.T)
            np.testing.assert_array_equal(file["coords"][:], MICROMETRES[order] / mpp)
            assert file["coords"].attrs["patch_size_level0"] == 128 / mpp
            assert file.attrs["mpp_x"] == mpp
            assert "level0_width" not in file["coords"].attrs
    assert [row["mpp_source"] for row in rows(tmp_path / "store").values()] == ["manifest", "manifest", "option"]
    export_features(tmp_path / "store", "stamp", tmp_path / "again")
    for name in "ABC":
        with h5py.File(tmp_path / "again" / f"{name}.h5") as file:
            np.testing.assert_array_equal(file["coords"][:], MICROMETRES)


def test_the_first_slide_without_an_mpp_is_named(tmp_path):
    source = write_stamp(tmp_path / "stamp", "A", "B")
    table = write_table(tmp_path / "slides.csv", "patient_id,slide_id,mpp\nP1,A,0.25\nP1,B,\n")
    with pytest.raises(UsageError, match="the mpp of 1 slides is not known, the first is B"):
        import_features(source, "stamp", tmp_path / "store", slides=table)
    assert not (tmp_path / "store").exists()


def test_declared_tile_size_and_mpp_of_clam_reach_trident_without_zeros(tmp_path):
    (tmp_path / "clam" / "h5_files").mkdir(parents=True)
    with h5py.File(tmp_path / "clam" / "h5_files" / "A.h5", "w") as file:
        file["features"], file["coords"] = ROWS, (MICROMETRES * 4).astype(np.int32)
    import_features(
        tmp_path / "clam", "clam", tmp_path / "store", patch_size_level0=512, mpp=0.25, encoder="resnet50_trunc"
    )
    export_features(tmp_path / "store", "trident", tmp_path / "trident")
    with h5py.File(tmp_path / "trident" / "A.h5") as file:
        assert dict(file["coords"].attrs) == {"name": "A", "patch_size_level0": 512}
    slide = from_store(tmp_path / "store" / "A.h5")
    assert (slide.attributes["encoder"], slide.attributes["mpp_x"]) == ("resnet50_trunc", 0.25)


def test_a_broken_file_is_listed_and_the_others_are_imported(tmp_path):
    source = write_tensors(tmp_path / "pt", A=ROWS, B=ROWS, C=ROWS)
    (source / "B.pt").write_bytes(b"broken")
    with_nan = ROWS.copy()
    with_nan[4] = np.nan
    torch.save(torch.from_numpy(with_nan), source / "C.pt")
    table = write_table(tmp_path / "slides.csv", "patient_id,slide_id\nP1,A\nP2,B\nP3,C\nP4,D\n")
    result = import_features(source, "pt", tmp_path / "store", slides=table)
    assert (result.slides, result.tiles, result.rows_removed, result.missing) == (2, 39, 1, ("D",))
    assert list(result.failed) == ["B"]
    statuses = {name: (row["status"], row["failed_tiles"]) for name, row in rows(tmp_path / "store").items()}
    assert statuses == {"A": ("OK", "0"), "B": ("READ_ERROR", "0"), "C": ("OK", "1"), "D": ("NO_FEATURES", "0")}
    np.testing.assert_array_equal(features.read(tmp_path / "store" / "C.h5")[0], np.delete(ROWS, 4, 0))
    assert features.read_info(tmp_path / "store" / "A.h5").width is None


def test_vectors_of_patients_with_several_slides(tmp_path):
    source = write_tensors(tmp_path / "pt", P1=ROWS[0], P2=ROWS[1], stray=ROWS[2])
    table = write_table(tmp_path / "slides.csv", "patient_id,slide_id\nP1,A\nP1,B\nP2,C\n")
    result = import_features(source, "pt", tmp_path / "store", slides=table, encoder="titan")
    assert (result.level, result.slides, result.unlisted, result.missing) == ("patient", 2, ("stray",), ())
    slide = from_store(tmp_path / "store" / "P1.h5")
    np.testing.assert_array_equal(slide.features, ROWS[:1])
    assert (slide.level, slide.coords) == ("patient", None)
    export_features(tmp_path / "store", "pt", tmp_path / "again")
    np.testing.assert_array_equal(torch.load(tmp_path / "again" / "P1.pt", weights_only=True).numpy(), ROWS[0])
    export_features(tmp_path / "store", "stamp", tmp_path / "stamp")
    (first, _) = (entry.read(None) for entry in find_entries(tmp_path / "stamp", "stamp"))
    np.testing.assert_array_equal(first.features, ROWS[:1])
    assert (first.level, first.attributes["encoder"]) == ("patient", "titan")


def test_a_mixed_set_writes_nothing_and_names_the_slides(tmp_path):
    source = write_tensors(tmp_path / "pt", A=ROWS, B=ROWS, C=np.ones((20, 7), np.float32))
    with pytest.raises(DataError, match=r"mixes values of number of features: 4 in 2 slides, 1 differ in C: 7"):
        import_features(source, "pt", tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_file_that_contradicts_the_declared_encoder_is_listed(tmp_path):
    source = write_stamp(tmp_path / "stamp", "A")
    with pytest.raises(DataError, match="the file states encoder uni, not titan"):
        import_features(source, "stamp", tmp_path / "store", mpp=0.5, encoder="titan")


def test_a_table_of_other_slides_is_refused(tmp_path):
    source = write_tensors(tmp_path / "pt", A=ROWS)
    table = write_table(tmp_path / "slides.csv", "patient_id,slide_id\nP1,Z\n")
    with pytest.raises(DataError, match="none of the 1 names is in the table, the first is A"):
        import_features(source, "pt", tmp_path / "store", slides=table)


def test_coordinates_of_another_format_and_a_missing_folder_are_refused(tmp_path):
    source = write_tensors(tmp_path / "pt", A=ROWS)
    with pytest.raises(UsageError, match="has its coordinates in the feature files"):
        import_features(source, "pt", tmp_path / "store", coordinates=tmp_path)
    with pytest.raises(DataError, match="no such file or folder"):
        import_features(source, "clam", tmp_path / "store", coordinates=tmp_path / "none")


def test_a_slide_with_one_patch_is_no_other_level_and_is_exported_as_it_was(tmp_path):
    source = write_tensors(tmp_path / "pt", A=ROWS, B=ROWS[:1])
    result = import_features(source, "pt", tmp_path / "store")
    assert result.level == "patch"
    assert [from_store(tmp_path / "store" / f"{name}.h5").level for name in "AB"] == ["patch", ""]
    export_features(tmp_path / "store", "pt", tmp_path / "again")
    for name, rows_of_slide in (("A", ROWS), ("B", ROWS[:1])):
        again = torch.load(tmp_path / "again" / f"{name}.pt", weights_only=True)
        np.testing.assert_array_equal(again.numpy(), rows_of_slide)


def test_a_set_of_single_rows_is_of_slide_level(tmp_path):
    source = write_tensors(tmp_path / "pt", A=ROWS[:1], B=ROWS[1:2])
    assert import_features(source, "pt", tmp_path / "store").level == "slide"


@pytest.mark.parametrize("mpp", [0.0, -0.25, float("nan"), float("inf")])
def test_an_mpp_that_is_no_resolution_is_refused(tmp_path, mpp):
    with pytest.raises(UsageError, match="mpp is"):
        import_features(write_stamp(tmp_path / "stamp", "A"), "stamp", tmp_path / "store", mpp=mpp)
