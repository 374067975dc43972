import pytest

from mcti.dataset.bags import Dataset
from mcti.steps.train import train
from mcti.training import folds
from tests.training import factories


@pytest.fixture
def world(tmp_path):
    return factories.folders(tmp_path / "target")


@pytest.fixture
def source(tmp_path):
    cohort, features, _ = factories.folders(tmp_path / "source", patients=12, seed=9)
    return {"cohort": str(cohort), "features": str(features)}


def record_tasks(module, monkeypatch):
    """The tasks that a step trains, collected while it runs."""
    tasks, original = [], module.train

    def recorded(task, **options):
        tasks.append(task)
        return original(task, **options)

    monkeypatch.setattr(module, "train", recorded)
    return tasks


def test_each_fold_is_trained_with_the_sources_and_records_them(world, source, tmp_path, monkeypatch):
    tasks = record_tasks(folds, monkeypatch)
    train(*world, factories.settings(workers=1, sources=[source]), tmp_path / "out")
    assert len(tasks) == 2
    for task in tasks:
        [data] = task.sources
        assert isinstance(data, Dataset)
        assert len(data.bags) == 12
        assert all(bag.patches is not None for bag in data.bags.values())
