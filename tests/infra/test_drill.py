"""The drill script, with a program in place of Python that writes the report of the tests."""

import os
import re
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "infra" / "drill.sh"
PYTHON = """#!/bin/sh
echo "python $*"
if [ "$2" = venv ]; then
    mkdir -p "$3/bin"
    printf '#!/bin/sh\\necho "pip $*"\\n' > "$3/bin/pip"
    chmod +x "$3/bin/pip"
    exit
fi
for word in "$@"; do case $word in --junit-xml=*) report=${word#--junit-xml=} ;; esac; done
echo '%s' > "$report"
exit %d
"""


def drill(tmp_path, report="<testcase/>", code=0, releases=(), **variables):
    """releases: of MLflow and of KFP, as `make drill` gives them."""
    program = tmp_path / "python"
    program.write_text(PYTHON % (report, code))
    program.chmod(0o755)
    inherited = {name: value for name, value in os.environ.items() if name != "MCTI_OTHER_MLFLOW"}
    return subprocess.run(
        [SCRIPT, program, *releases],
        capture_output=True,
        text=True,
        check=False,
        env={**inherited, **variables},
        cwd=tmp_path,
    )


def test_without_another_release_there_is_no_drill(tmp_path):
    done = drill(tmp_path)
    assert (done.returncode, done.stderr) == (2, "drill: name a release: make drill MLFLOW=3.18.0\n")


def test_a_complete_drill_succeeds(tmp_path):
    done = drill(tmp_path, MCTI_OTHER_MLFLOW="/other/bin/mlflow")
    assert done.returncode == 0
    assert done.stdout.endswith("drill: backup, restore, upgrade and the way back succeeded\n")


def test_with_another_release_of_kfp_alone_only_its_pipelines_are_compared(tmp_path):
    done = drill(tmp_path, releases=("", "2.16.0"))
    assert done.returncode == 0
    installed, tests = (re.search(f"^{word}.*$", done.stdout, re.MULTILINE)[0] for word in ("pip", "python -m pytest"))
    assert re.fullmatch(r"pip install --quiet --target \S+/kfp kfp==2\.16\.0", installed)
    assert tests.endswith(" tests/pipelines/test_other_kfp.py")
    assert "tests/stack" not in tests
    assert done.stdout.endswith("drill: pipelines of kfp 2.16.0 succeeded\n")


def test_both_releases_are_tested_in_one_drill(tmp_path):
    done = drill(tmp_path, releases=("3.16.0", "2.16.0"))
    assert re.findall(r"\S+==\S+", done.stdout)[:2] == ["mlflow==3.16.0", "mlflow==3.16.0"]
    assert " tests/stack/test_backup.py tests/stack/test_upgrade.py tests/pipelines/test_other_kfp.py" in done.stdout
    expected = "drill: backup, restore, upgrade and the way back, pipelines of kfp 2.16.0 succeeded\n"
    assert done.stdout.endswith(expected)


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
