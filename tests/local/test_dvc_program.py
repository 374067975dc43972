"""DVC as a child process: its remote, its stale locks, its failures."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mcti.errors import OperationalError
from mcti.local import dvc_program, settings


@pytest.fixture
def project(tmp_path):
    """A DVC project without git, with one stage."""
    (tmp_path / ".dvc" / "tmp").mkdir(parents=True)
    (tmp_path / ".dvc" / "config").write_text("[core]\n    analytics = false\n    no_scm = true\n")
    (tmp_path / "dvc.yaml").write_text("stages:\n  hello:\n    cmd: echo hi > out.txt\n    outs: [out.txt]\n")
    return tmp_path


def rwlock(project, pid, command="dvc repro"):
    lock = {"write": {str(project / "out.txt"): {"pid": pid, "cmd": command}}, "read": {}}
    (project / ".dvc" / "tmp" / "rwlock").write_text(json.dumps(lock))


def test_a_lock_whose_pid_belongs_to_another_program_is_removed(project):
    """DVC alone stops at such a lock; after its removal DVC runs."""
    other_program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    try:
        rwlock(project, other_program.pid)
        blocked = subprocess.run(
            [sys.executable, "-m", "dvc", "repro"], cwd=project, capture_output=True, text=True, check=False
        )
        assert blocked.returncode != 0
        assert "busy" in blocked.stderr + blocked.stdout
        dvc_program.run(project, "repro", quiet=True)
        assert (project / "out.txt").read_text() == "hi\n"
    finally:
        other_program.kill()
        other_program.wait()


def test_a_truncated_lock_file_is_replaced(project):
    (project / ".dvc" / "tmp" / "rwlock").write_text('{"write": {"/x"')
    dvc_program.run(project, "repro", quiet=True)
    assert (project / "out.txt").exists()


def test_a_lock_of_a_running_dvc_is_kept(project):
    program = [sys.executable, "-c", "import time; time.sleep(300)", "dvc", "repro"]
    running_dvc = subprocess.Popen(program)
    try:
        rwlock(project, running_dvc.pid)
        dvc_program.clear_stale_locks(project)
        assert json.loads((project / ".dvc" / "tmp" / "rwlock").read_text())["write"]
    finally:
        running_dvc.kill()
        running_dvc.wait()


def test_a_failing_stage_is_one_error_with_the_reason_of_dvc(project):
    (project / "dvc.yaml").write_text("stages:\n  hello:\n    cmd: exit 3\n    outs: [out.txt]\n")
    with pytest.raises(OperationalError, match=r"dvc repro` failed.*exited with 3"):
        dvc_program.run(project, "repro", quiet=True)


def test_the_remote_is_configured_for_dvc_and_git_is_optional(project, tmp_path):
    stack = tmp_path / "a stack"
    stack.mkdir()
    settings.write(stack, {"s3": 18333, "mlflow": 15000})
    (project / ".dvc" / "config").write_text("['remote \"storage\"']\n    url = s3://mcti-data/dvc\n")
    dvc_program.configure_remote(project, stack)
    config = dvc_program.run(project, "config", "--list", quiet=True)
    assert "remote.storage.endpointurl=http://127.0.0.1:18333" in config
    assert f"remote.storage.credentialpath={stack / 'credentials'}" in config
    assert "core.no_scm=true" in config
    assert f"core.site_cache_dir={project / '.dvc' / 'tmp' / 'site'}" in config, (
        "a shared cache would mix up the remotes of two stacks"
    )


def test_environment_variables_are_passed_to_the_stages(project):
    (project / "dvc.yaml").write_text("stages:\n  hello:\n    cmd: echo $MCTI_DEMO > out.txt\n    outs: [out.txt]\n")
    dvc_program.run(project, "repro", quiet=True, environment={"MCTI_DEMO": "value"})
    assert (project / "out.txt").read_text() == "value\n"
    assert "MCTI_DEMO" not in os.environ


def test_a_push_of_the_same_versions_is_recorded_in_the_remote(project, tmp_path_factory):
    """DVC runs for a first push, for other versions, and for an emptied remote; else the record is enough."""
    remote = tmp_path_factory.mktemp("remote")
    config = project / ".dvc" / "config"
    config.write_text(f"[core]\n    no_scm = true\n    remote = storage\n['remote \"storage\"']\n    url = {remote}\n")
    dvc_program.run(project, "repro", quiet=True)
    assert [dvc_program.push(project), dvc_program.push(project)] == [True, False]
    assert objects(remote) == {b"hi\n"}

    (project / "dvc.yaml").write_text("stages:\n  hello:\n    cmd: echo bye > out.txt\n    outs: [out.txt]\n")
    dvc_program.run(project, "repro", quiet=True)
    assert [dvc_program.push(project), dvc_program.push(project)] == [True, False]
    assert objects(remote) == {b"hi\n", b"bye\n"}

    shutil.rmtree(remote)
    assert dvc_program.push(project)
    assert objects(remote) == {b"bye\n"}


def test_a_failed_push_leaves_no_record(project, tmp_path):
    (tmp_path / "a file").write_text("")
    config = project / ".dvc" / "config"
    config.write_text(f"[core]\n    no_scm = true\n['remote \"storage\"']\n    url = {tmp_path / 'a file' / 'r'}\n")
    dvc_program.run(project, "repro", quiet=True)
    for _ in range(2):
        with pytest.raises(OperationalError, match=r"`dvc push` failed"):
            dvc_program.push(project)


def objects(remote):
    """The bytes of all objects of a remote."""
    return {path.read_bytes() for path in (remote / "files" / "md5").rglob("*") if path.is_file()}


def test_a_killed_dvc_is_reported_as_killed(project):
    (project / "dvc.yaml").write_text("stages:\n  hello:\n    cmd: kill -9 $PPID\n    outs: [out.txt]\n")
    with pytest.raises(OperationalError, match=r"was killed by signal 9.*finished work is kept"):
        dvc_program.run(project, "repro", quiet=True)


def test_the_gitignore_does_not_hide_the_dvc_file_of_the_sources(tmp_path):
    """Otherwise `dvc push` would silently skip the sources."""
    from dvc.repo import Repo

    root = Path(__file__).parents[2]
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    shutil.copy(root / ".gitignore", tmp_path)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[core]\n    analytics = false\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "raw.dvc").write_text(f"outs:\n- md5: {'0' * 32}.dir\n  hash: md5\n  path: raw\n")
    with Repo(str(tmp_path)) as repo:
        assert [Path(stage.path).name for stage in repo.index.stages] == ["raw.dvc"]
    ignored = {
        name: subprocess.run(["git", "check-ignore", "-q", name], cwd=tmp_path).returncode == 0
        for name in ("data/raw", "data/cohort", "data/folds.csv", "data/raw.dvc")
    }
    assert ignored == {"data/raw": True, "data/cohort": True, "data/folds.csv": True, "data/raw.dvc": False}
