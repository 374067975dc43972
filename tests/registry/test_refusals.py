"""An error in settings or data is computed once per pipeline run, for any number of retries."""

import json
import time
from pathlib import Path

import pytest

from mcti import storage
from mcti.errors import DataError, OperationalError, Rejected, UsageError
from mcti.params import SplitParams
from mcti.registry import pipeline_run, refusals, tracking
from mcti.steps.result import StepResult


class Counted(StepResult):
    """A step's result."""

    patients: int


CALLS: list[object] = []


@pipeline_run.tracked
def count(
    cohort: str, params: SplitParams, out: Path, *, shard: int = 0, error: type[Exception] = DataError
) -> Counted:
    """A step that fails."""
    CALLS.append((cohort, params.folds, shard))
    raise error("no patient", "cohort/patients.parquet, row 3", "write one")


@pytest.fixture
def task(tmp_path, monkeypatch):
    """The environment of a task that may be retried, with a folder in place of the remote."""
    for name, value in {"RUN": "run-1", "RETRY_SECONDS": "60", "REMOTE": str(tmp_path / "remote")}.items():
        monkeypatch.setenv(f"MCTI_{name}", value)
    CALLS.clear()
    return tmp_path / "remote"


def _fails(expected=DataError, **changes):
    arguments = {"cohort": "c", "params": SplitParams(), "out": Path("a"), **changes}
    with pytest.raises(expected) as caught:
        count(arguments.pop("cohort"), arguments.pop("params"), arguments.pop("out"), **arguments)
    return caught.value


@pytest.mark.parametrize("error", [DataError, UsageError])
def test_the_second_attempt_ends_with_the_same_line_and_exit_code_and_computes_nothing(task, error):
    first, second = _fails(error, error=error), _fails(error, error=error, out=Path("another attempt"))
    assert len(CALLS) == 1
    assert (str(second), second.exit_code, second.as_dict()) == (str(first), first.exit_code, first.as_dict())
    (record,) = (task / "runs" / "run-1" / "refused").iterdir()
    stored = json.loads(record.read_text(encoding="utf-8"))
    assert record.name == f"count-{stored['digest']}.json"
    assert (stored["step"], stored["exit_code"], stored["message"]) == ("count", error.exit_code, "no patient")
    assert stored["valid_until"] == pytest.approx(stored["time"] + 60)


@pytest.mark.parametrize("change", [{"cohort": "d"}, {"params": SplitParams(folds=3)}, {"shard": 1}])
def test_other_inputs_or_settings_are_computed(task, change):
    _fails()
    _fails(**change)
    assert len(CALLS) == 2


@pytest.mark.parametrize("error", [OperationalError, Rejected, RuntimeError])
def test_an_error_that_a_retry_may_not_repeat_is_computed_again(task, error):
    for _ in range(2):
        _fails(error, error=error)
    assert len(CALLS) == 2
    assert not task.exists()


def test_another_run_and_an_expired_record_are_computed(task, monkeypatch):
    _fails()
    monkeypatch.setenv("MCTI_RUN", "run-2")
    _fails()
    now = time.time()
    monkeypatch.setattr(refusals.time, "time", lambda: now + 61)
    _fails()
    assert len(CALLS) == 3


def test_outside_a_task_with_retries_nothing_is_stored(task, monkeypatch):
    monkeypatch.delenv("MCTI_RETRY_SECONDS")
    _fails()
    _fails()
    assert len(CALLS) == 2
    assert not task.exists()


def test_a_damaged_record_is_ignored(task):
    _fails()
    (record,) = (task / "runs" / "run-1" / "refused").iterdir()
    record.write_text("{", encoding="utf-8")
    _fails()
    assert len(CALLS) == 2


def test_without_a_reachable_store_the_task_is_computed_again(task, monkeypatch):
    monkeypatch.setenv("MCTI_REMOTE", "s3://mcti-data/dvc")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    for _ in range(2):
        assert str(_fails()) == "no patient in cohort/patients.parquet, row 3: write one"
    assert len(CALLS) == 2
    refusals.clear()


@pytest.mark.parametrize("remote", [None, "s3://mcti-data/dvc"], ids=["no remote", "remote"])
def test_a_local_run_keeps_its_records_in_its_folder_until_its_end(task, tmp_path, monkeypatch, remote):
    """No server is configured: a request to the remote would fail."""
    monkeypatch.delenv("MCTI_REMOTE")
    if remote:
        monkeypatch.setenv("MCTI_REMOTE", remote)
    monkeypatch.setenv("MCTI_REFUSALS", str(tmp_path / "refused"))
    assert str(_fails()) == str(_fails())
    assert len(CALLS) == 1
    assert [path.name.partition("-")[0] for path in (tmp_path / "refused").iterdir()] == ["count"]
    refusals.clear()
    assert not (tmp_path / "refused").exists()
    _fails()
    assert len(CALLS) == 2


def test_the_log_names_an_error_of_an_earlier_attempt(task, caplog):
    with caplog.at_level("INFO", logger="mcti"):
        _fails()
        assert not caplog.messages
        _fails()
    assert caplog.messages == ["count is not computed again: an earlier attempt of this task ended with this error"]


@pytest.mark.slow
@pytest.mark.stack
@pytest.mark.parametrize("remote", ["s3://mcti-data/dvc", None], ids=["remote", "mlflow"])
def test_real_servers_store_records_and_the_exit_task_deletes_those_of_its_run(servers_of, task, monkeypatch, remote):
    for name in ("MCTI_EXPERIMENT", "MCTI_PIPELINE"):
        monkeypatch.setenv(name, f"refusals-{'remote' if remote else 'mlflow'}")
    for run in ("run-a", "run-b"):
        monkeypatch.setenv("MCTI_RUN", run)
        if remote:
            monkeypatch.setenv("MCTI_REMOTE", remote)
        else:
            monkeypatch.delenv("MCTI_REMOTE", raising=False)
        assert str(_fails()) == str(_fails())
    assert len(CALLS) == 2, "once per run"
    refusals.clear()
    _fails()
    monkeypatch.setenv("MCTI_RUN", "run-a")
    _fails()
    assert len(CALLS) == 3, "run-b is computed again, run-a has its record"
    if remote:
        assert [address for address in storage.addresses(f"{remote}/runs/run-a/") if "/refused/count-" in address]
    else:
        with tracking.service() as client:
            tags = client.get_run(tracking.parent(client)).data.tags
        assert [name for name in tags if name.startswith("mcti.refused.count-")]
