"""The files of a project: the stages of the checkout on the installed version, and no file overwritten."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mcti import params
from mcti.project import files
from tests.infra import manifests

ROOT = Path(__file__).parents[2]


def test_the_stages_are_those_of_the_checkout_on_the_installed_version():
    """The same commands, outputs, settings and data; the version of mcti in place of its sources."""
    ours = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    project = yaml.safe_load(files.common_files("x")["dvc.yaml"])
    version = project["stages"].pop("version")
    assert version["cmd"] == "mkdir -p data && ${mcti} --version > data/mcti_version.txt"
    assert version["always_changed"] is True
    for name, stage in ours["stages"].items():
        data = [path for path in stage.get("deps", ()) if not path.startswith("mcti/")]
        expected = {**stage, **({"deps": data} if data else {})}
        if len(data) < len(stage.get("deps", ())):
            expected["deps"] = [*data, "data/mcti_version.txt"]
        stage_of_project = project["stages"][name]
        assert sorted(stage_of_project.pop("deps", [])) == sorted(expected.pop("deps", [])), name
        assert stage_of_project == expected
    assert sorted(project["stages"]) == sorted(ours["stages"])
    assert project["plots"] == ours["plots"]


def test_no_file_names_the_sources():
    for name in ("dvc.yaml", "Makefile", "README.md", ".github/workflows/check.yaml"):
        assert "mcti/steps" not in files.common_files("x")[name]


def test_the_settings_of_the_demo_are_those_of_the_checkout(tmp_path):
    (tmp_path / "params.yaml").write_text(files.demo_params(), encoding="utf-8")
    assert params.load(tmp_path / "params.yaml") == params.load(ROOT / "params.yaml")


def test_the_overlay_names_existing_folders():
    written = files.common_files("x")
    overlay = yaml.safe_load(written["deploy/kustomization.yaml"])
    assert [f"deploy/{path}/kustomization.yaml" in written for path in overlay["resources"]] == [True]


@pytest.mark.skipif(not manifests.kubectl_is_new_enough(), reason="there is no recent kubectl")
def test_the_overlay_is_rendered_as_that_of_the_checkout_with_the_images_of_the_user(tmp_path):
    """The same objects; only the names of the images differ."""
    files.write(tmp_path, files.common_files("x"))
    rendered = manifests.kustomize(tmp_path / "deploy")
    images = [tree["image"] for document in rendered for tree in manifests.walk(document) if "image" in tree]
    expected = manifests.kustomize(ROOT / "infra/kubernetes/overlays/minio-or-seaweedfs")
    assert _without_images(rendered) == _without_images(expected)
    assert "registry.example/mcti-services:0.1.0" in images
    assert not [image for image in images if str(image).startswith("mcti-")]


def _without_images(documents):
    for document in documents:
        for tree in manifests.walk(document):
            if isinstance(tree.get("image"), str):
                tree["image"] = ""
    return sorted(documents, key=lambda document: (document["kind"], document["metadata"]["name"]))


def test_existing_files_are_kept_and_reported(tmp_path):
    (tmp_path / "edited").write_text("mine\n")
    (tmp_path / "same").write_text("a\n")
    result = files.write(tmp_path, {"edited": "theirs\n", "same": "a\n", "sub/new": "n\n"})
    assert (result.written, result.unchanged, result.edited) == (("sub/new",), ("same",), ("edited",))
    assert (tmp_path / "edited").read_text() == "mine\n"
    assert (tmp_path / "sub/new").read_text() == "n\n"


@pytest.mark.slow
def test_dvc_reads_no_other_pipeline_than_that_of_the_checkout():
    """DVC reads every dvc.yaml below its root; .dvcignore excludes the links in mcti/project/files."""
    command = [Path(sys.executable).parent / "dvc", "dag", "--dot"]
    graph = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "train" in graph
    assert "project/files" not in graph
