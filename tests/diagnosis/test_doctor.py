"""The command `mcti doctor`: what is needed depends on settings and environment."""

import json

import pytest

from mcti import params
from mcti.cli.app import app
from mcti.cli.command_context import run_app
from mcti.diagnosis import doctor, machine

CLOSED = "http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(machine, "_torch_report", lambda: {"torch": "2.13.0+cpu", "cuda": None, "gpus": []})


def test_nothing_is_needed_of_services_that_nothing_names(capsys, tmp_path):
    assert run_app(app, ["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in ("S3", "MLflow", "PostgreSQL", "Kubeflow Pipelines"):
        assert any(line.startswith(f"not configured {name}: ") for line in lines), lines
    assert lines[-1].startswith(f"doctor: {len(lines) - 1} checks, ")
    assert list(tmp_path.iterdir()) == []


def test_a_service_that_the_environment_names_is_needed(capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", CLOSED.replace("//", "//user:hush-hush@"))
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", CLOSED)
    monkeypatch.setenv("KFP_TOKEN", "hush-hush-token")
    assert run_app(app, ["doctor", "--json"]) == 4
    text = capsys.readouterr().out
    assert "hush" not in text
    checks = {check["name"]: check for check in json.loads(text)["checks"]}
    assert checks["MLflow"]["state"] == "failed"
    assert checks["Kubeflow Pipelines, server"]["state"] == "missing"
    assert all(check["hint"] for check in checks.values() if check["state"] in ("missing", "failed"))


def test_a_gpu_is_needed_where_the_settings_name_it(capsys):
    assert run_app(app, ["doctor", "--set", "train.device=cuda"]) == 4
    assert "failed         GPU: train.device is cuda" in capsys.readouterr().out


def test_extras_are_needed_where_the_project_uses_them(tmp_path, monkeypatch):
    assert doctor.needed_extras(params.load(None, ["extract.encoder=hed44"]), tmp_path) == set()
    (tmp_path / ".dvc").mkdir()
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", CLOSED)
    settings = params.load(None, ["extract.encoder=lite0"])
    assert doctor.needed_extras(settings, tmp_path) == {"local", "pipelines", "lite0"}
