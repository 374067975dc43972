"""Parts of a rehearsal: settings, overlay, image names, waits, make target, steps without a cluster."""

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
from infra.rehearse.shell import UnexpectedResult, run, wait_until
from infra.rehearse.steps import STEPS
from mcti import params
from tests.infra.manifests import ROOT, kustomize, named
from tests.infra.rehearsal import HOST, Clock, only, rehearse


def test_the_settings_are_small_and_contain_no_password(fake_cluster):
    assert (
        rehearse(fake_cluster, *HOST, "--image", "registry.example/mcti-python:1", *only("look", "install", "doctor"))
        == 0
    )
    settings = params.load(fake_cluster.folder / "rehearsal/work/params.yaml")
    assert settings.cluster.image == "registry.example/mcti-python:1"
    assert settings.cluster.steps.train.cpu == "100m"
    assert settings.search.storage == "postgresql://mcti@postgresql.mcti:5432/search"
    assert settings.register_.name == MODEL


def test_the_overlay_of_the_rehearsal_renders_with_its_images(fake_cluster, monkeypatch):
    assert (
        rehearse(fake_cluster, *HOST, "--services-image", "registry.example:5000/services:7", *only("look", "install"))
        == 0
    )
    monkeypatch.undo()
    documents = kustomize(fake_cluster.folder / "rehearsal/overlay")
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
def test_image_names_are_parsed(text, parts):
    assert _image("x", text) == {"name": "x", **parts}


def test_a_long_wait_prints_a_line_per_minute(monkeypatch, capsys):
    monkeypatch.setattr(shell, "time", Clock())
    with pytest.raises(UnexpectedResult):
        wait_until("the end of run 7", lambda: False, 200, every=20)
    lines = capsys.readouterr().out.splitlines()
    assert [line.strip() for line in lines] == [
        f"waiting: the end of run 7, {seconds} s of at most 200 s" for seconds in (60, 120, 180)
    ]


def test_a_wait_that_ends_without_success_names_the_event():
    with pytest.raises(UnexpectedResult, match="the event: not within 0 s"):
        wait_until("the event", lambda: False, 0)
    with pytest.raises(UnexpectedResult, match="did not end within"):
        run(["sleep", "30"], 0.2)
    with pytest.raises(UnexpectedResult, match="ended with 3: reason"):
        run(["sh", "-c", "echo reason >&2; exit 3"], 30)


def test_the_status_is_that_of_the_parent_run(monkeypatch):
    responses = iter([{"experiment": {"experiment_id": "7"}}, {"runs": [
        {"info": {"status": "RUNNING"}, "data": {"tags": [{"key": "mlflow.parentRunId"}]}},
        {"info": {"status": "FINISHED"}, "data": {"tags": [{"key": "mcti.kfp_run"}]}},
    ]}])  # fmt: skip
    monkeypatch.setattr(tracking, "_request_json", lambda *_: next(responses))
    assert tracking.run_status("http://localhost", "e", "r") == "FINISHED"


def test_the_make_target_passes_its_variables_as_options():
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


def test_identities_contain_every_pair_of_keys():
    rows = json.loads(identities(("a", "b"), ("c", "d")))["identities"]
    assert [row["credentials"][0]["accessKey"] for row in rows] == ["a", "c"]


def test_every_step_is_documented():
    text = (ROOT / "docs/rehearsal.md").read_text(encoding="utf-8")
    for step in STEPS:
        assert f"`{step.name}`" in text


@pytest.mark.slow
def test_the_steps_without_a_cluster_succeed(rendered, tmp_path, monkeypatch, capsys):
    """As in CI: overlays rendered by kubectl, pipelines compiled and checked by mcti."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert rehearsal.main(["--offline", "--folder", str(tmp_path), "--patience", "4"]) == 0
    printed = capsys.readouterr().out
    assert "3 pipelines compiled, no rule violated" in printed
