"""The drill script, with a program in place of Python that writes the report of the tests."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "infra" / "drill.sh"
PYTEST = """#!/bin/sh
for word in "$@"; do case $word in --junit-xml=*) report=${word#--junit-xml=} ;; esac; done
echo '%s' > "$report"
exit %d
"""


def drill(tmp_path, report="<testcase/>", code=0, **variables):
    program = tmp_path / "python"
    program.write_text(PYTEST % (report, code))
    program.chmod(0o755)
    inherited = {name: value for name, value in os.environ.items() if name != "MCTI_OTHER_MLFLOW"}
    return subprocess.run(
        [SCRIPT, program], capture_output=True, text=True, check=False, env={**inherited, **variables}, cwd=tmp_path
    )


def test_without_another_release_there_is_no_drill(tmp_path):
    done = drill(tmp_path)
    assert (done.returncode, done.stderr) == (2, "drill: name a release: make drill MLFLOW=3.18.0\n")


def test_a_complete_drill_succeeds(tmp_path):
    done = drill(tmp_path, MCTI_OTHER_MLFLOW="/other/bin/mlflow")
    assert done.returncode == 0
    assert done.stdout.endswith("drill: backup, restore, upgrade and the way back succeeded\n")


@pytest.mark.parametrize(
    ("report", "code", "message"),
    [
        ('<testcase><skipped type="x" message="no PostgreSQL here"/></testcase>', 0, "no PostgreSQL here"),
        ("<testcase><failure/></testcase>", 1, ""),
    ],
)
def test_a_skipped_or_failed_part_is_no_success(tmp_path, report, code, message):
    done = drill(tmp_path, report, code, MCTI_OTHER_MLFLOW="/other/bin/mlflow")
    assert done.returncode == 1
    assert message in done.stderr
    assert "succeeded" not in done.stdout
