"""A project folder. Oracle: git and DVC."""

import subprocess
import sys

import pytest

from mcti.errors import OperationalError
from mcti.project import create, files


def run(folder, *command):
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


def test_the_folder_is_a_repository_that_dvc_accepts(tmp_path):
    folder = tmp_path / "a project"
    result = create.create(folder, "demo", files.demo_params(), {"notes/a.txt": "a\n"})
    assert {"params.yaml", "dvc.yaml", "notes/a.txt", "README.md", ".dvc/config"} <= set(result.written)
    top = subprocess.run(
        ["git", "rev-parse", "--show-toplevel"], cwd=folder, capture_output=True, text=True, check=True
    )
    assert top.stdout.strip() == str(folder.resolve())
    names = run(folder, sys.executable, "-m", "dvc", "stage", "list", "--name-only").split()
    assert names[:3] == ["version", "settings", "ingest"]
    assert "demo@champion" in (folder / "README.md").read_text(encoding="utf-8")


def test_a_second_call_writes_nothing_and_keeps_an_edited_file(tmp_path):
    create.create(tmp_path, "demo", files.demo_params())
    (tmp_path / "Makefile").write_text("mine:\n")
    (tmp_path / "README.md").unlink()
    result = create.create(tmp_path, "demo", files.demo_params())
    assert (result.written, result.edited) == (("README.md",), ("Makefile",))
    assert (tmp_path / "Makefile").read_text() == "mine:\n"


def test_without_git_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OperationalError, match="git is missing"):
        create.create(tmp_path / "p", "demo", files.demo_params())
    assert not (tmp_path / "p").exists()


def test_hidden_files_and_environments_do_not_count(tmp_path):
    (tmp_path / ".stack").mkdir()
    (tmp_path / "env").mkdir()
    (tmp_path / "env/pyvenv.cfg").write_text("")
    assert create.is_empty(tmp_path)
    (tmp_path / "letter.txt").write_text("")
    assert not create.is_empty(tmp_path)
