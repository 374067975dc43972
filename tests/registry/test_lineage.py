"""Dirty working trees. Oracle: git, on a repository of a package and its settings."""

import subprocess

import pytest

from mcti.registry import lineage


def git(folder, *arguments):
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    completed = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return completed.stdout.strip()


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A package, params.yaml, dvc.yaml, dvc.lock and a result, all committed; it is the working directory."""
    (tmp_path / "mcti").mkdir()
    for name in ("mcti/__init__.py", "params.yaml", "dvc.yaml", "dvc.lock", "metrics.json"):
        (tmp_path / name).write_text("a: 1\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-q", "-m", "first")
    monkeypatch.setattr(lineage.mcti, "__file__", str(tmp_path / "mcti" / "__init__.py"))
    monkeypatch.delenv("MCTI_COMMIT", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_results_of_dvc_do_not_make_a_tree_dirty(project):
    for name in ("dvc.lock", "metrics.json"):
        (project / name).write_text("b: 2\n")
    assert lineage.commit() == git(project, "rev-parse", "HEAD")
    assert lineage.changed_files() == []


@pytest.mark.parametrize("name", ["params.yaml", "dvc.yaml", "mcti/__init__.py"])
@pytest.mark.parametrize("staged", [True, False])
def test_changed_code_or_settings_are_dirty(project, name, staged):
    (project / name).write_text("b: 2\n")
    if staged:
        git(project, "add", "-A")
    assert lineage.commit() == git(project, "rev-parse", "HEAD") + "-dirty"
    assert lineage.changed_files() == [name]


def test_untracked_settings_are_dirty(project):
    git(project, "rm", "-q", "--cached", "params.yaml")
    git(project, "commit", "-q", "-m", "second")
    assert lineage.commit().endswith("-dirty")


def test_settings_of_a_separate_project_count(project, tmp_path_factory, monkeypatch):
    other = tmp_path_factory.mktemp("project")
    (other / "params.yaml").write_text("a: 1\n")
    git(other, "init", "-q")
    git(other, "add", "-A")
    git(other, "commit", "-q", "-m", "first")
    monkeypatch.chdir(other)
    assert lineage.commit() == git(project, "rev-parse", "HEAD")
    (other / "params.yaml").write_text("a: 2\n")
    assert lineage.commit().endswith("-dirty")


def test_an_installed_package_has_the_commit_of_the_project(project, monkeypatch):
    """An environment below the project: git of the project does not track the package in it."""
    installed = project / ".venv/lib/mcti/__init__.py"
    installed.parent.mkdir(parents=True)
    installed.write_text("a: 1\n")
    (project / ".git/info/exclude").write_text(".venv\n")
    monkeypatch.setattr(lineage.mcti, "__file__", str(installed))
    assert lineage.commit() == git(project, "rev-parse", "HEAD")
    (project / "params.yaml").write_text("b: 2\n")
    assert lineage.commit() == git(project, "rev-parse", "HEAD") + "-dirty"


def test_an_installed_package_outside_a_repository_has_no_commit(project, tmp_path_factory, monkeypatch):
    outside = tmp_path_factory.mktemp("outside")
    (outside / "__init__.py").write_text("")
    monkeypatch.setattr(lineage.mcti, "__file__", str(outside / "__init__.py"))
    assert lineage.commit() == git(project, "rev-parse", "HEAD")
    monkeypatch.chdir(outside)
    assert lineage.commit() == lineage.UNKNOWN
