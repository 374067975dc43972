"""A rehearsal against programs that record how they are called: fixtures and helpers of its tests."""

import contextlib
import gzip
import io
import json
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from infra.rehearse import __main__ as rehearsal
from infra.rehearse import backup, retry, runs, shell, work
from infra.rehearse.steps import OFFLINE, STEPS

FAKES = Path(__file__).parent / "fakes"
CLUSTER = [step.name for step in STEPS if step.name not in OFFLINE]
HOST = ("--host", "http://localhost:8888")


class Clock:
    """A clock that a wait moves on at once."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += max(seconds, 0.5)
        time.sleep(0.1)  # a program that was started needs some time of ours


class Kfp:
    """What the rehearsal asks of the SDK: runs by the clock, and a run of one task."""

    def __init__(self):
        self.calls, self.runs = [], ["old"]

    def get_experiment(self, **_):
        return SimpleNamespace(experiment_id="e")

    def list_runs(self, **_):
        runs = [SimpleNamespace(run_id=run) for run in self.runs]
        self.runs = ["old", "by-the-clock"]
        return SimpleNamespace(runs=runs)

    def disable_recurring_run(self, schedule):
        self.calls.append(("disable", schedule))

    def delete_recurring_run(self, schedule):
        self.calls.append(("delete", schedule))

    def create_run_from_pipeline_package(self, package, **environment):
        self.calls.append(("run", Path(package).read_text(encoding="utf-8"), environment))
        return SimpleNamespace(run_id="fails-once")


def programs(folder):
    """The programs, run by this Python without its packages: they start in a few milliseconds."""
    folder.mkdir()
    for source in FAKES.iterdir():
        program = folder / source.name
        program.write_text(f"#!{sys.executable} -SE\n{source.read_text(encoding='utf-8')}", encoding="utf-8")
        program.chmod(0o755)
    return folder


def edge_in(tmp_path, monkeypatch):
    """The programs on PATH, Kubeflow's client, MLflow's answer; no painting, no waiting."""
    monkeypatch.setenv("PATH", f"{programs(tmp_path / 'bin')}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_STATE", str(tmp_path / "state.json"))
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "log"))
    kfp = Kfp()
    monkeypatch.setattr(runs, "client_of", lambda session: kfp)
    monkeypatch.setattr(retry, "client_of", lambda session: kfp)
    monkeypatch.setattr(runs, "run_status", lambda *_: "FINISHED")
    monkeypatch.setattr(work, "write_cohort", lambda session, *_: session.work / "data/raw")
    monkeypatch.setattr(shell, "time", Clock())
    stored = iter(range(1000))
    monkeypatch.setattr(
        backup, "listed", lambda *_: [f"s3://mcti-backup/postgresql/{n}.sql.gz" for n in range(2 * next(stored))]
    )
    monkeypatch.setattr(backup, "fetch", lambda *_: gzip.compress(b"SELECT 1;"))
    return SimpleNamespace(folder=tmp_path, kfp=kfp)


@pytest.fixture
def edge(tmp_path, monkeypatch):
    return edge_in(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A rehearsal of every step that needs a cluster: its edge, exit code and what it printed."""
    with pytest.MonkeyPatch.context() as monkeypatch, contextlib.redirect_stdout(io.StringIO()) as printed:
        edge = edge_in(tmp_path_factory.mktemp("whole"), monkeypatch)
        code = rehearse(edge, *HOST, *only(*CLUSTER))
    return SimpleNamespace(edge=edge, code=code, printed=printed.getvalue())


def set_state(edge, **state):
    path = edge.folder / "state.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps(known | state), encoding="utf-8")


def rehearse(edge, *words):
    return rehearsal.main([*words, "--folder", str(edge.folder / "rehearsal"), "--yes"])


def calls(edge):
    path = edge.folder / "log"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def as_if_done(edge, *names):
    """Facts and results of a rehearsal whose earlier steps went well."""
    assert rehearse(edge, *HOST, *only("look", "install")) == 0
    path = edge.folder / "rehearsal/facts.json"
    facts = json.loads(path.read_text(encoding="utf-8"))
    facts |= {"training": "training-1", "data": "0" * 32 + ".dir", "backup": "s3://mcti-backup/postgresql/1.sql.gz"}
    facts["results"] |= {name: {"seen": "before", "good": True, "seconds": 1} for name in names}
    path.write_text(json.dumps(facts), encoding="utf-8")
    (edge.folder / "log").unlink()


def first_at(edge, *words):
    """Number of the first call that holds these words."""
    return next(n for n, call in enumerate(calls(edge)) if all(word in call for word in words))


def only(*names):
    return [word for name in names for word in ("--only", name)]
