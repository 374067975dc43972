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
from mcti.registry import tracking
from pipelines.local_run import _reason, interpreter, run_local


@pytest.mark.slow
def test_a_failed_task_ends_the_run_and_the_exit_handler_says_so(tmp_path, monkeypatch, capfd):
    """Retries included: the sources are missing, and stay missing."""
    monkeypatch.chdir(tmp_path)
    once_more = ["cluster.steps.ingest.retries=1", "cluster.steps.ingest.backoff_seconds=1"]
    with pytest.raises(OperationalError, match="Inner task failed: 'ingest' inside 'exit-handler-1'"):
        run_local(params.load(None, once_more), None, "subprocess", tmp_path / "runs")
    (report,) = (tmp_path / "runs").glob("*/outcome/report")
    assert json.loads(report.read_text(encoding="utf-8"))["state"] == "FAILED"
    output = capfd.readouterr()
    assert output.out == "", "standard output is for our result alone"
    assert output.err.count("no such file or folder in data/raw/clinical.csv: check the path") == 2


@pytest.mark.slow
@pytest.mark.stack
def test_a_task_that_is_refused_for_its_data_is_computed_once_and_leaves_no_record(
    servers_of, tmp_path, monkeypatch, capfd
):
    """The engine tries it again; the second attempt finds the refusal of the first one in the remote."""
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


GUARDED = """
import subprocess, sys, time
from mcti import params
from pipelines import cancellation
with cancellation.cancel_after_process_end(params.load(None), {"MCTI_RUN": sys.argv[1]}, "training", "subprocess", sys.argv[1]):
    task = subprocess.Popen(["sleep", "600"], env={"MCTI_RUN": sys.argv[1], "PATH": "/usr/bin:/bin"})
    print(task.pid, flush=True)
    if sys.argv[2] == "killed":
        time.sleep(600)
"""


@pytest.mark.parametrize("end", ["killed", "well"])
def test_the_tasks_of_a_run_that_was_killed_end_and_those_of_another_go_on(tmp_path, end):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MLFLOW_"))}
    command = [sys.executable, "-c", GUARDED, f"the run {os.getpid()}", end]
    runner = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
    task = psutil.Process(int(runner.stdout.readline()))
    other = psutil.Popen(["sleep", "600"], env={"MCTI_RUN": f"another run {os.getpid()}", "PATH": "/usr/bin:/bin"})
    try:
        if end == "killed":
            runner.send_signal(signal.SIGKILL)
        runner.wait(timeout=120)
        if end == "killed":
            task.wait(timeout=120)
        assert task.is_running() is (end == "well")
        assert other.is_running()
    finally:
        for process in (task, other):
            if process.is_running():
                process.kill()
        runner.stdout.close()


def test_a_blank_in_the_path_of_the_environment_does_not_cut_the_line_of_a_shell(tmp_path, monkeypatch):
    """As kfp.local writes it: without quotes."""
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
def test_the_last_task_that_decided_gives_the_reason(tmp_path, reports, reason):
    for name, content in reports.items():
        storage.write_json(tmp_path / name, content)
    assert _reason(tmp_path) == reason


def test_without_a_docker_engine_the_docker_runner_says_so(tmp_path, monkeypatch):
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
from pipelines.local_run import run_local
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
    code = WITHOUT_DOCKER.partition("settings =")[0] + "import mcti.cli, pipelines.cancellation, pipelines.schedule"
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stderr
