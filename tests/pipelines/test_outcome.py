"""The end of a run in MLflow: the last task and the exit task, with the final states that a cluster reports.

The states are those of Kubeflow Pipelines 2.17.0 (observed): the final status is COMPLETE, FAILED or RUNNING, its
message empty; kfp.local reports SUCCEEDED or FAILED. MLflow and S3 are real servers, KFP's API is a fake.
"""

import json
import types

import pytest
from kfp import dsl

from mcti import s3, storage
from mcti.components.utilities.conclude import conclude, conclude_verdict
from mcti.components.utilities.outcome import outcome, release_lease
from mcti.params import RegisterParams
from mcti.registry import lease, pipeline_run, tracking
from mcti.registry.pipeline_run import tracked
from mcti.registry.resumption import LeaseTaken
from mcti.steps.result import StepResult
from tests.pipelines import fake_api

pytestmark = [pytest.mark.slow, pytest.mark.stack]
REMOTE = "s3://mcti-data/outcome-test"
LEASE = f"{REMOTE}/leases/out.json"
HISTORY = {
    "running": [{"state": "PENDING"}, {"state": "RUNNING"}],
    "terminated": [{"state": "PENDING"}, {"state": "RUNNING"}, {"state": "CANCELING"}],
}


@tracked
def count(patients: int) -> StepResult:
    """A step of the pipeline."""
    if patients < 0:
        raise ValueError("negative number of patients")
    return StepResult()


@pytest.fixture
def task(servers_of, request, monkeypatch):
    """Set the environment of a task of a new run, without concurrent tasks. Returns the id of the run."""
    name = f"kfp-{abs(hash(request.node.name))}"
    monkeypatch.setattr(tracking, "_SETTLE_SECONDS", 0)
    for key, value in {"RUN": name, "PIPELINE": "mcti-training@sha256:1", "EXPERIMENT": "outcome"}.items():
        monkeypatch.setenv(f"MCTI_{key}", value)
    for key in ("KF_PIPELINES_ENDPOINT", "ML_PIPELINE_SERVICE_HOST", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(key, raising=False)
    return name


@pytest.fixture
def api(task, monkeypatch):
    """A fake KFP API that the task reads: a function that sets history and task states of the run."""
    with fake_api.serving() as (address, state):
        monkeypatch.setenv("KF_PIPELINES_ENDPOINT", address)

        def set_run(history, **tasks):
            details = [{"display_name": name.replace("_", "-"), "state": word} for name, word in tasks.items()]
            run = {"run_id": task, "state": "RUNNING", "state_history": HISTORY[history]}
            state.runs[task] = run | {"run_details": {"task_details": details}}

        yield set_run


def exit_task(tmp_path, word, pipeline="training", remote=REMOTE):
    """Run the exit task of a pipeline as KFP does. Returns its report."""
    final_status = dsl.PipelineTaskFinalStatus(
        state=word,
        pipeline_job_resource_name="run",
        pipeline_task_name="exit-handler-1",
        error_code=None,
        error_message=None,
    )
    report = types.SimpleNamespace(path=str(tmp_path / "report"))
    if pipeline == "retraining":
        release_lease.python_func(
            final_status, RegisterParams(name="out").model_dump_json(by_alias=True), remote, report
        )
    else:
        outcome.python_func(final_status, remote, report)
    return json.loads((tmp_path / "report").read_text(encoding="utf-8"))


def last_task(pipeline, remote=REMOTE):
    """Run the last task of a branch. Returns its reason."""
    reason = {
        "training": "promote: better",
        "nothing new": "nothing new: version 2 of m was trained on abc",
        "champion is kept": "no rule of monitor fired: the champion is kept",
    }
    conclude.python_func(reason[pipeline], remote, LEASE if pipeline != "training" else "")
    return reason[pipeline]


def mlflow_run(task):
    """Status and tags of the MLflow run of the pipeline run."""
    with tracking.service() as client:
        run = client.get_run(tracking.parent(client))
        return run.info.status, run.data.tags


@pytest.mark.parametrize("word", ["COMPLETE", "RUNNING", "FAILED", "SUCCEEDED", None])
@pytest.mark.parametrize("pipeline", ["training", "retraining", "inference"])
def test_a_run_whose_last_task_ran_is_finished_for_every_final_status(task, tmp_path, pipeline, word):
    count(3)
    reason = last_task("training")
    report = exit_task(tmp_path, word, pipeline)
    assert (report["state"], report["reason"], report["reported"]) == ("FINISHED", reason, word or "")
    status, tags = mlflow_run(task)
    assert (status, tags["mcti.result"], tags["mcti.reason"]) == ("FINISHED", "FINISHED", reason)
    assert "mcti.error" not in tags


@pytest.mark.parametrize("branch", ["nothing new", "champion is kept"])
def test_a_retraining_without_a_new_version_is_finished_and_has_a_reason(task, tmp_path, branch):
    lease.acquire(LEASE, task, 4)
    reason = last_task(branch)
    assert exit_task(tmp_path, "RUNNING", "retraining")["reason"] == reason
    assert mlflow_run(task)[0] == "FINISHED"
    assert mlflow_run(task)[1]["mcti.reason"] == reason
    assert lease.acquire(LEASE, "the next run", 4).holder == "the next run"
    lease.release(LEASE, "the next run")


@pytest.mark.parametrize("pipeline", ["training", "retraining", "inference"])
@pytest.mark.parametrize(
    ("word", "failed"), [("FAILED", "train"), ("RUNNING", "train-driver")], ids=["in a task", "in a driver"]
)
def test_a_failed_run_names_the_failed_task(task, api, tmp_path, pipeline, word, failed):
    count(3)
    api("running", ingest="SUCCEEDED", **{failed.replace("-", "_"): "FAILED", "root": "FAILED"})
    report = exit_task(tmp_path, word, pipeline)
    assert (report["state"], report["reason"]) == ("FAILED", f"failed: {failed}")
    assert mlflow_run(task)[0] == "FAILED"
    assert mlflow_run(task)[1]["mcti.error"] == f"failed: {failed}"


@pytest.mark.parametrize("pipeline", ["training", "retraining", "inference"])
def test_a_run_with_a_terminated_history_is_killed(task, api, tmp_path, pipeline):
    pipeline_run._open("count")  # its process was killed
    api("terminated", train="FAILED")
    assert exit_task(tmp_path, "RUNNING", pipeline)["state"] == "KILLED"
    assert mlflow_run(task)[0] == "KILLED"


@pytest.mark.parametrize("word", ["RUNNING", "FAILED", "COMPLETE"])
def test_without_kfps_api_a_run_without_a_marker_is_failed(task, tmp_path, word, monkeypatch):
    count(3)
    report = exit_task(tmp_path, word)
    assert (report["state"], report["source"]) == ("FAILED", "no marker of the last task")
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", "http://127.0.0.1:9")
    with pytest.warns(UserWarning, match="the API of Kubeflow Pipelines at .* returned no run"):
        assert exit_task(tmp_path, word)["state"] == "FAILED"
    assert mlflow_run(task)[0] == "FAILED"


def test_the_marker_is_read_from_mlflow_where_there_is_no_remote(task, tmp_path):
    last_task("training", remote="")
    assert exit_task(tmp_path, "RUNNING", remote="")["source"] == "MLflow"
    assert mlflow_run(task)[0] == "FINISHED"


def test_the_marker_in_the_remote_is_used_after_an_outage_of_mlflow(task, tmp_path, monkeypatch):
    uri = pipeline_run.os.environ["MLFLOW_TRACKING_URI"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.warns(pipeline_run.TrackingUnavailable):
        last_task("training")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    exit_task(tmp_path, "RUNNING")
    assert mlflow_run(task)[0] == "FINISHED"


def test_the_last_task_fails_when_it_can_write_no_marker(task, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(Exception, match="MLflow does not answer"):
        last_task("training", remote="")


@pytest.mark.parametrize(("word", "state"), [("SUCCEEDED", "FINISHED"), ("FAILED", "FAILED"), ("RUNNING", "UNKNOWN")])
def test_the_state_of_kfp_local_is_used_without_remote_and_mlflow(task, tmp_path, monkeypatch, word, state):
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    conclude.python_func("done", "", "")
    assert exit_task(tmp_path, word, remote="")["state"] == state


def test_the_verdict_of_the_gate_is_the_reason(task, tmp_path):
    storage.write_json(tmp_path / "verdict", {"outcome": "rejected", "reason": "not better than the champion"})
    conclude_verdict.python_func(types.SimpleNamespace(path=str(tmp_path / "verdict")), REMOTE, "")
    assert exit_task(tmp_path, "COMPLETE")["reason"] == "rejected: not better than the champion"


def test_a_run_that_is_retried_opens_again_and_its_last_task_ends_it(task, tmp_path):
    """KFP's "retry" repeats failed tasks and later ones, but never the exit task."""
    lease.acquire(LEASE, task, 4)
    pipeline_run.tag_lease(LEASE, 4)
    with pytest.raises(ValueError, match="negative number"):
        count(-1)
    exit_task(tmp_path, "FAILED", "retraining")
    assert mlflow_run(task)[0] == "FAILED"
    assert pipeline_run.warn_on_error(lambda: pipeline_run._open("count"), "count")
    assert mlflow_run(task)[0] == "RUNNING"
    assert lease.acquire(LEASE, "another run", 4).holder == task, "the lease is held again"
    last_task("champion is kept")
    status, tags = mlflow_run(task)
    assert (status, tags["mcti.result"]) == ("FINISHED", "FINISHED")
    assert not tags.get("mcti.error")
    assert lease.acquire(LEASE, "another run", 4).holder == "another run"
    lease.release(LEASE, "another run")


def test_a_step_that_fails_in_a_retried_run_ends_it_again(task, tmp_path):
    pipeline_run.tag_lease(LEASE, 4)
    exit_task(tmp_path, "FAILED")
    with pytest.raises(ValueError, match="negative number"):
        count(-1)
    status, tags = mlflow_run(task)
    assert (status, tags["mcti.error"]) == ("FAILED", "count: negative number of patients")
    assert lease.acquire(LEASE, "another run", 4).holder == "another run", "its lease was released"
    lease.release(LEASE, "another run")


def test_a_retried_run_fails_while_another_retraining_has_the_lease(task, tmp_path):
    count(3)
    pipeline_run.tag_lease(LEASE, 4)
    exit_task(tmp_path, "FAILED", "retraining")
    lease.acquire(LEASE, "another run", 4)
    with pytest.raises(LeaseTaken, match="run another run is retraining the model"):
        count(3)
    with pytest.raises(LeaseTaken), tracking.service(), tracking.run("outcome", "validate", {}):
        pass
    assert mlflow_run(task)[0] == "FAILED"
    s3.remove(LEASE)
