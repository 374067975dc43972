"""Settings and learning curves of trained folds on a real MLflow, compared with the files of the folds."""

import csv
import json
import warnings

import pytest

from mcti.params import RegisterParams
from mcti.registry import pipeline_run, tracking, training_runs
from mcti.registry.pipeline_run import tracked
from mcti.steps.register import register
from mcti.steps.result import StepResult
from tests.registry.factories import Run

PARAMS = {"epochs": 3, "bins": {"count": 2}, "modalities": "both"}


def write_history(models, epochs=3):
    """history.csv as `mcti train` writes it; the C of the first epoch of the validation part is undefined."""
    for number, folder in enumerate(sorted(models.glob("fold_*"))):
        spec = json.loads((folder / "model.json").read_text())
        (folder / "model.json").write_text(json.dumps(spec | {"params": PARAMS}))
        with (folder / "history.csv").open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["epoch", "loss", "c_index", "learning_rate", "validation", "validation_c_index"])
            for epoch in range(1, epochs + 1):
                c_index = "" if epoch == 1 else 0.5 + epoch / 1000
                writer.writerow([epoch, 1 / (epoch + number), 0.1 * epoch, 1e-3, 2 / epoch, c_index])


@pytest.fixture
def run(tmp_path):
    result = Run(tmp_path)
    write_history(result.models)
    return result


@tracked
def train(folders) -> StepResult:
    """A training task."""
    training_runs.log_in_task(folders)
    return StepResult()


def children(client, parent):
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    return client.search_runs(ids, f"tags.`mlflow.parentRunId` = '{parent}'")


def curve(client, run_id, metric):
    return [(point.step, point.value) for point in client.get_metric_history(run_id, metric)]


def assert_curves_of(client, run_id, folder):
    """Every number of history.csv is in the run, under its epoch, and nothing else."""
    rows = list(csv.DictReader((folder / "history.csv").open(newline="")))
    names = {"loss": "train/loss", "c_index": "train/c_index", "learning_rate": "learning_rate",
             "validation": "validation/loss", "validation_c_index": "validation/c_index"}  # fmt: skip
    for column, metric in names.items():
        expected = [(int(row["epoch"]), float(row[column])) for row in rows if row[column]]
        assert curve(client, run_id, metric) == expected
    assert set(client.get_run(run_id).data.metrics) == set(names.values())


def test_without_a_pipeline_run_a_training_logs_nothing(run, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # no server: a request would be an error
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(sorted(run.models.glob("fold_*")))


def test_a_training_task_ends_with_a_warning_when_mlflow_is_unavailable(run, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MCTI_RUN", "a run")
    with pytest.warns(pipeline_run.TrackingUnavailable, match="MLflow does not answer"):
        train(sorted(run.models.glob("fold_*")))


@pytest.mark.slow
@pytest.mark.stack
def test_register_logs_each_fold_below_its_run_once(run, servers_of, tmp_path):
    write_history(run.models, epochs=400)  # 1,999 numbers: more than one request of MLflow takes
    params = RegisterParams(name="curves", experiment="curves")
    result = register(run.models, run.evaluation, None, params, tmp_path / "r.json")
    assert register(run.models, run.evaluation, None, params, tmp_path / "r.json") == result
    with tracking.service() as client:
        runs = sorted(children(client, result.run_id), key=lambda child: child.info.run_name)
        assert [child.info.run_name for child in runs] == ["train fold_0", "train fold_1", "train fold_2"]
        for child, folder in zip(runs, sorted(run.models.glob("fold_*")), strict=True):
            assert child.data.params == {"epochs": "3", "bins.count": "2", "modalities": "both"}
            assert (child.data.tags["mcti.fold"], child.info.status) == (folder.name, "FINISHED")
            assert_curves_of(client, child.info.run_id, folder)


@pytest.mark.slow
@pytest.mark.stack
def test_a_task_logs_its_fold_and_register_only_the_others(run, servers_of, monkeypatch, tmp_path):
    """Fold 2 was taken from KFP's cache: no task of this run trained it."""
    for name, value in {"MCTI_RUN": f"curves of {tmp_path}", "MCTI_EXPERIMENT": "curves-of-tasks"}.items():
        monkeypatch.setenv(name, value)
    folders = sorted(run.models.glob("fold_*"))
    for folder in folders[:2]:
        train([folder])
    result = register(run.models, run.evaluation, None, RegisterParams(name="tasks"), tmp_path / "r.json")
    with tracking.service() as client:
        parent = client.get_run(result.run_id).data.tags["mlflow.parentRunId"]
        trained = {child.info.run_name: child for child in children(client, parent) if "mcti.fold" in child.data.tags}
        assert set(trained) == {"train fold_0", "train fold_1"}
        for folder in folders[:2]:
            assert_curves_of(client, trained[f"train {folder.name}"].info.run_id, folder)
            assert trained[f"train {folder.name}"].data.params["bins.count"] == "2"
        (cached,) = children(client, result.run_id)
        assert (cached.info.run_name, cached.data.tags["mcti.kfp_run"]) == ("train fold_2", f"curves of {tmp_path}")
        assert_curves_of(client, cached.info.run_id, folders[2])
