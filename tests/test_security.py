"""docs/security.md: every test that it names as a defence exists."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`(tests/[\w/]+\.py)((?:::\w+)+)`", PAGE)


def names(path):
    """test_x and Class::test_x of a file."""
    for node in ast.parse((ROOT / path).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.ClassDef):
            yield from (f"{node.name}::{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef))


def test_every_named_defence_is_a_test_that_exists():
    assert len(NAMED) > 25
    missing = [path + name for path, name in NAMED if not (ROOT / path).exists() or name[2:] not in set(names(path))]
    assert missing == []


def test_each_of_the_seven_threats_has_its_section_and_at_least_two_defences():
    sections = re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
    for threat in ("slide", "weights", "CSV", "request", "S3 key", "patients", "registry"):
        body = next(section for section in sections if threat in section.splitlines()[0])
        assert body.count("tests/") >= 2, threat
