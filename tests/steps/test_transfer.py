import shutil
from pathlib import Path

import h5py
import pandas as pd
import pytest

from mcti import storage
from mcti.cohort import tables
from mcti.cohort.folds import read_folds
from mcti.dataset.bags import Dataset
from mcti.dataset.loading import load_dataset
from mcti.errors import DataError
from mcti.model.prior import Prior
from mcti.params import MonitorParams, PredictParams, SearchParams
from mcti.redaction import hashed
from mcti.registry import ensemble_files
from mcti.registry.priors import PriorFiles
from mcti.steps import transfer as transfer_module
from mcti.steps.monitor import monitor
from mcti.steps.predict.step import predict
from mcti.steps.search import step, study_setup
from mcti.steps.train import train
from mcti.training import folds as training
from mcti.training import pretraining_store
from tests.training import factories


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return factories.folders(tmp_path_factory.mktemp("target"))


@pytest.fixture
def source(tmp_path):
    cohort, features, _ = factories.folders(tmp_path / "source", patients=12, seed=9, prefix="S")
    return {"cohort": str(cohort), "features": str(features)}


def settings(**changes):
    """Without the pretraining of the network, which these tests do not need."""
    return factories.settings(**({"workers": 1, "epochs": 1, "fine_tuning": "none"} | changes))


def record_tasks(module, monkeypatch):
    """The tasks that a step trains, collected while it runs."""
    tasks, original = [], module.train

    def recorded(task, **options):
        tasks.append(task)
        return original(task, **options)

    monkeypatch.setattr(module, "train", recorded)
    return tasks


def set_encoder(features, name):
    for path in Path(features).glob("*.h5"):
        with h5py.File(path, "a") as file:
            file.attrs["encoder"] = name


def weights_inode(out):
    return (out / "fold_0" / "weights.safetensors").stat().st_ino


def test_each_fold_is_trained_with_the_sources_and_records_them(world, source, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", logger="mcti")
    tasks, out = record_tasks(training, monkeypatch), tmp_path / "out"
    train(*world, settings(sources=[source]), out)
    assert len(tasks) == 2
    for task in tasks:
        [data] = task.sources
        assert isinstance(data, Dataset)
        assert len(data.bags) == 12
        assert all(bag.patches is not None for bag in data.bags.values())
    [record] = storage.read_json(out / "fold_0" / "model.json")["sources"]
    assert record["patients"] == sorted(hashed(f"S-{number:03}") for number in range(12))
    assert (record["shared_genes"], record["genes"], record["slides"]) == (5, 5, 12)
    choice = storage.read_json(out / "fold_0" / "model.json")["cox_fit"]
    [line] = [text for text in caplog.messages if text.startswith("fold 0: Cox")]
    assert line == f"fold 0: Cox model with source weight {choice['source_weight']:g}, slope {choice['slope']:.2f}"
    assert choice["prior_weight"] == 0


def test_a_cohort_with_late_entry_learns_from_a_source_without(source, tmp_path, monkeypatch, caplog):
    caplog.set_level("WARNING", logger="mcti")
    cohort, features, folds = factories.folders(tmp_path / "target")
    parts = tables.read_expression(cohort), tables.read_slides(cohort), tables.read_info(cohort)
    patients = tables.read_patients(cohort)
    late = patients.assign(entry_months=patients["time_months"] / 2)
    tables.write(tables.Cohort(late, *parts), cohort)
    tasks = record_tasks(training, monkeypatch)
    train(cohort, features, folds, settings(sources=[source]), tmp_path / "out")
    assert any("has no late entry (column entry_months), the cohort has" in text for text in caplog.messages)
    for task in tasks:
        assert all(bag.entry_months == bag.time_months / 2 for bag in task.bags)
        assert not any(bag.entry_months for bag in task.sources[0].bags.values())


def test_a_moved_source_trains_nothing_again_and_a_changed_one_does(world, source, tmp_path):
    out, moved = tmp_path / "out", tmp_path / "moved"
    train(*world, settings(sources=[source]), out)
    before = weights_inode(out)
    shutil.copytree(tmp_path / "source", moved)
    elsewhere = {"cohort": str(moved / "cohort"), "features": str(moved / "features")}
    train(*world, settings(sources=[elsewhere]), out)
    assert weights_inode(out) == before
    cohort = moved / "cohort"
    patients = tables.read_patients(cohort)
    patients.loc[3, "time_months"] += 1
    parts = (patients, tables.read_expression(cohort), tables.read_slides(cohort), tables.read_info(cohort))
    tables.write(tables.Cohort(*parts), cohort)
    train(*world, settings(sources=[elsewhere]), out)
    assert weights_inode(out) != before


@pytest.mark.parametrize("volume", ["volume", ""])
def test_the_pretraining_is_deleted_when_the_last_fold_is_finished(world, source, tmp_path, monkeypatch, volume):
    """Each fold in a task of its own: the first one keeps the pretraining for the other one."""
    pretraining_store._last.clear()
    out, chosen = tmp_path / "out", settings(sources=[source], fine_tuning="full", cox_weight=0.5)
    if volume:
        monkeypatch.setenv("MCTI_CHECKPOINTS", str(tmp_path / volume))
        monkeypatch.setenv("MCTI_RUN", "run-1")
    parent = tmp_path / volume / "run-1" if volume else out / ".work"
    train(*world, chosen, out, fold=1)
    assert [path.name.split("_")[0] for path in sorted(parent.iterdir())] == ["finished", "pretraining"]
    train(*world, chosen, out, fold=0)
    assert not parent.exists()


def test_the_folds_of_one_task_leave_no_pretraining(world, source, tmp_path, monkeypatch):
    monkeypatch.setenv("MCTI_CHECKPOINTS", str(tmp_path / "volume"))
    train(*world, settings(sources=[source], fine_tuning="full"), tmp_path / "out")
    assert not any((tmp_path / "volume").iterdir())


def test_a_refused_source_leaves_nothing_behind(world, tmp_path):
    cohort, features, _ = world
    itself = {"cohort": str(cohort), "features": str(features)}
    with pytest.raises(DataError, match="the source is the cohort itself"):
        train(*world, settings(sources=[itself]), tmp_path / "out")
    with pytest.raises(DataError, match="the source is the cohort itself"):
        step.search(*world, SearchParams(trials=1, epochs=1), settings(sources=[itself]), tmp_path / "search")
    assert not list(tmp_path.iterdir())


def test_no_source_is_needed_to_predict(world, source, tmp_path):
    cohort, features, _ = world
    train(*world, settings(sources=[source], fine_tuning="full"), tmp_path / "models")
    shutil.rmtree(tmp_path / "source")
    predict(str(tmp_path / "models"), cohort, features, PredictParams(), tmp_path / "out.csv")
    risks = pd.read_csv(tmp_path / "out.csv", dtype=str).set_index("patient_id")["risk"]
    parts = [pd.read_csv(path, dtype=str) for path in sorted((tmp_path / "models").glob("fold_*/predictions.csv"))]
    assert risks.to_dict() == pd.concat(parts).set_index("patient_id")["risk"].to_dict()


def test_patients_of_a_source_are_counted_and_are_not_new_for_the_monitoring(world, source, tmp_path):
    cohort, features, _ = world
    train(*world, settings(sources=[source]), tmp_path / "models")
    counts = []
    for number, one in enumerate(({"cohort": cohort, "features": features}, source)):
        out = tmp_path / f"{number}.csv"
        result = predict(str(tmp_path / "models"), one["cohort"], one["features"], PredictParams(workers=1), out)
        counts.append((result.patients, result.known, result.in_sources))
    patients = len(tables.read_patients(cohort))
    assert counts == [(patients, patients, 0), (12, 0, 12)]
    monitored = monitor(
        str(tmp_path / "models"), *source.values(), MonitorParams(bootstrap=100), tmp_path / "monitoring"
    )
    assert (monitored.patients, monitored.new_patients) == (12, 0)


def test_the_trials_of_a_search_use_the_sources_which_belong_to_its_identity(world, source, tmp_path, monkeypatch):
    tasks = record_tasks(study_setup, monkeypatch)
    params = SearchParams(trials=1, epochs=1, space={"learning_rate": [1e-4, 1e-2]})
    step.search(*world, params, settings(sources=[source]), tmp_path / "search")
    assert tasks
    assert all(len(task.sources[0].bags) == 12 for task in tasks)
    data, split = load_dataset(*world[:2]), read_folds(world[2])
    with transfer_module.transfer_files(*world[:2], split, settings(sources=[source])) as files:
        loaded = transfer_module.load_transfer(files, data.genes, "both")
    splits = study_setup.inner_splits(split, 0)
    plain = study_setup.identity(data, splits, params, settings())
    assert study_setup.identity(data, splits, params, settings(sources=[source])) == plain
    assert study_setup.identity(data, splits, params, settings(), loaded) != plain


def test_the_prior_reaches_each_task_after_its_checks(world, tmp_path, monkeypatch):
    """The prior is a model of another cohort, registered; here its download is a folder of this machine."""
    other = factories.folders(tmp_path / "other", patients=16, seed=4, prefix="O")
    train(*other, settings(), tmp_path / "models")
    ensemble_files.assemble(tmp_path / "models", tmp_path / "ensemble")
    files = PriorFiles(str(tmp_path / "ensemble"), "pan", "4")
    monkeypatch.setattr(transfer_module, "fetch_prior", lambda address, scratch: files)
    tasks = record_tasks(training, monkeypatch)
    train(*world, settings(prior="models:/pan@champion"), tmp_path / "out")
    assert all(isinstance(task.prior, Prior) and task.prior.slides for task in tasks)
    assert sorted(tasks[0].prior.members) == ["fold_0", "fold_1"]
    record = storage.read_json(tmp_path / "out" / "fold_1" / "model.json")["prior"]
    assert (record["name"], record["version"]) == ("pan", "4")
    assert record["patients"] == sorted(hashed(f"O-{number:03}") for number in range(16))
    with pytest.raises(DataError, match="trained on 16 patients of the cohort"):
        train(*other, settings(prior="models:/pan@champion"), tmp_path / "leak")
    assert not (tmp_path / "leak").exists()


def test_the_number_of_workers_does_not_change_the_models(world, source, tmp_path):
    for workers in (1, 2):
        train(*world, settings(sources=[source], workers=workers), tmp_path / str(workers))
    for fold in ("fold_0", "fold_1"):
        one, two = ((tmp_path / workers / fold / "weights.safetensors").read_bytes() for workers in ("1", "2"))
        assert one == two


def test_a_prior_of_another_encoder_of_equal_width_has_its_slides_dropped(tmp_path, monkeypatch):
    target = factories.folders(tmp_path / "target")
    other = factories.folders(tmp_path / "other", patients=16, seed=4, prefix="O")
    for folders, encoder in ((target, "hed44"), (other, "conch")):
        set_encoder(folders[1], encoder)
    train(*other, settings(), tmp_path / "models")
    ensemble_files.assemble(tmp_path / "models", tmp_path / "ensemble")
    files = PriorFiles(str(tmp_path / "ensemble"), "pan", "4")
    monkeypatch.setattr(transfer_module, "fetch_prior", lambda address, scratch: files)
    tasks = record_tasks(training, monkeypatch)
    train(*target, settings(prior="models:/pan/4"), tmp_path / "out")
    assert [task.prior.slides for task in tasks] == [False, False]
    [member, *_] = tasks[0].prior.members.values()
    assert member.config.features == tasks[0].config.features
