"""A stage exits with its DVC process."""

import os
import shlex
import subprocess
import sys
import time

import pytest

from mcti.local import orphans, servers
from tests.local.test_servers import SLEEP, until


def test_a_stage_exits_when_its_dvc_is_killed(tmp_path):
    """DVC starts a stage through a shell: without this module shell and stage would continue after a kill of DVC."""
    stage = tmp_path / "stage.py"
    stage.write_text(
        "import subprocess, sys, time\n"
        "from mcti.local import orphans\n"
        "orphans.exit_with_dvc()\n"
        f"child = subprocess.Popen({SLEEP!r})\n"
        f"open({str(tmp_path / 'pids')!r}, 'w').write(f'{{child.pid}} ')\n"
        "time.sleep(300)\n"
    )
    line = f"X=1 {shlex.quote(sys.executable)} {shlex.quote(str(stage))}; true"
    caller = f"import subprocess; subprocess.run(['/bin/sh', '-c', {line!r}])"
    environment = {**os.environ, "DVC_STAGE": "train", servers.MARKER: str(tmp_path)}
    dvc = subprocess.Popen([sys.executable, "-c", caller], env=environment)
    try:
        until(lambda: (tmp_path / "pids").exists() and (tmp_path / "pids").read_text().endswith(" "))
        time.sleep(0.5)
        assert len(servers.marked_processes(tmp_path)) >= 2, "stage and child live before the kill"
        dvc.kill()
        dvc.wait()
        until(lambda: servers.marked_processes(tmp_path) == [])
    finally:
        servers.stop(servers.marked_processes(tmp_path))


def test_outside_a_stage_no_process_is_monitored(monkeypatch):
    monkeypatch.delenv("DVC_STAGE", raising=False)
    monkeypatch.setattr(orphans, "_callers", lambda: pytest.fail("searched for parents"))
    orphans.exit_with_dvc()
