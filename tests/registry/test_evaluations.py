"""The files of an evaluation by folder, version and run; the registry is a real server with a real S3."""

import json

import pytest

from mcti import params
from mcti.errors import DataError
from mcti.params import RegisterParams
from mcti.registry import evaluations, tracking
from mcti.steps.compare import compare
from mcti.steps.register import register
from tests.registry.factories import Run

REQUIRED, OPTIONAL = ("predictions.csv", "inputs.json", "result.json"), ("groups.csv", "absent.csv")


def test_a_folder_is_read_in_place_and_a_missing_file_is_named(tmp_path):
    for name in REQUIRED[:2]:
        (tmp_path / name).write_text("{}")
    with evaluations.local_files(str(tmp_path), REQUIRED[:2], OPTIONAL, tmp_path / "scratch") as folder:
        assert folder == tmp_path
    with (
        pytest.raises(DataError, match=r"result\.json is missing"),
        evaluations.local_files(str(tmp_path), REQUIRED, OPTIONAL, tmp_path / "scratch"),
    ):
        pass


@pytest.mark.slow
@pytest.mark.stack
def test_versions_runs_and_folders_are_compared_with_each_other(servers_of, tmp_path):
    one = Run(tmp_path, patients=60)
    inputs = {"endpoint": "OS", "cohort": "synthetic", "settings": {"train": {"epochs": 3}}, "data": {}}
    (one.evaluation / "inputs.json").write_text(json.dumps(inputs))
    register(one.models, one.evaluation, None, RegisterParams(name="compared", experiment="tests"), tmp_path / "r.json")
    run = json.loads((tmp_path / "r.json").read_text())["run_id"]
    settings = params.load(None, ["evaluate.bootstrap=100"]).evaluate
    for number, address in enumerate(("models:/compared@challenger", "models:/compared/1", f"runs:/{run}")):
        result = compare(address, one.evaluation, settings, tmp_path / f"out{number}")
        assert (result.patients, result.only_a, result.only_b) == (60, 0, 0)
        assert (result.a, result.settings, result.data) == (address, {}, {})
        assert result.metrics["c_index"]["difference"]["value"] == 0
    with pytest.raises(DataError, match="no version 2"):
        compare("models:/compared/2", one.evaluation, settings, tmp_path / "out")
    with tracking.service(), tracking.run("tests", "empty", {}) as empty:
        pass
    with pytest.raises(DataError, match="contains no evaluation"):
        compare(f"runs:/{empty}", one.evaluation, settings, tmp_path / "out")
    assert not (tmp_path / "out").exists()
