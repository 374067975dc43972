"""BagStore: the values of the feature files to the bit, mapped and not copied."""

import resource
from pathlib import Path

import numpy as np
import pytest
import torch

from mcti import storage
from mcti.dataset import bag_store
from mcti.dataset.bag_store import BagStore
from mcti.dataset.bags import SlideTiles
from mcti.dataset.loading import load_dataset
from mcti.dataset.slide_bags import SlideBag, load_bag
from mcti.errors import DataError
from tests.training.factories import folders


def slide_counts(bag):
    return [(tiles.slide_id, tiles.count) for tiles in bag.slides]


def test_a_mapped_cohort_is_the_cohort_of_the_feature_files(tmp_path):
    cohort, features, _ = folders(tmp_path)
    read = load_dataset(cohort, features)
    names = {patient: [slide.slide_id for slide in bag.slides] for patient, bag in read.bags.items()}
    (tmp_path / "store").mkdir()
    bag_store.write(tmp_path / "store", ((patient, load_bag(features, names[patient])) for patient in names))
    mapped = load_dataset(cohort, features, store=tmp_path / "store")
    assert mapped.version == read.version
    assert mapped.provenance == read.provenance
    for patient, bag in read.bags.items():
        assert torch.equal(mapped.bags[patient].patches, bag.patches)
        assert mapped.bags[patient].quality == bag.quality
        assert slide_counts(mapped.bags[patient]) == slide_counts(bag)


def test_bags_of_different_widths_without_rows_and_without_slides(tmp_path):
    wide, empty = torch.arange(6.0).view(2, 3), torch.zeros(0, 4)
    tiles = (SlideTiles("a", 2),)
    bags = {
        "P-1": SlideBag(wide, tiles, {"tissue": 0.5}, ({"encoder": "e"},)),
        "P-2": SlideBag(empty),
        "P-3": SlideBag(None),
    }
    bag_store.write(tmp_path, bags.items())
    store = BagStore(tmp_path)
    assert torch.equal(store.bag("P-1").patches, wide)
    assert store.bag("P-2").patches.shape == (0, 4)
    assert store.bag("P-1").tiles == tiles
    assert store.bag("P-1").provenance == ({"encoder": "e"},)
    assert store.bag("P-3") == SlideBag(None) == store.bag("P-9")
    bag_store.write(tmp_path, {"P-3": SlideBag(None)}.items())
    assert BagStore(tmp_path).bag("P-3") == SlideBag(None), "an empty file cannot be mapped"


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_opening_a_store_reads_no_values(tmp_path):
    """256 MB of values: the address space grows, the memory of the process does not."""
    rows = 64 * 2**20
    with (tmp_path / "patches.f32").open("wb") as file:
        file.truncate(4 * rows)
    record = {"start": 0, "shape": [rows, 1], "slides": [], "quality": {}, "provenance": []}
    storage.write_json(tmp_path / "index.json", {"P": record})
    before = resident_bytes()
    patches = BagStore(tmp_path).bag("P").patches
    assert patches.shape == (rows, 1)
    assert resident_bytes() - before < 4 * rows / 4


def test_a_folder_that_cannot_be_written_is_one_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file"):
        bag_store.write(tmp_path / "file" / "store", [("P", SlideBag(torch.zeros(1, 1)))])


def test_the_first_values_of_a_bag_are_at_the_position_in_the_index(tmp_path):
    bag_store.write(tmp_path, [("A", SlideBag(torch.full((1, 2), 7.0))), ("B", SlideBag(torch.full((2, 2), 9.0)))])
    assert np.fromfile(tmp_path / "patches.f32", np.float32).tolist() == [7.0, 7.0, 9.0, 9.0, 9.0, 9.0]
