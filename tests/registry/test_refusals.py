"""An error in settings or data is computed once in a pipeline run, however often the engine tries again."""

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


def _fails(kind=DataError, **changes):
    given = {"cohort": "c", "params": SplitParams(), "out": Path("a"), **changes}
    with pytest.raises(kind) as caught:
        count(given.pop("cohort"), given.pop("params"), given.pop("out"), **given)
    return caught.value


@pytest.mark.parametrize("kind", [DataError, UsageError])
def test_the_second_attempt_ends_with_the_same_line_and_exit_code_and_computes_nothing(task, kind):
    first, second = _fails(kind, error=kind), _fails(kind, error=kind, out=Path("another attempt"))
    assert len(CALLS) == 1
    assert (str(second), second.exit_code, second.as_dict()) == (str(first), first.exit_code, first.as_dict())
    (record,) = (task / "runs" / "run-1" / "refused").iterdir()
    found = json.loads(record.read_text(encoding="utf-8"))
    assert record.name == f"count-{found['digest']}.json"
    assert (found["step"], found["exit_code"], found["message"]) == ("count", kind.exit_code, "no patient")
    assert found["valid_until"] == pytest.approx(found["time"] + 60)


@pytest.mark.parametrize("change", [{"cohort": "d"}, {"params": SplitParams(folds=3)}, {"shard": 1}])
def test_other_inputs_or_settings_are_computed(task, change):
    _fails()
    _fails(**change)
    assert len(CALLS) == 2


@pytest.mark.parametrize("kind", [OperationalError, Rejected, RuntimeError])
def test_what_may_go_well_next_time_is_computed_again(task, kind):
    for _ in range(2):
        _fails(kind, error=kind)
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


def test_outside_a_task_that_may_be_retried_nothing_is_kept(task, monkeypatch):
    monkeypatch.delenv("MCTI_RETRY_SECONDS")
    _fails()
    _fails()
    assert len(CALLS) == 2
    assert not task.exists()


def test_a_damaged_record_is_no_verdict(task):
    _fails()
    (record,) = (task / "runs" / "run-1" / "refused").iterdir()
    record.write_text("{", encoding="utf-8")
    _fails()
    assert len(CALLS) == 2


def test_where_no_place_can_be_reached_the_task_fails_as_before(task, monkeypatch):
    monkeypatch.setenv("MCTI_REMOTE", "s3://mcti-data/dvc")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    for _ in range(2):
        assert str(_fails()) == "no patient in cohort/patients.parquet, row 3: write one"
    assert len(CALLS) == 2
    refusals.clear()


@pytest.mark.slow
@pytest.mark.stack
@pytest.mark.parametrize("remote", ["s3://mcti-data/dvc", None], ids=["remote", "mlflow"])
def test_on_real_servers_records_are_found_and_the_exit_task_deletes_those_of_its_run(
    servers_of, task, monkeypatch, remote
):
    for name in ("MCTI_EXPERIMENT", "MCTI_PIPELINE"):
        monkeypatch.setenv(name, f"refusals-{'remote' if remote else 'mlflow'}")
    for run in ("run-a", "run-b"):
        monkeypatch.setenv("MCTI_RUN", run)
        if remote:
            monkeypatch.setenv("MCTI_REMOTE", remote)
        else:
            monkeypatch.delenv("MCTI_REMOTE", raising=False)
        assert str(_fails()) == str(_fails())
    assert len(CALLS) == 2, "once in each run"
    refusals.clear()
    _fails()
    monkeypatch.setenv("MCTI_RUN", "run-a")
    _fails()
    assert len(CALLS) == 3, "run-b is computed anew, run-a has its record"
    if remote:
        assert [address for address in storage.addresses(f"{remote}/runs/run-a/") if "/refused/count-" in address]
    else:
        with tracking.service() as client:
            tags = client.get_run(tracking.parent(client)).data.tags
        assert [name for name in tags if name.startswith("mcti.refused.count-")]
