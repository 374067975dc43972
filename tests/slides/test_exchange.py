"""Feature sets of other tools: files in their form, and round trips without loss."""

import h5py
import numpy as np
import pytest
import torch

from mcti.errors import DataError, UsageError
from mcti.slides import exchange, features
from mcti.steps.exchange import export_features, import_features

RNG = np.random.default_rng(0)
NUMBERS = RNG.normal(size=(300, 7)).astype(np.float32)
COORDS = np.stack([np.arange(300) % 20 * 512, np.arange(300) // 20 * 512], axis=1)
GRID = {
    "patch_size": 256,
    "patch_size_level0": 512,
    "level0_magnification": 40,
    "target_magnification": 20,
    "overlap": 0,
    "level0_width": 20 * 512,
    "level0_height": 15 * 512,
    "name": "S1",
}


def trident(folder):
    folder.mkdir()
    with h5py.File(folder / "S1.h5", "w") as file:
        file["features"] = NUMBERS
        file["coords"] = COORDS
        file["coords"].attrs.update(GRID | {"savetodir": "/home/somebody"})
    return folder


def table(path, name):
    with h5py.File(path) as file:
        return file[name][:], dict(file[name].attrs), dict(file.attrs)


def test_trident_files_survive_import_and_export(tmp_path):
    result = import_features(trident(tmp_path / "in"), "trident", tmp_path / "store")
    assert (result.slides, result.tiles, result.width) == (1, 300, 7)
    export_features(tmp_path / "store", "trident", tmp_path / "out")
    numbers, _, _ = table(tmp_path / "out" / "S1.h5", "features")
    coords, grid, _ = table(tmp_path / "out" / "S1.h5", "coords")
    np.testing.assert_array_equal(numbers, NUMBERS)
    np.testing.assert_array_equal(coords, COORDS)
    assert grid == GRID  # and no path of the other machine


def test_import_sorts_the_rows(tmp_path):
    folder = trident(tmp_path / "in")
    order = RNG.permutation(300)
    with h5py.File(folder / "S1.h5", "r+") as file:
        file["features"][:], file["coords"][:] = NUMBERS[order], COORDS[order]
    import_features(folder, "trident", tmp_path / "store")
    numbers, coords = features.read(tmp_path / "store" / "S1.h5")
    np.testing.assert_array_equal(numbers, NUMBERS)
    np.testing.assert_array_equal(coords, COORDS)


def test_the_two_folders_of_clam_agree_and_can_be_imported(tmp_path):
    import_features(trident(tmp_path / "in"), "trident", tmp_path / "store")
    export_features(tmp_path / "store", "clam", tmp_path / "clam")
    tensor = torch.load(tmp_path / "clam" / "pt_files" / "S1.pt", weights_only=True)
    np.testing.assert_array_equal(tensor.numpy(), NUMBERS)
    _, grid, _ = table(tmp_path / "clam" / "h5_files" / "S1.h5", "coords")
    assert (grid["patch_size"], grid["patch_level"]) == (512, 0)  # CLAM's patch_size is at patch_level
    import_features(tmp_path / "clam", "clam", tmp_path / "back")
    np.testing.assert_array_equal(features.read(tmp_path / "back" / "S1.h5")[1], COORDS)


def test_the_micrometres_of_stamp_become_pixels_and_micrometres_again(tmp_path):
    folder = tmp_path / "stamp"
    folder.mkdir()
    with h5py.File(folder / "S1.h5", "w") as file:
        file["feats"] = NUMBERS.astype(np.float16)
        file["coords"] = (COORDS * 0.25).astype(np.float32)
        file.attrs["unit"] = "um"
    with pytest.raises(UsageError, match="STAMP stores coordinates in µm"):
        import_features(folder, "stamp", tmp_path / "store")
    import_features(folder, "stamp", tmp_path / "store", mpp=0.25)
    numbers, coords = features.read(tmp_path / "store" / "S1.h5")
    assert numbers.dtype == np.float16
    np.testing.assert_array_equal(coords, COORDS)
    export_features(tmp_path / "store", "stamp", tmp_path / "out")
    feats, _, root = table(tmp_path / "out" / "S1.h5", "feats")
    np.testing.assert_array_equal(feats, NUMBERS.astype(np.float16))
    np.testing.assert_allclose(table(tmp_path / "out" / "S1.h5", "coords")[0], COORDS * 0.25)
    assert root["unit"] == "um"


def test_plain_tensors_are_imported_without_coordinates_and_with_their_patients(tmp_path):
    folder = tmp_path / "pt"
    folder.mkdir()
    torch.save(torch.from_numpy(NUMBERS), folder / "S1.pt")
    manifest = tmp_path / "slides.csv"
    manifest.write_text("patient_id,slide_id,path\nP9,S1,S1.svs\n")
    import_features(folder, "pt", tmp_path / "store", slides=manifest)
    assert "S1,P9,OK" in (tmp_path / "store" / "slides.csv").read_text()
    bag = exchange.from_store(tmp_path / "store" / "S1.h5")
    np.testing.assert_array_equal(bag.features, NUMBERS)
    assert bag.coords is None
    assert features.read_info(tmp_path / "store" / "S1.h5").tiles == 300
    with pytest.raises(DataError, match="TRIDENT needs coordinates"):
        export_features(tmp_path / "store", "trident", tmp_path / "out")
    assert not (tmp_path / "out").exists()  # all of it or nothing


def test_exports_are_the_same_bytes_twice(tmp_path):
    import_features(trident(tmp_path / "in"), "trident", tmp_path / "store")
    for form in exchange.EXPORT_FORMATS:
        if form == "stamp":
            continue  # needs an mpp
        for name in ("one", "two"):
            export_features(tmp_path / "store", form, tmp_path / name)
        one, two = (
            {p.name: p.read_bytes() for p in sorted((tmp_path / name).rglob("*")) if p.is_file()}
            for name in ("one", "two")
        )
        assert one == two


def read_set(folder, format_name):
    return (entry.read(None) for entry in exchange.find_entries(folder, format_name))


class Evil:
    def __reduce__(self):
        return (print, ("code ran",))


@pytest.mark.parametrize("content", [Evil(), {"a": 1}, torch.zeros(3, dtype=torch.int64), torch.zeros(2, 3, 4, 5)])
def test_a_file_without_a_feature_tensor_is_refused_and_executes_no_code(tmp_path, content, capsys):
    torch.save(content, tmp_path / "S1.pt")
    with pytest.raises(DataError, match="S1"):
        list(read_set(tmp_path, "pt"))
    assert "code ran" not in capsys.readouterr().out


def test_wrong_formats_and_empty_folders_are_named(tmp_path):
    with pytest.raises(UsageError, match="did you mean trident"):
        import_features(tmp_path, "tridnet", tmp_path / "store")
    with pytest.raises(DataError, match=r"no \.h5 files of trident"):
        import_features(tmp_path, "trident", tmp_path / "store")
    folder = trident(tmp_path / "in")
    with pytest.raises(DataError, match=r"S1\.h5"):
        import_features(folder, "stamp", tmp_path / "store", mpp=0.5)
    (folder / "S1.h5").write_bytes(b"short")
    with pytest.raises(DataError, match=r"none of 1 files can be read.*S1\.h5"):
        import_features(folder, "trident", tmp_path / "store")
    assert not (tmp_path / "store").exists()


def everything(folder):
    def read(path):
        if path.suffix == ".pt":
            return torch.load(path, weights_only=True).numpy().tolist()
        with h5py.File(path) as file:
            tables = {name: (file[name][:].tolist(), str(file[name].dtype), plain(file[name].attrs)) for name in file}
            return tables, plain(file.attrs)

    return {path.relative_to(folder).as_posix(): read(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def plain(attributes):
    return {name: np.ravel(value).tolist() for name, value in attributes.items()}


def test_the_tile_attributes_of_clam_are_converted_and_kept(tmp_path):
    """Written as CLAM 2 writes: 256 px of level 1, of which each is 4 px of level 0."""
    expected = {"patch_size": 256, "patch_level": 1, "downsample": [4.0, 4.0], "downsampled_level_dim": [2560, 1920]}
    expected |= {"level_dim": [2560, 1920], "name": "S1"}
    for folder in ("h5_files", "pt_files"):
        (tmp_path / "in" / folder).mkdir(parents=True)
    with h5py.File(tmp_path / "in" / "h5_files" / "S1.h5", "w") as file:
        file["features"], file["coords"] = NUMBERS, COORDS
        file["coords"].attrs.update({name: np.array(v) if isinstance(v, list) else v for name, v in expected.items()})
    torch.save(torch.from_numpy(NUMBERS), tmp_path / "in" / "pt_files" / "S1.pt")
    import_features(tmp_path / "in", "clam", tmp_path / "store")
    _, grid, _ = table(tmp_path / "store" / "S1.h5", "coords")
    assert (grid["patch_size_level0"], grid["level0_width"], grid["level0_height"]) == (1024, 10240, 7680)
    export_features(tmp_path / "store", "clam", tmp_path / "out")
    assert everything(tmp_path / "out") == everything(tmp_path / "in")


def test_the_tile_attributes_of_stamp_are_converted_and_kept(tmp_path):
    (tmp_path / "in").mkdir()
    with h5py.File(tmp_path / "in" / "S1.h5", "w") as file:
        file["feats"], file["coords"] = NUMBERS.astype(np.float16), (COORDS * 0.25).astype(np.float32)
        file.attrs.update({"unit": "um", "extractor": "virchow2", "feat_type": "tile", "stamp_version": "2.5.0"})
        file.attrs.update({"tile_size_um": 128.0, "tile_size_px": 224})
    import_features(tmp_path / "in", "stamp", tmp_path / "store", mpp=0.25)
    _, grid, _ = table(tmp_path / "store" / "S1.h5", "coords")
    assert (grid["patch_size_level0"], grid["patch_size"]) == (512, 224)
    export_features(tmp_path / "store", "stamp", tmp_path / "out")
    assert everything(tmp_path / "out") == everything(tmp_path / "in")


def test_bfloat16_tensors_are_converted_and_sparse_tensors_refused(tmp_path):
    torch.save(torch.ones(3, 4, dtype=torch.bfloat16, requires_grad=True), tmp_path / "S1.pt")
    assert next(read_set(tmp_path, "pt")).features.dtype == np.float32
    torch.save(torch.eye(4).to_sparse(), tmp_path / "S1.pt")
    with pytest.raises(DataError, match="sparse"):
        list(read_set(tmp_path, "pt"))
