"""The steps `retry` and `retry-in-loop` of a rehearsal."""

import pytest
import yaml

from infra.rehearse import retry
from tests.infra.rehearsal import HOST, only, rehearse, set_state


def test_the_task_fails_at_its_first_attempt_only(monkeypatch):
    from mcti import s3

    existing = set()
    monkeypatch.setattr(s3, "exists", lambda address: address in existing)
    monkeypatch.setattr(s3, "put", lambda address, body: existing.add(address))
    with pytest.raises(SystemExit, match="on purpose"):
        retry.fails_once("s3://bucket/markers", "outside")
    retry.fails_once("s3://bucket/markers", "outside")
    with pytest.raises(SystemExit, match="on purpose"):
        retry.fails_once("s3://bucket/markers", "inside")


RETRY_STEPS = only("look", "install", "retry", "retry-in-loop")


def test_one_run_has_a_task_with_retries_outside_and_one_inside_a_loop(fake_cluster, capsys):
    assert rehearse(fake_cluster, *HOST, *RETRY_STEPS) == 0
    ((_, package, environment),) = fake_cluster.kfp.calls
    spec, platform = yaml.safe_load_all(package)
    outside, loop = sorted(spec["root"]["dag"]["tasks"].values(), key=lambda task: "parameterIterator" in task)
    (inside,) = spec["components"][loop["componentRef"]["name"]]["dag"]["tasks"].values()
    assert outside["retryPolicy"]["maxRetryCount"] == inside["retryPolicy"]["maxRetryCount"] == 2
    assert loop["parameterIterator"]["items"]["raw"] == '["inside"]'
    assert environment["arguments"]["folder"].startswith("s3://")
    pods = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values()
    assert [pod["secretAsEnv"][0]["secretName"] for pod in pods] == ["mcti-s3", "mcti-s3"]
    rows = [line for line in capsys.readouterr().out.splitlines() if "| SUCCEEDED after 2 attempts" in line]
    assert [row.split()[0] for row in rows] == ["retry", "retry-in-loop"]


@pytest.mark.parametrize(
    ("tasks", "row", "words"),
    [
        ({"fails-once-2:0": {"state": "FAILED", "attempts": 1}}, "retry-in-loop", "ignores retries inside ParallelFor"),
        ({"fails-once": {"state": "FAILED", "attempts": 1}}, "retry", "set COMPILED_PIPELINE_SPEC_PATCH"),
        ({"fails-once-2:0": {"state": "SKIPPED", "attempts": 0}}, "retry-in-loop", "the task did not run"),
        ({"fails-once": {"attempts": 1}}, "retry", "SUCCEEDED after 1 attempt"),
    ],
)
def test_each_of_the_two_tasks_has_a_separate_row(fake_cluster, capsys, tasks, row, words):
    set_state(fake_cluster, tasks=tasks)
    assert rehearse(fake_cluster, *HOST, *RETRY_STEPS) == 1
    (differs,) = [line for line in capsys.readouterr().out.splitlines() if "DIFFERS: " in line]
    assert differs.split()[0] == row
    assert words in differs
    set_state(fake_cluster, tasks={})
    assert rehearse(fake_cluster, *HOST, *only("retry-in-loop")) == 0
    assert len(fake_cluster.kfp.calls) == 2, "a second call submits a new run"
