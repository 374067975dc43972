"""A rehearsal with fake programs that record their calls: fixtures and helpers of its tests."""

import contextlib
import gzip
import io
import json
import os
import runpy
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest

from infra.rehearse import __main__ as rehearsal
from infra.rehearse import backup, retry, runs, shell, work
from infra.rehearse.steps import OFFLINE, STEPS

FAKES = Path(__file__).parent / "fakes"
IN_PROCESS = "in this process"
"""A file next to fake programs that `run_fake_program` runs in this process."""
CLUSTER = [step.name for step in STEPS if step.name not in OFFLINE]
HOST = ("--host", "http://localhost:8888")


class Clock:
    """A clock that `sleep` advances by at least `step` seconds without a wait."""

    def __init__(self, step=0.5):
        self.now, self.step = 0.0, step

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += max(seconds, self.step)
        time.sleep(0.1)  # a program that was started needs some real time


class Kfp:
    """The methods of the SDK's client that the rehearsal calls."""

    def __init__(self):
        self.calls, self.runs = [], ["old"]

    def get_experiment(self, **_):
        return SimpleNamespace(experiment_id="e")

    def list_runs(self, **_):
        runs = [SimpleNamespace(run_id=run) for run in self.runs]
        self.runs = ["old", "scheduled"]
        return SimpleNamespace(runs=runs)

    def disable_recurring_run(self, schedule):
        self.calls.append(("disable", schedule))

    def delete_recurring_run(self, schedule):
        self.calls.append(("delete", schedule))

    def create_run_from_pipeline_package(self, package, **environment):
        self.calls.append(("run", Path(package).read_text(encoding="utf-8"), environment))
        return SimpleNamespace(run_id="fails-once")


def write_fake_programs(folder):
    """Copy the fake programs; this Python runs them without site packages, so they start in a few milliseconds."""
    folder.mkdir()
    for source in FAKES.iterdir():
        program = folder / source.name
        # Not in the line of the interpreter: that ends at the first space of a path.
        command = shlex.join([sys.executable, "-SE", str(source)])
        program.write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
        program.chmod(0o755)
    return folder


def run_fake_program(command, *, input=None, cwd=None, env, **options):
    """`subprocess.run`; a fake program is run in this process: a rehearsal calls them up to 100 times."""
    program = Path(shutil.which(command[0], path=env["PATH"]) or "")
    if not (program.parent / IN_PROCESS).exists():
        return subprocess.run(command, input=input, cwd=cwd, env=env, **options)
    streams, code = (io.StringIO(), io.StringIO()), 0
    with (
        contextlib.redirect_stdout(streams[0]),
        contextlib.redirect_stderr(streams[1]),
        contextlib.chdir(cwd or Path.cwd()),
        mock.patch.dict(os.environ, env, clear=True),
        mock.patch.multiple(sys, argv=command, stdin=io.StringIO(input or "")),
    ):
        try:
            runpy.run_path(str(FAKES / program.name), run_name="__main__")
        except SystemExit as ended:
            code = ended.code
    return subprocess.CompletedProcess(command, code, *(stream.getvalue() for stream in streams))


def install_fake_programs(tmp_path, monkeypatch):
    """Fake programs on PATH, a fake client of Kubeflow and response of MLflow; no slides, no waits."""
    monkeypatch.setenv("PATH", f"{write_fake_programs(tmp_path / 'bin')}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_STATE", str(tmp_path / "state.json"))
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "log"))
    kfp = Kfp()
    monkeypatch.setattr(runs, "kfp_client", lambda session: kfp)
    monkeypatch.setattr(retry, "kfp_client", lambda session: kfp)
    monkeypatch.setattr(runs, "run_status", lambda *_: "FINISHED")
    monkeypatch.setattr(work, "write_cohort", lambda session, *_: session.work / "data/raw")
    monkeypatch.setattr(shell, "time", Clock())
    call_number = iter(range(1000))
    monkeypatch.setattr(
        backup,
        "list_addresses",
        lambda *_: [f"s3://mcti-backup/postgresql/{n}.sql.gz" for n in range(2 * next(call_number))],
    )
    monkeypatch.setattr(backup, "read_object", lambda *_: gzip.compress(b"SELECT 1;"))
    return SimpleNamespace(folder=tmp_path, kfp=kfp)


@pytest.fixture
def fake_cluster(tmp_path, monkeypatch):
    """The fake programs; those that the rehearsal waits for are run in this process."""
    cluster = install_fake_programs(tmp_path, monkeypatch)
    (tmp_path / "bin" / IN_PROCESS).touch()
    names = ("DEVNULL", "TimeoutExpired")
    fake = SimpleNamespace(run=run_fake_program, **{name: getattr(subprocess, name) for name in names})
    monkeypatch.setattr(shell, "subprocess", fake)
    return cluster


@pytest.fixture(scope="module")
def full_rehearsal(tmp_path_factory):
    """A rehearsal of every step that needs a cluster: its fake_cluster, exit code and what it printed."""
    with pytest.MonkeyPatch.context() as monkeypatch, contextlib.redirect_stdout(io.StringIO()) as printed:
        fake_cluster = install_fake_programs(tmp_path_factory.mktemp("rehearsal"), monkeypatch)
        code = rehearse(fake_cluster, *HOST, *only(*CLUSTER))
    return SimpleNamespace(fake_cluster=fake_cluster, code=code, printed=printed.getvalue())


def set_state(fake_cluster, **state):
    path = fake_cluster.folder / "state.json"
    stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps(stored | state), encoding="utf-8")


def rehearse(fake_cluster, *words):
    return rehearsal.main([*words, "--folder", str(fake_cluster.folder / "rehearsal"), "--yes"])


def calls(fake_cluster):
    path = fake_cluster.folder / "log"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def complete_steps(fake_cluster, *names):
    """Write facts and results of a rehearsal whose earlier steps succeeded."""
    assert rehearse(fake_cluster, *HOST, *only("look", "install")) == 0
    path = fake_cluster.folder / "rehearsal/facts.json"
    facts = json.loads(path.read_text(encoding="utf-8"))
    facts |= {"training": "training-1", "data": "0" * 32 + ".dir", "backup": "s3://mcti-backup/postgresql/1.sql.gz"}
    facts["results"] |= {name: {"observed": "earlier result", "succeeded": True, "seconds": 1} for name in names}
    path.write_text(json.dumps(facts), encoding="utf-8")
    (fake_cluster.folder / "log").unlink()


def index_of_call(fake_cluster, *words):
    """Index of the first call that contains these words."""
    return next(n for n, call in enumerate(calls(fake_cluster)) if all(word in call for word in words))


def only(*names):
    return [word for name in names for word in ("--only", name)]
