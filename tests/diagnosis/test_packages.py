"""Installed packages against requirements and lock, in this environment and with planted differences."""

import re
from importlib import metadata
from pathlib import Path

import pytest

from mcti.diagnosis import packages

ROOT = Path(__file__).parents[2]


@pytest.fixture
def installed(monkeypatch):
    """A function that changes versions of the installed packages; None: not installed."""
    actual = dict(packages._installed())

    def change(**versions):
        names = {name.replace("_", "-"): version for name, version in versions.items()}
        changed = {name: version for name, version in {**actual, **names}.items() if version is not None}
        monkeypatch.setattr(packages, "_installed", lambda: changed)

    return change


def test_this_environment_fulfils_every_requirement():
    requirements, lock = packages.check_packages({"local", "pipelines"})
    assert requirements.state == "OK", requirements.detail
    assert lock.state == "OK", lock.detail


def test_the_lock_in_the_package_is_that_of_the_repository():
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pinned = re.findall(r"^([a-z0-9][^ ]*==\S+(?: ; [^\\\n]*[^\\\s])?)", lock, re.MULTILINE)
    text = (ROOT / "mcti/diagnosis" / packages.LOCKED).read_text(encoding="utf-8")
    assert text.splitlines() == pinned, "run `make lock`"
    assert len(pinned) > 200


def test_an_absent_package_and_an_unsuitable_version_are_missing(installed):
    installed(boto3=None, mlflow_skinny="3.0.0")
    requirements, _ = packages.check_packages(())
    assert requirements.state == "missing"
    assert "boto3 is not installed" in requirements.detail
    assert "mlflow-skinny is 3.0.0, mcti requires ==3.17.2" in requirements.detail
    assert requirements.hint == f"pip install 'mcti=={metadata.version('mcti')}'"


def test_the_requirements_of_requirements_count(installed):
    installed(urllib3="1.0", jmespath=None)  # boto3 requires jmespath
    detail = packages.check_packages(())[0].detail
    assert "jmespath is not installed" in detail


def test_the_packages_of_an_extra_are_needed_where_it_is_used(installed):
    installed(dvc=None)
    assert packages.check_packages(())[0].state == "OK"
    check = packages.check_packages({"local"})[0]
    assert (check.state, check.detail) == ("missing", "dvc is not installed")
    assert check.hint.startswith("pip install 'mcti[local]==")


def test_a_version_other_than_the_locked_one_is_a_warning(installed):
    locked = packages.locked()["pyyaml"]
    installed(pyyaml="6.0.99")
    requirements, lock = packages.check_packages(())
    assert (requirements.state, lock.state) == ("OK", "warning")
    assert lock.detail == f"pyyaml 6.0.99 (lock: {locked})"


def test_a_long_list_is_shortened():
    assert packages._shown([str(n) for n in range(8)]) == "0; 1; 2; 3; 4; 5; and 2 more"
