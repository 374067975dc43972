"""The wheel in an environment outside the repository. The other packages are those of the environment of the tests."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

from tests.stack.small_project import SETTINGS

ROOT = Path(__file__).parents[2]
DEMO = """
from pathlib import Path
from mcti.demo.run import demo
print("\\n".join(demo(Path.cwd(), announce=print, patients=60).lines()))
"""
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(source)], check=True)  # only tracked files
    pip(sys.executable, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(source))
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """An environment with the wheel; the editable install of the checkout is not visible in it."""
    folder = tmp_path_factory.mktemp("environment") / "env"
    venv.create(folder, with_pip=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    (packages / "packages_of_the_tests.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip(folder / "bin/python", "install", "--no-deps", "--no-index", str(wheel))
    for program in ("dvc", "weed"):
        (folder / "bin" / program).symlink_to(Path(sys.executable).with_name(program))
    return folder / "bin"


def pip(python, *arguments):
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    subprocess.run(command, check=True, capture_output=True, text=True)


def run(program, *arguments, cwd):
    done = subprocess.run(
        [str(program), *arguments],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_has_one_top_level_name_and_all_files(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"mcti", "mcti-0.1.0.dist-info"}
    tracked = subprocess.run(
        ["git", "ls-files", "mcti", "pipelines", "components", "infra/kubernetes"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    moved = {"pipelines/": "mcti/pipelines/", "components/": "mcti/components/"}
    moved["infra/kubernetes/"] = "mcti/project/files/kubernetes/"
    expected = set()
    for name in tracked:
        target = next((name.replace(old, new, 1) for old, new in moved.items() if name.startswith(old)), name)
        if not (ROOT / name).is_symlink() and not Path(name).name.startswith("."):
            expected.add(target)
    assert expected - set(names) == set()


def test_the_code_is_that_of_the_wheel(installed, tmp_path):
    code = "import mcti.pipelines.submit as s, mcti.components.train; print(s.__file__)"
    assert str(installed.parent) in run(installed / "python", "-c", code, cwd=tmp_path)
    assert run(installed / "mcti", "--version", cwd=tmp_path) == "mcti 0.1.0\n"
    assert "Operations:" in run(installed / "mcti", "--help", cwd=tmp_path)


def test_a_pipeline_is_compiled_and_checked(installed, tmp_path):
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines/__init__.py").write_text("raise SystemExit('a folder of the user was imported')\n")
    run(installed / "mcti", "pipeline", "compile", "--out", "training.yaml", cwd=tmp_path)
    documents = list(yaml.safe_load_all((tmp_path / "training.yaml").read_text(encoding="utf-8")))
    assert "train" in str(documents[0]["components"])
    run(installed / "mcti", "pipeline", "check", "training.yaml", cwd=tmp_path)


@pytest.mark.stack
def test_the_demo_makes_a_champion_in_an_empty_folder(installed, tmp_path):
    project = tmp_path / "a project"
    project.mkdir()
    run(installed / "python", "-c", CREATE, yaml.safe_dump(SETTINGS), cwd=project)
    try:
        printed = run(installed / "python", "-c", DEMO, cwd=project)
    finally:
        run(installed / "mcti", "stack", "down", cwd=project)
    assert "alias champion" in printed
    assert "stop       mcti stack down" in printed
    stages = yaml.safe_load((project / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    assert "data/mcti_version.txt" in [dep["path"] for dep in stages["train"]["deps"]]
    assert (project / "data/mcti_version.txt").read_text() == "mcti 0.1.0\n"


CREATE = """
import sys, yaml
from pathlib import Path
from mcti.project import create, files
tree = yaml.safe_load(files.demo_params())
for section, changes in yaml.safe_load(sys.argv[1]).items():
    tree[section] = (tree.get(section) or {}) | changes
create.create(Path.cwd(), "mcti-demo", yaml.safe_dump(tree))
"""
