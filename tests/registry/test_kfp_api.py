"""The state of a run as a task reads it from the API server."""

import pytest

from mcti.registry import kfp_api
from tests.pipelines import fake_api

RUN = {
    "run_id": "run-1",
    "state": "RUNNING",
    "state_history": [{"state": "RUNNING"}],
    "run_details": {
        "task_details": [
            {"display_name": "root", "state": "FAILED"},
            {"display_name": "for-loop-4", "state": "FAILED"},
            {"display_name": "iteration-iterations(0:0)", "state": "FAILED"},
            {"display_name": "train", "state": "FAILED"},
            {"display_name": "executor(0)", "state": "FAILED"},
            {"display_name": "evaluate-driver", "state": "FAILED"},
            {"display_name": "condition-5-driver", "state": "FAILED"},
            {"display_name": "condition-9-driver", "state": "SUCCEEDED"},
            {"display_name": "split-driver", "state": "SUCCEEDED"},
            {"display_name": "split", "state": "SUCCEEDED"},
            {"display_name": "conclude-driver", "state": "SUCCEEDED"},
            {"display_name": "conclude", "state": "RUNNING"},
            {"display_name": "promote"},
        ]
    },
}


@pytest.fixture
def server(monkeypatch, tmp_path):
    for name in ("KF_PIPELINES_ENDPOINT", "ML_PIPELINE_SERVICE_HOST", "ML_PIPELINE_SERVICE_PORT_HTTP"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
    with fake_api.serving() as (address, state):
        state.runs["run-1"] = RUN
        yield address, state


def test_without_an_address_no_request_is_sent(server):
    assert kfp_api.reported("run-1") is None
    assert server[1].requests == []


@pytest.mark.parametrize("source", ["address", "service"])
def test_failed_tasks_are_listed_without_structural_nodes(server, monkeypatch, source, tmp_path):
    address, state = server
    if source == "address":
        monkeypatch.setenv("KF_PIPELINES_ENDPOINT", f"{address}/")
    else:  # as Kubernetes announces the Service ml-pipeline to the pods of its namespace
        monkeypatch.setenv("ML_PIPELINE_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("ML_PIPELINE_SERVICE_PORT_HTTP", address.rpartition(":")[2])
    (tmp_path / "token").write_text("of-the-account\n", encoding="utf-8")
    run = kfp_api.reported("run-1")
    assert run.failed == ("condition-5-driver", "evaluate-driver", "train")
    assert run.succeeded == {"split"}
    assert not run.terminated
    assert state.requests[-1][2] == "Bearer of-the-account"


@pytest.mark.parametrize("status", ["CANCELING", "CANCELED"])
@pytest.mark.parametrize("where", ["state", "history"])
def test_a_run_is_terminated_if_its_state_or_its_history_shows_it(server, monkeypatch, status, where):
    address, state = server
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", address)
    history = [{"state": "RUNNING"}, {"state": status}, {"state": "FAILED"}]
    state.runs["run-1"] = RUN | ({"state": status} if where == "state" else {"state_history": history})
    assert kfp_api.reported("run-1").terminated


HISTORIES = {
    "retried and succeeded": ("SUCCEEDED", "PENDING RUNNING CANCELING FAILED RUNNING SUCCEEDED", False),
    "retried and failed": ("FAILED", "RUNNING CANCELING CANCELED PENDING RUNNING FAILED", False),
    "retried and running": ("RUNNING", "RUNNING CANCELING FAILED PENDING RUNNING", False),
    "retried and terminated": ("FAILED", "RUNNING CANCELING FAILED RUNNING CANCELING FAILED", True),
    "failed, retried, terminated": ("FAILED", "RUNNING FAILED RUNNING CANCELING FAILED", True),
    "a state reported late": ("FAILED", "RUNNING CANCELING RUNNING FAILED", True),
    "being terminated": ("CANCELING", "RUNNING FAILED RUNNING", True),
    "no history": ("FAILED", "", False),
}


@pytest.mark.parametrize(("now", "history", "terminated"), HISTORIES.values(), ids=HISTORIES)
def test_only_the_last_execution_of_a_run_counts(server, monkeypatch, now, history, terminated):
    address, state = server
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", address)
    state.runs["run-1"] = RUN | {"state": now, "state_history": [{"state": word} for word in history.split()]}
    assert kfp_api.reported("run-1").terminated is terminated


@pytest.mark.parametrize(
    "response", [(b"<html>", "text/html", 200), (b"{}", "application/json", 200), (b"", "text/plain", 503)]
)
def test_a_response_that_is_not_a_run_is_a_warning(server, monkeypatch, response):
    address, state = server
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", address)
    state.instead = response
    with pytest.warns(UserWarning, match="returned no run run-1"):
        assert kfp_api.reported("run-1") is None


def test_a_server_without_a_response_times_out(server, monkeypatch):
    address, state = server
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", address)
    monkeypatch.setattr(kfp_api, "SECONDS", 0.3)
    state.sleep = 2
    with pytest.warns(UserWarning, match="returned no run"):
        assert kfp_api.reported("run-1") is None
