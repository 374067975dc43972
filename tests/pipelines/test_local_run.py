import json
import os
import shlex
import signal
import subprocess
import sys

import psutil
import pytest

from mcti import params, storage
from mcti.errors import OperationalError, UsageError
from mcti.pipelines.local_run import _reason, interpreter, run_local
from mcti.registry import tracking


@pytest.mark.slow
def test_a_failed_task_ends_the_run_and_the_exit_task_reports_it(tmp_path, monkeypatch, capfd):
    """The sources are missing: the second attempt reads the refusal of the first one, without remote and MLflow."""
    monkeypatch.chdir(tmp_path)
    overrides = ["cluster.steps.ingest.retries=1", "cluster.steps.ingest.backoff_seconds=1"]
    with pytest.raises(OperationalError, match="Inner task failed: 'ingest' inside 'exit-handler-1'"):
        run_local(params.load(None, overrides), None, "subprocess", tmp_path / "runs")
    (report,) = (tmp_path / "runs").glob("*/outcome/report")
    assert json.loads(report.read_text(encoding="utf-8"))["state"] == "FAILED"
    output = capfd.readouterr()
    assert output.out == "", "standard output contains only the result"
    assert output.err.count("no such file or folder in data/raw/clinical.csv: check the path") == 2
    assert output.err.count("ingest is not computed again: an earlier attempt of this task ended with this error") == 1
    assert not list((tmp_path / "runs").glob(".refused-*")), "the records do not outlive the run"


@pytest.mark.slow
@pytest.mark.stack
def test_a_task_that_is_refused_for_its_data_is_computed_once_and_leaves_no_record(
    servers_of, tmp_path, monkeypatch, capfd
):
    """The second attempt reads the refusal of the first one from the folder of the run; the remote gets no record."""
    monkeypatch.chdir(tmp_path)
    words = ["cluster.remote=s3://mcti-data/refused-test", "cluster.experiment=refused-test"]
    words += ["cluster.steps.ingest.retries=1", "cluster.steps.ingest.backoff_seconds=1"]
    with pytest.raises(OperationalError, match="Inner task failed: 'ingest' inside 'exit-handler-1'"):
        run_local(params.load(None, words), None, "subprocess", tmp_path / "runs")
    output = capfd.readouterr().err
    assert output.count("no such file or folder in data/raw/clinical.csv: check the path") >= 2, "the same line twice"
    with tracking.service() as client:
        number = client.get_experiment_by_name("refused-test").experiment_id
        computed = client.search_runs([number], "tags.`mcti.step` = 'ingest'")
    assert [run.info.status for run in computed] == ["FAILED"]
    assert not [name for name in storage.addresses("s3://mcti-data/refused-test/runs/") if "/refused/" in name]


MONITORED_RUN = """
import subprocess, sys, time
from mcti import params
from mcti.pipelines import cancellation
run = sys.argv[1]
with cancellation.cancel_after_process_end(params.load(None), {"MCTI_RUN": run}, "training", "subprocess", run):
    task = subprocess.Popen(["sleep", "600"], env={"MCTI_RUN": sys.argv[1], "PATH": "/usr/bin:/bin"})
    print(task.pid, flush=True)
    if sys.argv[2] == "killed":
        time.sleep(600)
"""


@pytest.mark.parametrize("end", ["killed", "completed"])
def test_the_tasks_of_a_killed_run_end_and_those_of_another_run_continue(tmp_path, end):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MLFLOW_"))}
    command = [sys.executable, "-c", MONITORED_RUN, f"the run {os.getpid()}", end]
    runner = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
    task = psutil.Process(int(runner.stdout.readline()))
    other = psutil.Popen(["sleep", "600"], env={"MCTI_RUN": f"another run {os.getpid()}", "PATH": "/usr/bin:/bin"})
    try:
        if end == "killed":
            runner.send_signal(signal.SIGKILL)
        runner.wait(timeout=600)
        if end == "killed":
            task.wait(timeout=600)
        assert task.is_running() is (end == "completed")
        assert other.is_running()
    finally:
        for process in (task, other):
            if process.is_running():
                process.kill()
        runner.stdout.close()


def test_the_path_of_the_interpreter_may_contain_a_blank(tmp_path, monkeypatch):
    """kfp.local writes it into a shell command without quotes."""
    python = tmp_path / "a user's" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n', encoding="utf-8")
    python.chmod(0o700)
    monkeypatch.setattr("sys.executable", str(python))
    with interpreter():
        output = subprocess.run(f"{sys.executable} -c 'print(6 * 7)'", shell=True, check=True, capture_output=True)
    assert output.stdout == b"42\n"
    assert sys.executable == str(python)


@pytest.mark.parametrize(
    ("reports", "reason"),
    [
        ({}, {}),
        ({"detect-new-data/report": {"reason": "nothing new"}}, {"reason": "nothing new"}),
        (
            {"detect-new-data/report": {"reason": "new"}, "monitor/monitoring/result.json": {"retrain": False}},
            {"reason": "no rule of monitor fired: the champion is kept"},
        ),
        (
            {"detect-new-data/report": {"reason": "new"}, "loop/promote/verdict": {"reason": "worse"}},
            {"reason": "worse"},
        ),
    ],
)
def test_the_reason_is_that_of_the_last_decision(tmp_path, reports, reason):
    for name, content in reports.items():
        storage.write_json(tmp_path / name, content)
    assert _reason(tmp_path) == reason


def test_the_docker_runner_without_an_engine_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    with pytest.raises(OperationalError, match="no Docker engine"):
        run_local(params.load(None), "", "docker", tmp_path / "runs")
    with pytest.raises(UsageError, match="unknown runner 'podman'"):
        run_local(params.load(None), "", "podman", tmp_path / "runs")


WITHOUT_DOCKER = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "docker":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
from pathlib import Path
from mcti import params
from mcti.errors import OperationalError
from mcti.pipelines.local_run import run_local
settings = params.load(None, ["cluster.steps.ingest.retries=0"])
try:
    run_local(settings, None, "subprocess", Path("runs"))
except OperationalError as error:
    print(error.what)
assert "docker" not in sys.modules
"""


@pytest.mark.slow
def test_the_subprocess_runner_needs_no_docker_package(tmp_path):
    """The sources are missing, so the first task fails: kfp.local has executed it."""
    completed = subprocess.run(
        [sys.executable, "-c", WITHOUT_DOCKER], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert completed.returncode == 0, completed.stderr
    assert "Inner task failed: 'ingest' inside 'exit-handler-1'" in completed.stdout


def test_the_modules_of_local_runs_import_no_docker_package():
    """Compiling, submitting and running with processes must work where the package docker is not installed."""
    code = (
        WITHOUT_DOCKER.partition("settings =")[0]
        + "import mcti.cli, mcti.pipelines.cancellation, mcti.pipelines.schedule"
    )
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stderr
