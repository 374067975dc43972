"""The training pipeline with `search.nested: true` under kfp.local on real servers, and its runs in MLflow."""

import csv
import json
from pathlib import Path

import pytest
import yaml

from mcti.local import settings
from mcti.registry import tracking
from tests.stack import test_pipelines as pipelines
from tests.stack.small_project import make_raw_data

pytestmark = [pytest.mark.slow, pytest.mark.stack]
NAME, EPOCHS, TRIALS = "nested-search", 3, 2
CHANGES = {
    "search": {"trials": TRIALS, "epochs": 1, "nested": True, "parallel_trials": TRIALS, "experiment": NAME},
    "train": {**pipelines.PARAMS["train"], "epochs": EPOCHS, "patience": 5},
    "register": {"name": NAME, "experiment": NAME},
    "cluster": {"extract_shards": 1, "experiment": NAME},
}


@pytest.fixture(scope="module")
def folder(running, tmp_path_factory):
    """The results of the tasks of one run, by the folder of the task."""
    settings.activate(Path(running.folder).parent, force=True)  # the environment is restored at the end of the module
    project = tmp_path_factory.mktemp("nested search")
    (project / "params.yaml").write_text(yaml.safe_dump(pipelines.PARAMS | CHANGES), encoding="utf-8")
    make_raw_data(project, 16, 16)
    return pipelines.run_local(project, "training")[1]


def below(client, run_id, step):
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(ids, f"tags.`mlflow.parentRunId` = '{run_id}' and tags.`mcti.step` = '{step}'")
    return sorted(runs, key=lambda run: run.info.start_time)


@pytest.fixture(scope="module")
def parent(folder):
    """The MLflow run of the pipeline run."""
    with tracking.service() as client:
        number = client.get_experiment_by_name(NAME).experiment_id
        (run,) = client.search_runs([number], "tags.`mcti.step` = 'pipeline'")
        return run


def test_each_fold_is_trained_with_the_settings_of_its_own_search(folder):
    best = yaml.safe_load((folder / "search" / "best" / "best.yaml").read_text(encoding="utf-8"))["nested"]
    models = sorted(folder.glob("merge-models/whole/fold_*/model.json"))
    assert [path.parent.name for path in models] == ["fold_0", "fold_1"]
    for path, (number, part) in zip(models, sorted(best.items()), strict=True):
        model = json.loads(path.read_text(encoding="utf-8"))
        assert model["search"]["nested"]
        assert model["search"]["outer_fold"] == int(number)
        assert {name: model["params"][name] for name in part["settings"]} == part["settings"]


def test_the_searches_and_the_trainings_are_below_the_run_of_the_pipeline(folder, parent):
    with tracking.service() as client:
        studies = below(client, parent.info.run_id, "search")
        assert sorted(study.data.params["outer_fold"] for study in studies) == ["0", "1"]
        assert [len(below(client, study.info.run_id, "search")) for study in studies] == [TRIALS, TRIALS]
        trained = below(client, parent.info.run_id, "train")
        assert sorted(run.info.run_name for run in trained) == ["train fold_0", "train fold_1"]
        (registered,) = below(client, parent.info.run_id, "register")
        assert below(client, registered.info.run_id, "train") == [], "no curve is logged twice"
        for run in trained:
            assert_equal_to_files(client, run, folder / "merge-models" / "whole" / run.data.tags["mcti.fold"])


def assert_equal_to_files(client, run, fold):
    """Settings and learning curves of a run are those of the files of its fold."""
    model = json.loads((fold / "model.json").read_text(encoding="utf-8"))
    assert run.data.params["learning_rate"] == str(model["params"]["learning_rate"])
    assert run.data.params["bins.count"] == "2"
    rows = list(csv.DictReader((fold / "history.csv").open(encoding="utf-8", newline="")))
    assert len(rows) == EPOCHS
    names = {"loss": "train/loss", "c_index": "train/c_index", "validation": "validation/loss",
             "validation_c_index": "validation/c_index"}  # fmt: skip
    for column, metric in names.items():
        points = client.get_metric_history(run.info.run_id, metric)
        assert [(point.step, point.value) for point in points] == [
            (int(row["epoch"]), float(row[column])) for row in rows if row[column]
        ]
