"""How a run ends in MLflow: the last task and the exit task, over the words that a cluster was seen to use.

The states are those of Kubeflow Pipelines 2.17.0 (observed): the final status is COMPLETE, FAILED or RUNNING, its
message empty; kfp.local says SUCCEEDED or FAILED. MLflow and S3 are real servers, KFP's API is a double.
"""

import json
import types

import pytest
from kfp import dsl

from components.utilities.conclude import conclude, conclude_verdict
from components.utilities.outcome import outcome, release_lease
from mcti import s3, storage
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
        raise ValueError("less than nobody")
    return StepResult()


@pytest.fixture
def task(servers_of, request, monkeypatch):
    """The environment of a task of a run of its own; the id of that run."""
    name = f"kfp-{abs(hash(request.node.name))}"
    for key, value in {"RUN": name, "PIPELINE": "mcti-training@sha256:1", "EXPERIMENT": "outcome"}.items():
        monkeypatch.setenv(f"MCTI_{key}", value)
    for key in ("KF_PIPELINES_ENDPOINT", "ML_PIPELINE_SERVICE_HOST", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(key, raising=False)
    return name


@pytest.fixture
def api(task, monkeypatch):
    """A double of KFP's API that this task can ask: a function that says how the run stands there."""
    with fake_api.serving() as (address, state):
        monkeypatch.setenv("KF_PIPELINES_ENDPOINT", address)

        def stands(history, **tasks):
            details = [{"display_name": name.replace("_", "-"), "state": word} for name, word in tasks.items()]
            known = {"run_id": task, "state": "RUNNING", "state_history": HISTORY[history]}
            state.runs[task] = known | {"run_details": {"task_details": details}}

        yield stands


def exit_task(tmp_path, word, pipeline="training", remote=REMOTE):
    """Run the exit task of a pipeline as KFP does; its report."""
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
    """Run the last task of a branch."""
    reason = {
        "training": "promote: better",
        "nothing new": "nothing new: version 2 of m was trained on abc",
        "champion stays": "no rule of monitor fired: the champion stays",
    }
    conclude.python_func(reason[pipeline], remote, LEASE if pipeline != "training" else "")
    return reason[pipeline]


def ended(task):
    """State and tags of the run of MLflow that stands for the pipeline run."""
    with tracking.service() as client:
        run = client.get_run(tracking.parent(client))
        return run.info.status, run.data.tags


@pytest.mark.parametrize("word", ["COMPLETE", "RUNNING", "FAILED", "SUCCEEDED", None])
@pytest.mark.parametrize("pipeline", ["training", "retraining", "inference"])
def test_a_run_whose_last_task_ran_has_succeeded_whatever_the_final_status_says(task, tmp_path, pipeline, word):
    count(3)
    reason = last_task("training")
    report = exit_task(tmp_path, word, pipeline)
    assert (report["state"], report["reason"], report["reported"]) == ("FINISHED", reason, word or "")
    status, tags = ended(task)
    assert (status, tags["mcti.result"], tags["mcti.reason"]) == ("FINISHED", "FINISHED", reason)
    assert "mcti.error" not in tags


@pytest.mark.parametrize("branch", ["nothing new", "champion stays"])
def test_a_retraining_that_had_nothing_to_do_finished_and_says_why(task, tmp_path, branch):
    lease.acquire(LEASE, task, 4)
    reason = last_task(branch)
    assert exit_task(tmp_path, "RUNNING", "retraining")["reason"] == reason
    assert ended(task)[0] == "FINISHED"
    assert ended(task)[1]["mcti.reason"] == reason
    assert lease.acquire(LEASE, "the next run", 4).holder == "the next run"
    lease.release(LEASE, "the next run")


@pytest.mark.parametrize("pipeline", ["training", "retraining", "inference"])
@pytest.mark.parametrize(
    ("word", "failed"), [("FAILED", "train"), ("RUNNING", "train-driver")], ids=["in a task", "in a driver"]
)
def test_a_failed_run_is_failed_and_names_what_failed(task, api, tmp_path, pipeline, word, failed):
    count(3)
    api("running", ingest="SUCCEEDED", **{failed.replace("-", "_"): "FAILED", "root": "FAILED"})
    report = exit_task(tmp_path, word, pipeline)
    assert (report["state"], report["reason"]) == ("FAILED", f"failed: {failed}")
    assert ended(task)[0] == "FAILED"
    assert ended(task)[1]["mcti.error"] == f"failed: {failed}"


@pytest.mark.parametrize("pipeline", ["training", "retraining", "inference"])
def test_a_terminated_run_is_killed_where_the_history_says_so(task, api, tmp_path, pipeline):
    pipeline_run._open("count")  # its process was killed
    api("terminated", train="FAILED")
    assert exit_task(tmp_path, "RUNNING", pipeline)["state"] == "KILLED"
    assert ended(task)[0] == "KILLED"


@pytest.mark.parametrize("word", ["RUNNING", "FAILED", "COMPLETE"])
def test_without_kfps_api_a_run_without_a_marker_is_failed(task, tmp_path, word, monkeypatch):
    count(3)
    report = exit_task(tmp_path, word)
    assert (report["state"], report["source"]) == ("FAILED", "no marker of the last task")
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", "http://127.0.0.1:9")
    with pytest.warns(UserWarning, match="Kubeflow Pipelines does not report"):
        assert exit_task(tmp_path, word)["state"] == "FAILED"
    assert ended(task)[0] == "FAILED"


def test_the_marker_is_read_from_mlflow_where_there_is_no_remote(task, tmp_path):
    last_task("training", remote="")
    assert exit_task(tmp_path, "RUNNING", remote="")["source"] == "MLflow"
    assert ended(task)[0] == "FINISHED"


def test_the_marker_in_the_remote_counts_where_mlflow_was_away(task, tmp_path, monkeypatch):
    uri = pipeline_run.os.environ["MLFLOW_TRACKING_URI"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.warns(pipeline_run.TrackingUnavailable):
        last_task("training")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    exit_task(tmp_path, "RUNNING")
    assert ended(task)[0] == "FINISHED"


def test_a_marker_that_can_be_written_nowhere_fails_the_last_task(task, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(Exception, match="MLflow does not answer"):
        last_task("training", remote="")


@pytest.mark.parametrize(("word", "state"), [("SUCCEEDED", "FINISHED"), ("FAILED", "FAILED"), ("RUNNING", "UNKNOWN")])
def test_kfp_locals_words_count_where_there_is_neither_remote_nor_mlflow(task, tmp_path, monkeypatch, word, state):
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    conclude.python_func("done", "", "")
    assert exit_task(tmp_path, word, remote="")["state"] == state


def test_the_verdict_of_the_gate_is_the_reason(task, tmp_path):
    storage.write_json(tmp_path / "verdict", {"outcome": "rejected", "reason": "not better than the champion"})
    conclude_verdict.python_func(types.SimpleNamespace(path=str(tmp_path / "verdict")), REMOTE, "")
    assert exit_task(tmp_path, "COMPLETE")["reason"] == "rejected: not better than the champion"


def test_a_run_that_is_retried_opens_again_and_its_last_task_ends_it(task, tmp_path):
    """KFP's "retry" repeats failed tasks and what follows, but never the exit task."""
    lease.acquire(LEASE, task, 4)
    pipeline_run.tag_lease(LEASE, 4)
    with pytest.raises(ValueError, match="nobody"):
        count(-1)
    exit_task(tmp_path, "FAILED", "retraining")
    assert ended(task)[0] == "FAILED"
    assert pipeline_run._warn_on_error(lambda: pipeline_run._open("count"), "count")
    assert ended(task)[0] == "RUNNING"
    assert lease.acquire(LEASE, "another run", 4).holder == task, "the lease is held again"
    last_task("champion stays")
    status, tags = ended(task)
    assert (status, tags["mcti.result"]) == ("FINISHED", "FINISHED")
    assert not tags.get("mcti.error")
    assert lease.acquire(LEASE, "another run", 4).holder == "another run"
    lease.release(LEASE, "another run")


def test_a_step_that_fails_in_a_retried_run_ends_it_again(task, tmp_path):
    pipeline_run.tag_lease(LEASE, 4)
    exit_task(tmp_path, "FAILED")
    with pytest.raises(ValueError, match="nobody"):
        count(-1)
    status, tags = ended(task)
    assert (status, tags["mcti.error"]) == ("FAILED", "count: less than nobody")
    assert lease.acquire(LEASE, "another run", 4).holder == "another run", "its lease was given back"
    lease.release(LEASE, "another run")


def test_a_run_that_is_retried_yields_to_the_retraining_that_has_the_lease_by_now(task, tmp_path):
    count(3)
    pipeline_run.tag_lease(LEASE, 4)
    exit_task(tmp_path, "FAILED", "retraining")
    lease.acquire(LEASE, "another run", 4)
    with pytest.raises(LeaseTaken, match="run another run is retraining the model by now"):
        count(3)
    with pytest.raises(LeaseTaken), tracking.service(), tracking.run("outcome", "validate", {}):
        pass
    assert ended(task)[0] == "FAILED"
    s3.remove(LEASE)
