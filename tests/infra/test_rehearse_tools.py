"""Parts of a rehearsal: settings, overlay, image names, waits, the make target, the steps without a cluster."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.rehearse import __main__ as rehearsal
from infra.rehearse import shell, tracking
from infra.rehearse.install import _image, identities
from infra.rehearse.session import MODEL
from infra.rehearse.shell import Differs, run, wait_until
from infra.rehearse.steps import STEPS
from mcti import params
from tests.infra.manifests import ROOT, kustomize, named
from tests.infra.rehearsal import HOST, Clock, only, rehearse


def test_the_settings_are_those_of_a_small_cluster_and_have_no_password(edge):
    assert rehearse(edge, *HOST, "--image", "registry.example/mcti-python:1", *only("look", "install", "doctor")) == 0
    settings = params.load(edge.folder / "rehearsal/work/params.yaml")
    assert settings.cluster.image == "registry.example/mcti-python:1"
    assert settings.cluster.steps.train.cpu == "100m"
    assert settings.search.storage == "postgresql://mcti@postgresql.mcti:5432/search"
    assert settings.register_.name == MODEL


def test_the_overlay_of_the_rehearsal_renders_with_its_images(edge, monkeypatch):
    assert rehearse(edge, *HOST, "--services-image", "registry.example:5000/services:7", *only("look", "install")) == 0
    monkeypatch.undo()
    documents = kustomize(edge.folder / "rehearsal/site")
    pod = named(documents, "Deployment")["mlflow"]["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == "registry.example:5000/services:7"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a/b:1", {"newName": "a/b", "newTag": "1"}),
        ("r.example:5000/a", {"newName": "r.example:5000/a"}),
        ("a@sha256:" + "0" * 64, {"newName": "a", "digest": "sha256:" + "0" * 64}),
    ],
)
def test_names_of_images_are_taken_apart(text, parts):
    assert _image("x", text) == {"name": "x", **parts}


def test_a_long_wait_says_each_minute_that_it_waits(monkeypatch, capsys):
    monkeypatch.setattr(shell, "time", Clock())
    with pytest.raises(Differs):
        wait_until("the end of run 7", lambda: False, 200, every=20)
    lines = capsys.readouterr().out.splitlines()
    assert [line.strip() for line in lines] == [
        f"waiting: the end of run 7, {seconds} s of at most 200 s" for seconds in (60, 120, 180)
    ]


def test_a_wait_ends_and_says_for_what():
    with pytest.raises(Differs, match="the moon: not within 0 s"):
        wait_until("the moon", lambda: False, 0)
    with pytest.raises(Differs, match="did not end within"):
        run(["sleep", "30"], 0.2)
    with pytest.raises(Differs, match="ended with 3: why"):
        run(["sh", "-c", "echo why >&2; exit 3"], 30)


def test_mlflow_is_asked_for_the_run_of_the_whole_pipeline(monkeypatch):
    answers = iter([{"experiment": {"experiment_id": "7"}}, {"runs": [
        {"info": {"status": "RUNNING"}, "data": {"tags": [{"key": "mlflow.parentRunId"}]}},
        {"info": {"status": "FINISHED"}, "data": {"tags": [{"key": "mcti.kfp_run"}]}},
    ]}])  # fmt: skip
    monkeypatch.setattr(tracking, "_ask", lambda *_: next(answers))
    assert tracking.run_status("http://localhost", "e", "r") == "FINISHED"


def test_the_make_word_hands_on_what_is_named():
    done = subprocess.run(
        ["make", "-n", "rehearse", "HOST=http://h:1", "CONTEXT=c", "IMAGE=i:1", "SERVICES_IMAGE=s:1", "FROM=backup",
         "YES=1"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    line = " ".join(done.stdout.split())
    for words in (
        '--host "http://h:1"',
        '--context "c"',
        '--image "i:1"',
        '--services-image "s:1"',
        '--from "backup"',
        "--yes",
    ):
        assert words in line
    plain = subprocess.run(["make", "-n", "rehearse"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "--image" not in plain
    assert "--yes" not in plain


def test_identities_hold_every_pair_of_keys():
    runs = json.loads(identities(("a", "b"), ("c", "d")))["identities"]
    assert [entry["credentials"][0]["accessKey"] for entry in runs] == ["a", "c"]


def test_every_step_of_the_documentation_exists():
    text = (ROOT / "docs/rehearsal.md").read_text(encoding="utf-8")
    for step in STEPS:
        assert f"`{step.name}`" in text


@pytest.mark.slow
def test_the_part_without_a_cluster_runs_here(rendered, tmp_path, monkeypatch, capsys):
    """As CI: overlays rendered by kubectl, pipelines compiled and checked by our own command."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert rehearsal.main(["--offline", "--folder", str(tmp_path), "--patience", "4"]) == 0
    printed = capsys.readouterr().out
    assert "3 pipelines compiled, no rule broken" in printed
