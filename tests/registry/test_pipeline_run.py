"""One run of MLflow per pipeline run, with its steps as child runs, on a real server."""

import os
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

from mcti.errors import DataError, OperationalError, Rejected
from mcti.registry import pipeline_run, tracking, trials
from mcti.registry.pipeline_run import tracked
from mcti.steps.result import StepResult

pytestmark = [pytest.mark.slow, pytest.mark.stack]
IMAGE = "registry.example/mcti-python@sha256:" + "0" * 64
VERSION = "mcti-training@sha256:" + "1" * 64
SETTLE_SECONDS = tracking._SETTLE_SECONDS


class Counted(StepResult):
    """A step's result."""

    patients: int


@tracked
def count(patients: int) -> Counted:
    """A step."""
    if patients < 0:
        raise DataError("negative count", "the cohort", "count again")
    if patients == 0:
        raise Rejected("too few patients", "the gate", "add patients")
    return Counted(patients=patients)


@pytest.fixture
def task(servers_of, request, monkeypatch):
    """The environment of a task of a pipeline run of its own, without concurrent tasks; the id of that run."""
    name = f"kfp-{request.node.name}"[:60]
    monkeypatch.setattr(tracking, "_SETTLE_SECONDS", 0)
    for key, value in {"RUN": name, "PIPELINE": VERSION, "IMAGE": IMAGE, "EXPERIMENT": "tracked"}.items():
        monkeypatch.setenv(f"MCTI_{key}", value)
    return name


def runs(task):
    """The run of the pipeline run, and its child runs."""
    with tracking.service() as client:
        number = client.get_experiment_by_name("tracked").experiment_id
        all_runs = client.search_runs([number], f"tags.`mcti.kfp_run` = '{task}'")
        parents = [run for run in all_runs if run.data.tags["mcti.step"] == "pipeline"]
        return parents, [run for run in all_runs if run.data.tags.get("mlflow.parentRunId")]


def test_a_step_is_a_child_run_of_the_pipeline_run_with_its_origin(task):
    count(3)
    with tracking.service(), tracking.run("tracked", "validation", {"mcti.step": "validate"}):
        pass
    pipeline_run.tag_data_version("abc.dir")
    pipeline_run.close("FINISHED", "")
    (parent,), below = runs(task)
    origin = {
        name: parent.data.tags[name] for name in ("mcti.kfp_run", "mcti.pipeline", "mcti.image", "mcti.data.source")
    }
    assert origin == {
        "mcti.kfp_run": task, "mcti.pipeline": VERSION, "mcti.image": IMAGE, "mcti.data.source": "abc.dir",
    }  # fmt: skip
    assert len(parent.data.tags["mcti.commit"].removesuffix("-dirty")) == 40
    assert parent.info.status == "FINISHED"
    assert {run.data.tags["mcti.step"] for run in below} == {"count", "validate"}
    assert {run.data.tags["mlflow.parentRunId"] for run in below} == {parent.info.run_id}
    (counted,) = [run for run in below if run.data.tags["mcti.step"] == "count"]
    assert (counted.data.metrics, counted.info.status) == ({"patients": 3.0}, "FINISHED")
    assert counted.data.tags["mcti.image"] == IMAGE


def test_a_failed_step_and_a_cancelled_run_are_recorded(task):
    with pytest.raises(DataError):
        count(-1)
    pipeline_run.close("KILLED", "terminated by a user")
    (parent,), (below,) = runs(task)
    assert (parent.info.status, parent.data.tags["mcti.error"]) == ("KILLED", "terminated by a user")
    assert below.info.status == "FAILED"


def test_the_run_of_a_killed_step_is_ended(task, monkeypatch):
    count(2)
    pipeline_run._open("count")  # its process is killed
    pipeline_run.close("FAILED", "a node was lost")
    (parent,), below = runs(task)
    assert parent.info.status == "FAILED"
    assert sorted(run.info.status for run in below) == ["FINISHED", "KILLED"]
    monkeypatch.setenv("MCTI_RUN", f"{task}-other")
    pipeline_run._open("count")
    monkeypatch.setenv("MCTI_RUN", task)
    pipeline_run.close("FAILED", "a node was lost")
    assert [run.info.status for run in runs(f"{task}-other")[1]] == ["RUNNING"]


def test_a_rejection_by_the_gates_is_a_result(task):
    with pytest.raises(Rejected):
        count(0)
    _, (below,) = runs(task)
    assert below.info.status == "FINISHED"


def test_concurrent_tasks_use_one_run(task, monkeypatch):
    monkeypatch.setattr(tracking, "_SETTLE_SECONDS", SETTLE_SECONDS)
    with warnings.catch_warnings(), ThreadPoolExecutor(4) as pool:
        warnings.simplefilter("error", pipeline_run.TrackingUnavailable)
        list(pool.map(count, range(1, 5)))
    parents, below = runs(task)
    assert len(parents) == 1
    assert {run.data.tags["mlflow.parentRunId"] for run in below} == {parents[0].info.run_id}


def test_a_run_that_a_slow_request_created_later_is_not_used(task):
    """Its start is earlier, because the client sets it before its request."""
    with tracking.service() as client:
        used = tracking.parent(client)
        run = client.get_run(used)
        tags = {key: run.data.tags[key] for key in ("mcti.kfp_run", "mcti.step")}
        late = client.create_run(run.info.experiment_id, start_time=run.info.start_time - 500, tags=tags).info.run_id
        assert tracking.parent(client) == used
        client.delete_run(used)
        assert tracking.parent(client) == late, "no other run is settled"


def test_a_run_that_kubeflow_created_is_joined_and_not_ended(task, monkeypatch):
    with tracking.service() as client:
        opened = client.create_run(tracking.experiment_id(client, "tracked")).info.run_id
        monkeypatch.setenv("MLFLOW_RUN_ID", opened)
        count(5)
        pipeline_run.tag_data_version("def.dir")
        pipeline_run.close("FINISHED", "")
        joined = client.get_run(opened)
    assert (joined.data.metrics, joined.info.status) == ({"patients": 5.0}, "RUNNING")
    assert joined.data.tags["mcti.data.source"] == "def.dir"
    assert runs(task) == ([], [])


def test_with_kubeflows_mlflow_plugin_no_run_is_duplicated(task, monkeypatch):
    """The plugin creates one run per pipeline run and one child per task, and ends both."""
    with tracking.service() as client:
        number = tracking.experiment_id(client, "tracked")
        parent = client.create_run(number, run_name="of the plugin").info.run_id
        opened = client.create_run(number, tags={"mlflow.parentRunId": parent}).info.run_id
        monkeypatch.setenv("MLFLOW_RUN_ID", opened)
        count(5)
        with tracking.run("tracked", "validate", {"mcti.step": "validate"}) as joined:
            assert joined == opened
        study = client.get_run(trials.open_study("tracked", f"study of {task}", {}))
        pipeline_run.close("FAILED", "failed: train")
        parent_run, task_run = client.get_run(parent), client.get_run(opened)
    assert study.data.tags["mlflow.parentRunId"] == parent
    assert task_run.data.tags["mcti.kfp_run"] == task, "it has the tags of our own runs"
    assert (parent_run.info.status, parent_run.data.tags["mcti.result"]) == ("RUNNING", "FAILED"), (
        "Kubeflow ends its run"
    )
    assert runs(task)[0] == [], "no pipeline run of our own"


def test_a_run_of_another_mlflow_is_not_joined(task, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    count(5)
    assert capsys.readouterr().err.count("MLflow has no run " + "0" * 32) == 1
    (parent,), (below,) = runs(task)
    assert below.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert below.data.metrics == {"patients": 5.0}


def test_without_mlflow_the_step_continues_with_a_warning(task, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.warns(pipeline_run.TrackingUnavailable, match="count is not logged in MLflow: MLflow does not answer"):
        assert count(3).patients == 3
    with pytest.warns(pipeline_run.TrackingUnavailable, match="the end of the run"):
        pipeline_run.close("FINISHED", "")


def test_outside_a_pipeline_nothing_is_logged(servers_of):
    assert "MCTI_RUN" not in os.environ
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert count(3).patients == 3
    with pytest.raises(OperationalError, match="the id of the pipeline run is missing"):
        pipeline_run.required_run_id()
