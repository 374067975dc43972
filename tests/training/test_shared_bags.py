"""shared_bags: one store for all workers, removed at the end, after an error, and after a killed process."""

import os
import shutil
import subprocess
import sys

import pytest

from mcti.dataset.bag_store import BagStore
from mcti.errors import DataError, OperationalError
from mcti.steps.train import train
from mcti.training import shared_bags as module
from mcti.training.shared_bags import shared_bags
from tests.training.factories import bags, folders, settings


@pytest.fixture
def world(tmp_path):
    return folders(tmp_path)


def test_the_store_exists_during_the_body_only(world, tmp_path):
    cohort, features, _ = world
    with shared_bags(cohort, features, tmp_path / "out") as store:
        assert BagStore(store).bag("P-000").patches is not None
        assert store.parent == tmp_path / "out"
    assert not (tmp_path / "out").exists()


def test_without_features_there_is_no_store(world, tmp_path):
    with shared_bags(world[0], None, tmp_path / "out") as store:
        assert store is None
    assert not (tmp_path / "out").exists()


def test_a_broken_feature_file_leaves_nothing(world, tmp_path):
    cohort, features, _ = world
    next(features.glob("*.h5")).write_bytes(b"broken")
    with pytest.raises(DataError, match=r"\.h5"), shared_bags(cohort, features, tmp_path / "out"):
        pass
    assert not (tmp_path / "out").exists()


def test_the_store_of_a_killed_process_is_removed_and_one_of_a_running_process_is_kept(world, tmp_path):
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    killed, running = tmp_path / f"out/.bags-{int(ended.stdout)}", tmp_path / f"out/.bags-{os.getppid()}"
    killed.mkdir(parents=True)
    running.mkdir()
    with shared_bags(*world[:2], tmp_path / "out"):
        assert not killed.exists()
    assert running.exists()


def test_a_disk_without_space_for_all_features_is_refused_before_they_are_read(world, tmp_path, monkeypatch):
    cohort, features, _ = world
    needed = sum(bag.patches.numel() * 4 for bag in bags())
    free = shutil._ntuple_diskusage(1 << 40, 1 << 40, needed + module._MARGIN - 1)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: free)
    monkeypatch.setattr(module, "load_bag", lambda *_: pytest.fail("features were read"))
    with (
        pytest.raises(OperationalError, match="no disk space for the features"),
        shared_bags(cohort, features, tmp_path / "out"),
    ):
        pass
    assert not (tmp_path / "out").exists()


def test_a_disk_with_just_enough_space_is_accepted(world, tmp_path, monkeypatch):
    needed = sum(bag.patches.numel() * 4 for bag in bags())
    free = shutil._ntuple_diskusage(1 << 40, 1 << 40, needed + module._MARGIN)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: free)
    with shared_bags(*world[:2], tmp_path / "out") as store:
        assert BagStore(store).bag("P-000").patches is not None


def test_each_feature_file_is_read_once_for_all_folds(world, tmp_path, monkeypatch):
    cohort, features, folds = world
    reads = []
    load = module.load_bag
    monkeypatch.setattr(module, "load_bag", lambda where, names: reads.extend(names) or load(where, names))
    monkeypatch.setattr("mcti.dataset.loading.load_bag", lambda *_: pytest.fail("a worker read a feature file"))
    train(cohort, features, folds, settings(epochs=1, workers=1), tmp_path / "models")
    assert sorted(reads) == sorted(path.stem for path in features.glob("*.h5"))
    assert not list((tmp_path / "models").glob(".bags-*"))
