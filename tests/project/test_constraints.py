"""Versions without hashes. Oracle: packaging, which parses every line as a requirement."""

import re
from pathlib import Path

from packaging.requirements import Requirement

from mcti.project.constraints import constraints

LOCK = Path(__file__).parents[2] / "requirements.lock"


def test_every_package_of_the_lock_has_its_version_and_marker_and_no_hash():
    pins = [Requirement(line) for line in constraints().splitlines() if not line.startswith("#")]
    locked = re.findall(r"^([a-z0-9][\w.-]*)==(\S+)", LOCK.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert [(pin.name, str(pin.specifier)) for pin in pins] == [(name, f"=={version}") for name, version in locked]
    assert any(pin.marker for pin in pins)
    assert len(pins) > 200
    assert "hash" not in constraints()
