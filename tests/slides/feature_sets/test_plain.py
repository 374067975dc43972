"""Files without a tool: one per slide, or one per set; numpy, torch and h5py as oracles."""

import h5py
import numpy as np
import pytest
import torch

from mcti.errors import DataError
from mcti.slides.feature_sets import plain

ROWS = np.random.default_rng(5).normal(size=(3, 4)).astype(np.float32)


def read(source, format_name):
    return {entry.name: entry.read(None) for entry in plain.find(source, format_name)}


@pytest.mark.parametrize(
    ("content", "level", "expected"),
    [
        (torch.from_numpy(ROWS), "patch", ROWS),
        (torch.from_numpy(ROWS)[None], "patch", ROWS),  # (1, N, D)
        (torch.from_numpy(ROWS)[0], "slide", ROWS[:1]),
        (torch.from_numpy(ROWS)[:1], "", ROWS[:1]),  # one patch, or the vector of the slide
        ({"features": torch.from_numpy(ROWS), "coords": torch.tensor([[0, 0], [1, 0], [2, 0]])}, "patch", ROWS),
        (torch.from_numpy(ROWS).to(torch.bfloat16), "patch", torch.from_numpy(ROWS).to(torch.bfloat16).float().numpy()),
        (torch.from_numpy(ROWS).half(), "patch", ROWS.astype(np.float16)),
    ],
)
def test_tensor_files_of_one_slide(tmp_path, content, level, expected):
    torch.save(content, tmp_path / "S1.2.pt")
    torch.save(content, tmp_path / "S2.pt")
    slides = read(tmp_path, "pt")
    assert sorted(slides) == ["S1.2", "S2"]
    np.testing.assert_array_equal(slides["S1.2"].features, expected)
    assert slides["S2"].features.dtype == expected.dtype
    assert slides["S2"].level == level


@pytest.mark.parametrize("format_name", ["pt", "h5", "npy"])
def test_one_file_with_a_table_and_its_ids(tmp_path, format_name):
    names = ["S1", "S2", "S3"]
    file = tmp_path / f"set.{'npz' if format_name == 'npy' else format_name}"
    if format_name == "pt":
        torch.save({"embeddings": torch.from_numpy(ROWS), "filenames": names}, file)
    elif format_name == "h5":
        with h5py.File(file, "w") as h5:
            h5["features"], h5["slide_ids"] = ROWS, names
    else:
        np.savez(file, features=ROWS, ids=np.array(names))
    slides = read(file, format_name)
    for name, row in zip(names, ROWS, strict=True):
        np.testing.assert_array_equal(slides[name].features, row[None])
        assert slides[name].level == "slide"


@pytest.mark.parametrize("format_name", ["pt", "h5", "npy"])
def test_one_file_with_a_vector_by_slide(tmp_path, format_name):
    vectors = {f"S{i}": row for i, row in enumerate(ROWS)}
    file = tmp_path / f"set.{'npz' if format_name == 'npy' else format_name}"
    if format_name == "pt":
        torch.save({name: torch.from_numpy(row) for name, row in vectors.items()}, file)
    elif format_name == "h5":
        with h5py.File(file, "w") as h5:
            for name, row in vectors.items():
                h5[name] = row
    else:
        np.savez(file, **vectors)
    for source in (file, tmp_path):
        slides = read(source, format_name)
        np.testing.assert_array_equal(np.concatenate([slides[name].features for name in vectors]), ROWS)


def test_one_array_takes_its_ids_from_the_file_next_to_it(tmp_path):
    np.save(tmp_path / "titan.npy", ROWS)
    with pytest.raises(DataError, match=r"3 rows without slide ids.*titan\.txt"):
        plain.find(tmp_path / "titan.npy", "npy")
    (tmp_path / "titan.csv").write_text("patient_id\nP1\nP2\nP3\n")
    slides = read(tmp_path / "titan.npy", "npy")
    np.testing.assert_array_equal(slides["P2"].features, ROWS[1:2])
    assert slides["P2"].level == "patient"
    (tmp_path / "titan.csv").write_text("patient_id\nP1\nP2\n")
    with pytest.raises(DataError, match="2 ids for features of shape"):
        plain.find(tmp_path / "titan.npy", "npy")


def test_hdf5_files_of_one_slide_keep_coordinates_and_their_attributes(tmp_path):
    for name in ("S1", "S2"):
        with h5py.File(tmp_path / f"{name}.h5", "w") as h5:
            h5["embeddings"], h5["coords"] = ROWS, [[0, 0], [512, 0], [1024, 0]]
            h5["coords"].attrs["patch_size_level0"] = 512
    slide = read(tmp_path, "h5")["S1"]
    np.testing.assert_array_equal(slide.coords, [[0, 0], [512, 0], [1024, 0]])
    assert slide.grid == {"patch_size_level0": 512}


def test_arrays_with_pickled_objects_are_refused(tmp_path):
    for name in ("S1", "S2"):
        np.save(tmp_path / f"{name}.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="pickle"):
        read(tmp_path, "npy")
