"""The log of a task as kfp.local prints it: the lines of the process of the component."""

import json
import re
import subprocess
import sys

import pandas as pd
import pytest
from kfp import dsl, local

from mcti import storage
from mcti.components.train import train
from mcti.pipelines.local_run import interpreter
from tests.polling import wait_for_file
from tests.test_logs import LINE
from tests.training import factories

pytestmark = pytest.mark.slow
SOURCES = {"clinical": "0" * 32, "expression": "1" * 32}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Cohort, features, a folder with folds.csv, and a folder with the (empty) best settings of a search."""
    root = tmp_path_factory.mktemp("inputs")
    cohort, features, folds = factories.folders(root)
    storage.write_json(cohort / "cohort.json", storage.read_json(cohort / "cohort.json") | {"sources": SOURCES})
    (root / "folds").mkdir()
    folds.rename(root / "folds" / "folds.csv")
    (root / "best").mkdir()
    (root / "best" / "best.yaml").write_text("settings: {}\n", encoding="utf-8")
    return {"cohort": cohort, "features": features, "folds": root / "folds", "best": root / "best"}


def log_lines(inputs, root, params, capfd):
    """Run the component `train` for fold 1 in a subprocess. Returns its log lines."""
    artifact_classes = {"best": dsl.Artifact}

    @dsl.pipeline(name="one")
    def one():
        arguments = {
            name: dsl.importer(artifact_uri=str(path), artifact_class=artifact_classes.get(name, dsl.Dataset)).output
            for name, path in inputs.items()
        }
        train(params=params, key="", fold=1, **arguments)

    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(root), raise_on_error=False)
    capfd.readouterr()
    with interpreter():  # as `mcti pipeline run-local` does
        one()
    output = "\n".join(capfd.readouterr())
    assert "\r" not in output
    lines = [raw.strip() + "\n" for raw in output.splitlines()]
    return [line for line in lines if LINE.fullmatch(line)]


def test_the_log_of_train_has_start_progress_and_the_numbers_of_the_result(inputs, tmp_path, monkeypatch, capfd):
    for name, value in {"RUN": "run-7", "COMMIT": "abc", "IMAGE": "x@sha256:1", "LOG_LEVEL": "INFO"}.items():
        monkeypatch.setenv(f"MCTI_{name}", value)
    params = factories.settings(workers=1)
    lines = log_lines(inputs, tmp_path, params.model_dump_json(by_alias=True), capfd)
    assert all(" INFO train: " in line for line in lines)
    first, start, checkpoint, progress, cox, end = (line.partition("train: ")[2].rstrip("\n") for line in lines)
    version = "mcti 0.1.0, commit abc, image x@sha256:1"
    assert first == f"task started, pipeline run run-7, {version}"
    head, _, settings = start.partition(", settings ")
    assert head == f"started: {version}, data clinical={'0' * 32} expression={'1' * 32}"
    assert json.loads(settings) == params.model_dump(mode="json", by_alias=True) | {"fold": 1}
    assert re.fullmatch(r"fold 1: no checkpoint in \S+/fold_1, starting at step 0 of 6", checkpoint)
    (folder,) = tmp_path.glob("one-*/train/model")
    history = pd.read_csv(folder / "fold_1" / "history.csv")
    # Batches of 8 of the 12 training patients: two steps in each of three epochs.
    assert re.fullmatch(r"6 of 6 steps, (\S+ steps/(s|min), )?fold 1, loss \d\.\d{3}, \d+ patients/s", progress)
    assert re.fullmatch(r"fold 1: Cox model with slope \d\.\d\d", cox)
    result = storage.read_json(folder / "result.json")
    numbers = f"train_patients {result['train_patients']}, test_patients {result['test_patients']}"
    loss = float(f"{history['loss'].iloc[-1]:.4g}")
    rest = f"loss [{loss}], parameters {result['parameters']}, epochs 3, preset tiny; results in {folder}"
    assert re.sub(r"in [^:]+:", "in TIME:", end, count=1) == f"finished in TIME: folds [1], {numbers}, {rest}"


KILLED = """
import sys
from pathlib import Path
from mcti.params import TrainParams, from_json
from mcti.steps.train import train
cohort, features, folds, best, params, out = sys.argv[1:]
settings = from_json(TrainParams, params, "x")
train(cohort, features, f"{folds}/folds.csv", settings, Path(out), best=f"{best}/best.yaml", fold=1)
"""


def test_a_killed_task_logs_the_checkpoint_from_which_it_resumes(inputs, tmp_path, monkeypatch, capfd):
    """As in another pod, with a volume that persists."""
    monkeypatch.setenv("MCTI_CHECKPOINTS", str(tmp_path / "claim"))
    monkeypatch.setenv("MCTI_RUN", "run-8")
    params = factories.settings(workers=1, epochs=20, checkpoint_seconds=0.0).model_dump_json(by_alias=True)
    folders = [str(inputs[name]) for name in ("cohort", "features", "folds", "best")]
    process = subprocess.Popen([sys.executable, "-c", KILLED, *folders, params, str(tmp_path / "first pod")])
    wait_for_file(tmp_path / "claim", "run-8/*/*.checkpoint", process)
    process.kill()
    process.wait()
    newest = sorted((tmp_path / "claim").glob("run-8/*/*.checkpoint"))[-1]
    step = int(newest.stem.removeprefix("step_"))
    lines = log_lines(inputs, tmp_path / "second pod", params, capfd)
    messages = [line.partition("train: ")[2] for line in lines if "train: fold 1: " in line]
    assert messages[0] == f"fold 1: resumed from step {step} of 40 (epoch {step // 2} of 20), checkpoint {newest}\n"
    assert [message.partition(" with ")[0] for message in messages[1:]] == ["fold 1: Cox model"]
    assert "finished in " in lines[-1]


def test_a_data_error_is_the_last_line_of_the_log(inputs, tmp_path, capfd):
    """It has the exit code of the command; the traceback is logged at level DEBUG only."""
    (tmp_path / "empty").mkdir()
    broken = inputs | {"folds": tmp_path / "empty"}
    lines = log_lines(broken, tmp_path / "runs", factories.settings(workers=1).model_dump_json(by_alias=True), capfd)
    last = lines[-1].partition("Z ")[2]
    assert last.startswith(f"ERROR train: no such file or folder in {tmp_path}/empty/folds.csv: check the path")
    assert last.endswith(" (exit code 3)\n")
