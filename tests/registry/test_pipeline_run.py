"""One run of MLflow a pipeline run, its steps below it: on a real server."""

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


class Counted(StepResult):
    """A step's result."""

    patients: int


@tracked
def count(patients: int) -> Counted:
    """A step."""
    if patients < 0:
        raise DataError("less than nobody", "the cohort", "count again")
    if patients == 0:
        raise Rejected("nobody is not enough", "the gate", "find somebody")
    return Counted(patients=patients)


@pytest.fixture
def task(servers_of, request, monkeypatch):
    """The environment of a task of a pipeline run of its own; the id of that run."""
    name = f"kfp-{request.node.name}"[:60]
    for key, value in {"RUN": name, "PIPELINE": VERSION, "IMAGE": IMAGE, "EXPERIMENT": "noted"}.items():
        monkeypatch.setenv(f"MCTI_{key}", value)
    return name


def runs(task):
    """Its run, and those below."""
    with tracking.service() as client:
        number = client.get_experiment_by_name("noted").experiment_id
        found = client.search_runs([number], f"tags.`mcti.kfp_run` = '{task}'")
        parents = [run for run in found if run.data.tags["mcti.step"] == "pipeline"]
        return parents, [run for run in found if run.data.tags.get("mlflow.parentRunId")]


def test_a_step_is_a_run_below_that_of_the_pipeline_run_with_all_that_it_came_from(task):
    count(3)
    with tracking.service(), tracking.run("noted", "by itself", {"mcti.step": "validate"}):
        pass
    pipeline_run.tag_data_version("abc.dir")
    pipeline_run.close("FINISHED", "")
    (parent,), below = runs(task)
    told = {
        name: parent.data.tags[name] for name in ("mcti.kfp_run", "mcti.pipeline", "mcti.image", "mcti.data.source")
    }
    assert told == {
        "mcti.kfp_run": task, "mcti.pipeline": VERSION, "mcti.image": IMAGE, "mcti.data.source": "abc.dir",
    }  # fmt: skip
    assert len(parent.data.tags["mcti.commit"].removesuffix("-dirty")) == 40
    assert parent.info.status == "FINISHED"
    assert {run.data.tags["mcti.step"] for run in below} == {"count", "validate"}
    assert {run.data.tags["mlflow.parentRunId"] for run in below} == {parent.info.run_id}
    (counted,) = [run for run in below if run.data.tags["mcti.step"] == "count"]
    assert (counted.data.metrics, counted.info.status) == ({"patients": 3.0}, "FINISHED")
    assert counted.data.tags["mcti.image"] == IMAGE


def test_a_step_that_fails_and_a_run_that_was_cancelled_say_so(task):
    with pytest.raises(DataError):
        count(-1)
    pipeline_run.close("KILLED", "stopped by hand")
    (parent,), (below,) = runs(task)
    assert (parent.info.status, parent.data.tags["mcti.error"]) == ("KILLED", "stopped by hand")
    assert below.info.status == "FAILED"


def test_a_step_whose_process_was_killed_does_not_run_for_ever(task, monkeypatch):
    count(2)
    pipeline_run._open("count")  # and no more is heard of it
    pipeline_run.close("FAILED", "a node was lost")
    (parent,), below = runs(task)
    assert parent.info.status == "FAILED"
    assert sorted(run.info.status for run in below) == ["FINISHED", "KILLED"]
    monkeypatch.setenv("MCTI_RUN", f"{task}-beside")
    pipeline_run._open("count")
    monkeypatch.setenv("MCTI_RUN", task)
    pipeline_run.close("FAILED", "a node was lost")
    assert [run.info.status for run in runs(f"{task}-beside")[1]] == ["RUNNING"]


def test_a_no_of_the_gate_is_a_result(task):
    with pytest.raises(Rejected):
        count(0)
    _, (below,) = runs(task)
    assert below.info.status == "FINISHED"


def test_tasks_that_start_together_find_one_run(task):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count, range(1, 5)))
    parents, below = runs(task)
    assert len(parents) == 1
    assert {run.data.tags["mlflow.parentRunId"] for run in below} == {parents[0].info.run_id}


def test_a_run_that_kubeflow_opened_is_joined_and_left_open(task, monkeypatch):
    with tracking.service() as client:
        opened = client.create_run(tracking.experiment_id(client, "noted")).info.run_id
        monkeypatch.setenv("MLFLOW_RUN_ID", opened)
        count(5)
        pipeline_run.tag_data_version("def.dir")
        pipeline_run.close("FINISHED", "")
        found = client.get_run(opened)
    assert (found.data.metrics, found.info.status) == ({"patients": 5.0}, "RUNNING")
    assert found.data.tags["mcti.data.source"] == "def.dir"
    assert runs(task) == ([], [])


def test_under_kubeflows_mlflow_plugin_nothing_is_doubled(task, monkeypatch):
    """It opens one run a pipeline run, one below it a task, and ends both itself."""
    with tracking.service() as client:
        number = tracking.experiment_id(client, "noted")
        theirs = client.create_run(number, run_name="of the plugin").info.run_id
        opened = client.create_run(number, tags={"mlflow.parentRunId": theirs}).info.run_id
        monkeypatch.setenv("MLFLOW_RUN_ID", opened)
        count(5)
        with tracking.run("noted", "validate", {"mcti.step": "validate"}) as joined:
            assert joined == opened
        study = client.get_run(trials.open_study("noted", f"study of {task}", {}))
        pipeline_run.close("FAILED", "failed: train")
        above, found = client.get_run(theirs), client.get_run(opened)
    assert study.data.tags["mlflow.parentRunId"] == theirs
    assert found.data.tags["mcti.kfp_run"] == task, "it is found as one of ours is"
    assert (above.info.status, above.data.tags["mcti.result"]) == ("RUNNING", "FAILED"), "its end is Kubeflow's"
    assert runs(task)[0] == [], "no pipeline run of our own"


def test_a_run_of_another_mlflow_is_not_joined(task, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    count(5)
    assert capsys.readouterr().err.count("is no run of this MLflow: a run of our own is opened") == 1
    (parent,), (below,) = runs(task)
    assert below.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert below.data.metrics == {"patients": 5.0}


def test_without_mlflow_the_step_works_on_and_says_so(task, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.warns(pipeline_run.TrackingUnavailable, match="count is not noted in MLflow: MLflow does not answer"):
        assert count(3).patients == 3
    with pytest.warns(pipeline_run.TrackingUnavailable, match="the end of the run"):
        pipeline_run.close("FINISHED", "")


def test_outside_a_pipeline_nothing_is_noted(servers_of):
    assert "MCTI_RUN" not in os.environ
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert count(3).patients == 3
    with pytest.raises(OperationalError, match="no pipeline run is named"):
        pipeline_run.required_run_id()
