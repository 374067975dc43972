"""What the decorator of the steps logs: start, end, and the version of the data."""

import json
import logging
from pathlib import Path

import pytest

from mcti import logs, storage
from mcti.errors import DataError, Rejected
from mcti.params import ExtractParams, PromoteParams, SearchParams, TrainParams
from mcti.registry.lineage import Origin
from mcti.steps.result import StepResult
from mcti.steps.task_log import data_version, logged

MD5 = "d41d8cd98f00b204e9800998ecf8427e.dir"


class Counted(StepResult):
    """A step's result."""

    patients: int
    share: float
    parts: tuple[float, ...]
    notice: str
    nested: dict[str, str]


@logged
def count(cohort, params: TrainParams, out: Path, *, fold=None, progress=None) -> Counted:
    """A step with progress."""
    if fold == 1:
        raise Rejected("worse", "the gate", "train")
    if fold == 2:
        raise DataError("wrong", "a file", "correct it")
    progress(3, 3, "patients")
    logging.getLogger("mcti.below").info("inside")
    return Counted(patients=3, share=1 / 3, parts=(0.123456, 2.0), notice="", nested={"a": "b" * 200})


@pytest.fixture
def shown(monkeypatch, capsys):
    """The messages so far, without their times; the log of this process is shown."""
    monkeypatch.setenv("MCTI_COMMIT", "abc")
    monkeypatch.delenv("MCTI_IMAGE", raising=False)
    monkeypatch.delenv(logs.VARIABLE, raising=False)
    logs.begin()
    yield lambda: [line.partition("Z ")[2] for line in capsys.readouterr().err.splitlines()]
    logs.end()


def test_start_progress_and_end(shown, tmp_path):
    storage.write_json(tmp_path / "cohort.json", {"sources": {"clinical": "1234"}})
    params = TrainParams(epochs=2)
    count(tmp_path, params, tmp_path / "out", fold=0)
    start, progress, inside, end = shown()
    head, _, settings = start.partition(", settings ")
    assert head == "INFO count: started: mcti 0.1.0, commit abc, data clinical=1234"
    assert json.loads(settings) == params.model_dump(mode="json", by_alias=True) | {"fold": 0}
    assert progress == "INFO count: 3 of 3 patients"
    assert inside == "INFO count: inside"
    assert (
        end == f"INFO count: finished in 0 s: patients 3, share 0.3333, parts [0.1235, 2.0]; results in {tmp_path}/out"
    )


def test_a_rejection_is_logged_as_an_end_and_an_error_by_the_end_of_the_process(shown, tmp_path):
    for fold, error in ((1, Rejected), (2, DataError)):
        with pytest.raises(error):
            count(tmp_path, TrainParams(), tmp_path, fold=fold)
    ends = [line for line in shown() if "started" not in line]
    assert ends == ["INFO count: finished in 0 s: rejected, worse in the gate: train"]


def test_progress_that_was_given_is_used(shown, tmp_path):
    heard = []
    count(tmp_path, TrainParams(), tmp_path, progress=lambda *words: heard.append(words))
    assert heard == [(3, 3, "patients")]
    assert not any("of 3 patients" in line for line in shown())


def test_without_a_log_the_step_is_called_as_it_is(tmp_path, capsys):
    count(tmp_path, TrainParams(), tmp_path, progress=lambda *words: None)
    assert capsys.readouterr().err == ""


def test_settings_of_two_sections_and_no_password(shown, tmp_path):
    @logged
    def search(cohort, params, train, out):
        """A step with two sections."""

    search(tmp_path, SearchParams(storage="postgresql://me:secret@host/db"), TrainParams(), tmp_path)
    settings = json.loads(shown()[0].partition(", settings ")[2])
    assert settings["storage"] == "postgresql://me:***@host/db"
    assert settings["train"]["epochs"] == TrainParams().epochs


@pytest.mark.parametrize(
    ("arguments", "version"),
    [
        ({"clinical": f"dvc+s3://bucket/dvc/{MD5}/clinical.csv"}, MD5),
        ({"clinical": "ROOT/raw/clinical.csv"}, "abcd.dir"),
        ({"clinical": "ROOT/elsewhere/clinical.csv"}, "unknown"),
        ({"cohort": "ROOT/cohort"}, "clinical=1 slides=2"),
        ({"slides": "ROOT/cohort/slides.parquet", "params": ExtractParams()}, "clinical=1 slides=2"),
        ({"slides": "ROOT/slides.csv"}, "unknown"),
        ({"cohort": "ROOT/none"}, "unknown"),
        ({"cohort": "ROOT/torn"}, "unknown"),
        ({"cohort": None, "patients": "ROOT"}, "unknown"),
        ({"models_folder": "ROOT", "origin": Origin(data=MD5)}, MD5),
        ({"models_folder": "ROOT", "origin": Origin()}, "unknown"),
        ({"name": "mcti", "params": PromoteParams()}, "unknown"),
    ],
)
def test_the_version_of_the_data_is_that_recorded_in_the_inputs(tmp_path, arguments, version):
    (tmp_path / "raw.dvc").write_text("outs:\n- md5: abcd.dir\n  path: raw\n")
    storage.write_json(tmp_path / "cohort" / "cohort.json", {"sources": {"clinical": "1", "slides": "2"}})
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "cohort.json").write_text("{")
    resolved = {k: v.replace("ROOT", str(tmp_path)) if isinstance(v, str) else v for k, v in arguments.items()}
    assert data_version(resolved) == version
