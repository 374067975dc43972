"""A preloaded program is its command in a process of its own: words, folder, environment, output, exit code and end."""

import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.stack.small_project import BIN

pytestmark = pytest.mark.slow
WAITS = "echo $$ > pid && exec sleep 600"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--version"], 0),
        (["settings", "--out", "data/settings"], 0),
        (["no-such-command"], 2),
        (["validate", "--cohort", "no such folder", "--out", "out"], 3),
    ],
)
def test_the_output_and_exit_code_are_those_of_a_new_process(preloaded, tmp_path, words, code):
    (tmp_path / "params.yaml").write_text("split: {seed: 11}\n")
    quiet = os.environ | {"MCTI_LOG_LEVEL": "ERROR"}  # other lines of the log have times
    outcomes = []
    for programs in (preloaded, BIN):
        command = [str(programs / "mcti"), *words]
        done = subprocess.run(command, cwd=tmp_path, env=quiet, capture_output=True, text=True, check=False)
        outcomes.append((done.returncode, done.stdout, done.stderr))
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][0] == code
    if code == 0 and words[0] == "settings":
        assert '"seed":11' in (tmp_path / "data/settings/split.json").read_text().replace(" ", "")


def test_other_words_run_the_interpreter(preloaded):
    done = subprocess.run([str(preloaded / "python"), "-c", "print(1); raise SystemExit(7)"], capture_output=True)
    assert (done.returncode, done.stdout) == (7, b"1\n")


def test_the_folder_of_the_programs_is_the_whole_environment(preloaded):
    assert {path.name for path in preloaded.parent.iterdir()} == {path.name for path in BIN.parent.iterdir()}
    assert {path.name for path in preloaded.iterdir()} == {path.name for path in BIN.iterdir()}


@pytest.fixture
def waiting(preloaded, tmp_path):
    """`dvc repro` of a stage that waits, and the process of that stage."""
    (tmp_path / "dvc.yaml").write_text(f"stages: {{wait: {{cmd: '{WAITS}'}}}}\n")
    subprocess.run([str(preloaded / "dvc"), "init", "--no-scm", "-q"], cwd=tmp_path, check=True)
    with subprocess.Popen([str(preloaded / "dvc"), "repro"], cwd=tmp_path) as program:
        pid = Path(tmp_path / "pid")
        while not (pid.exists() and pid.read_text()):
            assert program.poll() is None
            time.sleep(0.05)
        yield program, psutil.Process(int(pid.read_text()))


def test_the_command_of_a_killed_program_is_killed_with_its_own_processes(waiting):
    program, stage = waiting
    program.kill()
    stage.wait(60)


def test_a_signal_reaches_the_command(waiting):
    program, stage = waiting
    program.send_signal(signal.SIGTERM)
    stage.wait(60)
    assert program.wait(60) != 0


def test_a_killed_command_is_an_exit_code_of_its_program(waiting):
    program, stage = waiting
    stage.parent().kill()
    assert program.wait(60) == 128 + signal.SIGKILL
    stage.kill()
