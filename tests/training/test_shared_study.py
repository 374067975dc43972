"""Workers on one study in PostgreSQL: no trial runs twice, a lost one is retried, the server may be unavailable."""

import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter

import pytest

from mcti.errors import OperationalError
from mcti.training import search, shared_study
from mcti.training.shared_study import SharedStudy, StorageUnavailable, driver_url, is_shared, without_password
from tests.training.postgres import Server
from tests.training.test_search import plan, score


@pytest.fixture(scope="module")
def server():
    with Server() as shared:
        yield shared


def study(server, name, heartbeat=1, wait=1.0, **changes):
    with search.quiet():
        return SharedStudy(plan(**changes), server.url, name, heartbeat_seconds=heartbeat, wait_minutes=wait)


# Workers as processes: one process imports, then forks. Each score is a line in a file, so that a trial that is scored
# twice is detected.
WORKERS = """
import os, sys, time, warnings
import optuna, sqlalchemy, psycopg, optuna.storages
from mcti.training import search, shared_study
from tests.training.test_search import plan, score
url, name, log, count, seconds, heartbeat = sys.argv[1:7]
def scored(trial, inner):
    time.sleep(float(seconds))
    with open(log, "a") as stream:
        stream.write(f"{trial.number} {inner} {os.getpid()}\\n")
    return score(trial.settings, inner)
children = []
for _ in range(int(count)):
    child = os.fork()
    if child == 0:
        with search.quiet():
            shared = shared_study.SharedStudy(plan(), url, name, heartbeat_seconds=int(heartbeat), wait_minutes=2)
            shared.work(scored, lambda trial: None, lambda: False)
        os._exit(0)
    children.append(child)
sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""


def workers(server, name, log, count, seconds=0.02, heartbeat=30):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", WORKERS, server.url, name, str(log), str(count), str(seconds), str(heartbeat)]
    return subprocess.Popen(command, env=environment, start_new_session=True)


def scored(log):
    return [tuple(map(int, line.split()[:2])) for line in log.read_text().splitlines()]


@pytest.mark.slow
def test_three_processes_share_the_trials_and_none_is_run_twice(server, tmp_path):
    log = tmp_path / "log"
    assert workers(server, "study-0000001", log, 3).wait(400) == 0
    trials = study(server, "study-0000001").trials()
    assert [trial.number for trial in trials] == list(range(10))
    assert {trial.state for trial in trials} <= {"complete", "pruned"}
    assert max(Counter(scored(log)).values()) == 1
    assert len({line.split()[2] for line in log.read_text().splitlines()}) > 1
    assert trials[0].settings == {"x": 0.1, "kind": "b"}


@pytest.mark.slow
def test_a_killed_worker_s_trial_is_retried_once_from_the_folds_it_had(server, tmp_path):
    log = tmp_path / "log"
    victim = workers(server, "study-0000002", log, 1, seconds=0.5, heartbeat=2)
    while not log.exists():
        time.sleep(0.02)
    os.killpg(victim.pid, signal.SIGKILL)
    victim.wait()
    lines = scored(log)
    killed = sum(number == lines[-1][0] for number, _ in lines)  # folds of the lost trial
    shared = study(server, "study-0000002")
    shared.work(lambda trial, inner: score(trial.settings, inner), lambda trial: None, lambda: False)
    trials = shared.trials()
    assert len(trials) == 10
    lost = [t for t in shared.study.get_trials(deepcopy=False) if t.state.name == "FAIL"]
    assert len(lost) == 1
    again = [
        t for t in shared.study.get_trials(deepcopy=False) if lost[0].number in t.system_attrs.get("retry_history", [])
    ]
    assert len(again) == 1
    assert again[0].params == lost[0].params
    assert len(again[0].intermediate_values) >= killed
    assert again[0].number in {trial.number for trial in trials}
    assert lost[0].number not in {trial.number for trial in trials}


def test_a_trial_lost_twice_stays_failed(server):
    shared = study(server, "study-0000003", trials=1)
    for _ in range(2):
        assert shared._claim(may_start=True) is not None
        time.sleep(2.2)  # two missed heartbeats of one second
    assert shared._claim(may_start=True) is None
    assert [trial.state for trial in shared.trials()] == ["failed"]


def test_a_slow_worker_whose_trial_was_reassigned_continues_with_another(server):
    shared = study(server, "study-0000009", trials=2)

    def scoring(trial, inner):
        if trial.number == 0 and inner == 0:
            shared.study.tell(0, state=shared.optuna.trial.TrialState.FAIL)  # as another worker would
        return score(trial.settings, inner)

    with pytest.warns(shared_study.TrialReassigned, match="trial 0 was reassigned to another worker"):
        shared.work(scoring, lambda trial: None, lambda: False)
    assert [trial.state for trial in shared.trials()] == ["failed", "complete"]


def test_a_trial_without_any_heartbeat_is_reassigned(server):
    """Its worker ended, or lost the server, between the claim of the trial and the first heartbeat."""
    shared = study(server, "study-0000004", trials=1)
    shared.study.ask()
    assert shared._claim(may_start=True) is None
    time.sleep(2.2)
    number = shared._claim(may_start=True)
    assert number is not None
    shared.work(lambda trial, inner: 0.5, lambda trial: None, lambda: True)


def test_a_stopped_worker_returns_its_trial_with_its_scores(server):
    shared, scored_folds = study(server, "study-0000005", trials=2), []

    def scoring(trial, inner):
        scored_folds.append((trial.number, inner))
        return score(trial.settings, inner)

    shared.work(scoring, lambda trial: None, lambda: len(scored_folds) == 2)
    assert scored_folds == [(0, 0), (0, 1)]
    shared.work(scoring, lambda trial: None, lambda: False)
    assert [inner for _, inner in scored_folds[2:3]] == [2]  # the fold that was missing, and no other
    assert len(shared.trials()) == 2


def test_a_diverged_trial_fails_and_is_not_retried(server):
    shared = study(server, "study-0000006", trials=2)
    shared.work(lambda trial, inner: float("nan") if trial.number == 0 else 0.6, lambda trial: None, lambda: False)
    assert [trial.state for trial in shared.trials()] == ["failed", "complete"]


@pytest.mark.slow
def test_an_unavailable_server_is_waited_for_and_the_study_resumes(server):
    shared, away = study(server, "study-0000007"), []

    def scoring(trial, inner):
        if (trial.number, inner) == (2, 1) and not away:
            server.stop()
            away.append(threading.Timer(3, server.start))
            away[0].start()
        return score(trial.settings, inner)

    with pytest.warns(StorageUnavailable, match=r"does not answer: retrying in \d"):
        shared.work(scoring, lambda trial: None, lambda: False)
    away[0].join()
    trials = shared.trials()
    assert len(trials) == 10
    assert {trial.state for trial in trials} <= {"complete", "pruned"}


@pytest.mark.filterwarnings("ignore::mcti.training.shared_study.StorageUnavailable")
def test_a_server_that_remains_unavailable_is_one_clear_error():
    url = "postgresql://me:secret@127.0.0.1:1/none"
    with pytest.raises(OperationalError, match="PostgreSQL does not answer") as caught:
        SharedStudy(plan(), url, "study-0000008", heartbeat_seconds=1, wait_minutes=0.01)
    assert "secret" not in str(caught.value)
    assert caught.value.where == "postgresql://me:…@127.0.0.1:1/none"


@pytest.mark.parametrize(
    ("valid", "invalid"), [("/postgres", "/nowhere"), ("mcti@", "nobody-here@")], ids=["database", "user"]
)
def test_a_server_that_refuses_is_one_clear_error_at_once_and_not_waited_for(server, valid, invalid):
    url = server.url.replace(valid, invalid)
    with warnings.catch_warnings():
        warnings.simplefilter("error", StorageUnavailable)
        with pytest.raises(OperationalError, match=r"refuses the connection .*does not exist"):
            SharedStudy(plan(), url, "study-0000012", heartbeat_seconds=1, wait_minutes=0.05)


def test_addresses():
    assert is_shared("postgresql://a/b")
    assert not is_shared("sqlite:///x.db")
    assert not is_shared(None)
    assert driver_url("postgres://u@h/d") == driver_url("postgresql://u@h/d") == "postgresql+psycopg://u@h/d"
    assert without_password("postgresql://u@h/d") == "postgresql://u@h/d"
