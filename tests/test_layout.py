"""The tests mirror the packages: each module has a test file of its own, or tests/mirror.yaml names what covers it."""

import ast
import re
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from jinja2 import Environment, meta, nodes

ROOT = Path(__file__).parents[1]
PACKAGES = ("mcti",)


@cache
def modules() -> list[str]:
    """Every module with code of its own: a package file that only imports or documents has nothing to test."""
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return [path.relative_to(ROOT).as_posix() for path in paths if has_code(path.read_text(encoding="utf-8"))]


def has_code(source: str) -> bool:
    """Whether a file defines a function or a class."""
    return any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in ast.parse(source).body)


def mirrored(module: str) -> str:
    """The test file that mirrors a module.

    >>> mirrored("mcti/model/cox.py")
    'tests/model/test_cox.py'
    """
    path = Path(module)
    name = path.parent.name if path.name == "__init__.py" else path.stem
    folder = path.parent.relative_to(path.parts[0])
    return (Path("tests") / folder / f"test_{name}.py").as_posix()


@cache
def mirror() -> dict[str, list[str]]:
    """tests/mirror.yaml: module to the test files that cover it."""
    return yaml.safe_load((ROOT / "tests" / "mirror.yaml").read_text(encoding="utf-8"))


def missing(listed: dict[str, list[str]]) -> list[str]:
    """Modules without a mirrored test file and without a line in `listed`."""
    return [module for module in modules() if not (ROOT / mirrored(module)).is_file() and module not in listed]


def stale(listed: dict[str, list[str]]) -> list[str]:
    """Lines of `listed` that are wrong: no such module, its mirrored file exists, or a test file is missing."""
    reasons = []
    for module, tests in listed.items():
        if module not in modules():
            reasons.append(f"{module}: no such module")
        elif (ROOT / mirrored(module)).is_file():
            reasons.append(f"{module}: {mirrored(module)} exists, remove the line")
        reasons += [f"{module}: no test file {test}" for test in tests if not (ROOT / test).is_file()]
        if not tests:
            reasons.append(f"{module}: no test file named")
    return reasons


def test_every_module_has_a_mirrored_test_file_or_a_line_in_the_map():
    unmapped = missing(mirror())
    assert not unmapped, f"add tests/<same path>/test_<module>.py, or a line in tests/mirror.yaml: {unmapped}"


def test_the_map_has_no_stale_line():
    wrong = stale(mirror())
    assert not wrong, "\n".join(wrong)


def test_the_map_is_sorted():
    assert all(first < second for first, second in pairwise(mirror()))


@pytest.mark.parametrize(
    ("listed", "reason"),
    [
        ({"mcti/no_such.py": ["tests/test_errors.py"]}, "no such module"),
        ({"mcti/errors.py": ["tests/test_errors.py"]}, "exists, remove the line"),
        ({"mcti/cli/app.py": ["tests/test_no_such.py"]}, "no test file tests/test_no_such.py"),
        ({"mcti/cli/app.py": []}, "no test file named"),
    ],
)
def test_a_wrong_line_is_detected(listed, reason):
    assert any(reason in line for line in stale(listed))


def test_a_module_without_test_and_line_is_detected():
    module = next(iter(mirror()))
    assert module in missing({name: tests for name, tests in mirror().items() if name != module})
    assert len(missing({})) >= len(mirror()) > 0


@pytest.mark.parametrize("template", sorted((ROOT / "mcti").rglob("*.html")), ids=lambda path: path.name)
def test_every_name_in_a_template_occurs_in_the_code(template):
    """Jinja renders an unknown name as nothing: a renamed field would disappear from its page without an error."""
    code = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "mcti").rglob("*.py")))
    assert unknown_names(template.read_text(encoding="utf-8"), code) == []


def test_an_unknown_name_in_a_template_is_detected():
    text = "{% for row in rows %}{{ loop.index0 }} {{ row.absent }} {{ row['no_such'] }} {{ row.hint }}{% endfor %}"
    assert unknown_names(text, "rows = [row]; row.hint") == ["absent", "no_such"]


def unknown_names(template: str, code: str) -> list[str]:
    """Variables, attributes and constant keys of a Jinja template that are no word of the code."""
    tree = Environment(autoescape=True).parse(template)
    names = meta.find_undeclared_variables(tree) | {node.attr for node in tree.find_all(nodes.Getattr)}
    names |= {node.arg.value for node in tree.find_all(nodes.Getitem) if isinstance(node.arg, nodes.Const)}
    words = set(re.findall(r"\w+", code)) | {"index0", "index", "first", "last"}  # of Jinja's loop
    return sorted(name for name in names if isinstance(name, str) and name not in words)
