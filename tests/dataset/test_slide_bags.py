"""load_bag: rows, coordinates, quality counts and errors of the feature files of a patient."""

import h5py
import numpy as np
import pytest
import torch

from mcti.dataset import slide_bags
from mcti.dataset.slide_bags import SlideBag, load_bag
from mcti.errors import DataError
from mcti.slides.features import read_slide


def test_the_quality_of_a_patients_slides_is_counted_over_all_of_them(tmp_path):
    """Worked example: 3 and 1 tiles kept of 8 and 2, 4 and 1 blurred, 1 unreadable; tissue 0.6, 0.9, 0.9 and 1.0."""
    for name, tissue, candidate, blurred, failed in (("a", [0.6, 0.9, 0.9], 8, 4, 1), ("b", [1.0], 2, 1, 0)):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["features"] = np.ones((len(tissue), 2), dtype=np.float32)
            file["tissue_fraction"] = np.array(tissue, dtype=np.float32)
            counts = {"candidate": candidate, "kept": len(tissue), "blurred": blurred, "failed": failed}
            file.attrs.update({f"tiles_{key}": value for key, value in counts.items()})
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["features"] = np.ones((2, 2), dtype=np.float32)
    bag = load_bag(tmp_path, ["a", "b"])
    assert len(bag.patches) == 4
    assert bag.quality == pytest.approx({"tissue": 3.4 / 4, "blurred": 5 / 10, "failed": 1 / 10})
    assert load_bag(tmp_path, ["a", "other"]).quality == {}, "a file of another tool counts nothing"
    assert load_bag(tmp_path, []) == SlideBag(None)


def test_a_bag_keeps_the_coordinates_of_its_tiles_from_one_read_of_each_file(tmp_path, monkeypatch):
    for name, first in (("a", 0), ("b", 1000)):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["features"] = np.full((2, 3), first, dtype=np.float16)
            file["coords"] = np.array([[first, 0], [first, 256]], dtype=np.int64)
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["features"] = np.ones((1, 3), dtype=np.float32)
    reads = []
    monkeypatch.setattr(slide_bags, "read_slide", lambda where: reads.append(where) or read_slide(where))
    bag = load_bag(tmp_path, ["a", "b", "c"])
    assert len(reads) == 3
    assert bag.patches.dtype == torch.float32
    assert [(tiles.slide_id, tiles.count) for tiles in bag.tiles] == [("a", 2), ("b", 2), ("c", 1)]
    assert bag.tiles[1].coordinates.tolist() == [[1000, 0], [1000, 256]]
    assert bag.tiles[2].coordinates is None
    assert bag.patches[2:4].tolist() == [[1000.0] * 3] * 2


def test_a_file_without_features_is_named(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["coords"] = np.zeros((1, 2))
    with pytest.raises(DataError, match=r"a\.h5"):
        load_bag(tmp_path, ["a"])
