"""The recipe of the image, without an engine: hadolint finds nothing, and the bill of materials names every package."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.containers.test_locks import ROOT, pins

BIN = Path(sys.executable).parent


def program(name: str) -> str:
    program_path = shutil.which(name, path=str(BIN))
    if program_path is None:
        pytest.skip(f"{name} is not installed: make install")
    return program_path


def test_hadolint_finds_nothing():
    done = subprocess.run([program("hadolint"), str(ROOT / "Dockerfile")], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_hadolint_would_find_something(tmp_path):
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM debian\nRUN apt-get install x\n")
    assert subprocess.run([program("hadolint"), str(bad)], capture_output=True).returncode == 1


def test_the_bill_of_materials_names_every_package_of_the_image_with_its_hash(tmp_path):
    out = tmp_path / "sbom.json"
    words = ["requirements", "--output-reproducible", "--of", "JSON", "--sv", "1.6", "-o", str(out)]
    subprocess.run([program("cyclonedx-py"), *words, str(ROOT / "requirements-runtime.lock")], check=True)
    bill = json.loads(out.read_text(encoding="utf-8"))
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert {f"{part['name']}=={part['version']}" for part in bill["components"]} >= pins("requirements-runtime.lock")


def test_the_scripts_of_the_image_are_valid_bash():
    for script in (ROOT / "infra" / "images").glob("*.sh"):
        assert subprocess.run(["bash", "-n", str(script)]).returncode == 0, script.name
