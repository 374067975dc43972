"""Progress of a command: a bar on a terminal, plain lines elsewhere."""

import io
import json
import subprocess
import sys

import pytest

from mcti.cli.progress import ProgressDisplay
from tests.test_logs import LINE
from tests.training import factories


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_shows_rate_and_remaining_time_of_the_same_estimator(monkeypatch):
    """200 steps from a checkpoint, 40 s without a step, then 4 steps per second."""
    now, terminal = [0.0], Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    progress = ProgressDisplay()
    monkeypatch.setattr(progress._pace, "_clock", lambda: now[0])
    monkeypatch.setattr("mcti.cli.progress.RateEstimator", lambda: progress._pace)
    now[0] = 40.0
    progress(201, 400, "steps", "loss 0.9", 200)
    fields = progress._bar.tasks[0].fields
    assert (fields["rate"], fields["left"]) == ("", "")
    for done in range(202, 301):
        now[0] += 0.25
        progress(done, 400, "steps", "loss 0.5", 200)
    task = progress._bar.tasks[0]
    assert (task.completed, task.total, task.description) == (300, 400, "loss 0.5, steps")
    assert (task.fields["rate"], task.fields["left"]) == ("4 steps/s", "25 s left")
    progress.close()
    assert "Z INFO" not in terminal.getvalue()


@pytest.mark.slow
def test_a_command_without_a_terminal_writes_lines_and_its_result(tmp_path):
    cohort, features, folds = factories.folders(tmp_path)
    words = ["--features", features, "--folds", folds, "--out", tmp_path / "models", "--json", "--fold", "0"]
    sets = [f"--set=train.{key}={value}" for key, value in factories.settings(workers=1).model_dump(mode="json").items()
            if key in ("preset", "epochs", "batch_patients", "workers")]  # fmt: skip
    command = [sys.executable, "-c", "from mcti.cli import main; main()", "train", "--cohort", cohort, *words, *sets]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["folds"] == [0]
    lines = done.stderr.splitlines(keepends=True)
    assert all(LINE.fullmatch(line) for line in lines)
    words = [line.partition("INFO train: ")[2] for line in lines]
    assert [text.partition(" ")[0].rstrip(":,") for text in words] == ["started", "fold", "6", "fold", "finished"]
