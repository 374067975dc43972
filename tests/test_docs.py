"""The documents: pages written from code are up to date, and every path, name and command in them exists."""

import ast
import re
import runpy
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import code_language

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "infra").glob("*.md")]
)
PLANTED = ("test_docs.py", "test_language.py", "test_layout.py")  # they name missing files on purpose
FOLDERS = ("mcti", "components", "pipelines", "docs", "tests", "benchmarks", "infra", "findings")
BARE_PATH = re.compile(rf"(?<![\w/.<{{$-])(?:{'|'.join(FOLDERS)})/[\w./-]+\.(?:py|md|yaml|html|json|svg|sh|csv)\b")


@pytest.fixture(scope="module")
def render():
    return runpy.run_path(str(ROOT / "docs" / "render.py"))


@pytest.fixture(scope="module")
def drawing():
    return runpy.run_path(str(ROOT / "docs" / "drawing.py"))


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """The fenced code blocks of a page in one language, without those that have a title."""
    fences = re.split(r"^```(.*)$\n?", text, flags=re.MULTILINE)
    return [body for name, body in zip(fences[1::4], fences[2::4], strict=True) if name == language]


@pytest.mark.parametrize(
    ("page", "function"), [("params.md", "params_page"), ("cli.md", "cli_page"), ("api.md", "api_page")]
)
def test_a_page_written_from_code_is_up_to_date(render, page, function):
    assert (ROOT / "docs" / page).read_text(encoding="utf-8") == render[function](), "run: make docs"


def test_the_reference_of_the_python_api_has_every_public_name_of_mcti_api():
    """Read from the source, not from the module."""
    tree = ast.parse(text_of("mcti/api.py"))
    public = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_"]
    expected = [f"## `mcti.api.{node.name}`" for node in public]
    classes = [node for node in public if isinstance(node, ast.ClassDef)]
    methods = [
        (definition.name, node.name)
        for definition in classes
        for node in definition.body
        if isinstance(node, ast.FunctionDef)
    ]
    expected += [f"### `{definition}.{name}`" for definition, name in methods if name[0] != "_"]
    assert len(expected) >= 11
    lines = text_of("docs/api.md").splitlines()
    assert [heading for heading in expected if lines.count(heading) != 1] == []


def test_the_risks_of_the_dossier_are_those_of_the_security_page():
    written = runpy.run_path(str(ROOT / "docs" / "risks.py"))["risks_json"]()
    assert text_of("mcti/registry/risks.json") == written, "run: make docs"


def test_the_packages_of_the_architecture_are_up_to_date(drawing):
    assert text_of("docs/architecture.md") == drawing["page"](text_of("docs/architecture.md")), "run: make docs"


def test_the_drawing_of_the_architecture_is_up_to_date(drawing):
    """Its text, not its bytes: another release of matplotlib may write other coordinates."""
    shown = re.findall(r">([^<>\n]+)</text>", text_of("docs/figures/packages.svg"))
    assert shown == re.findall(r">([^<>\n]+)</text>", drawing["svg"]()), "run: make docs"
    assert {"steps", "registry", "mlflow"} <= set(shown)


def walks() -> dict[str, list[tuple[str, str]]]:
    """Title of each walk in docs/architecture.md to its rows (package, text)."""
    section = text_of("docs/architecture.md").split("## Three walks")[1].split("\n## ")[0]
    parts = re.split(r"^### ", section, flags=re.MULTILINE)[1:]
    return {part.split("\n")[0]: re.findall(r"^\| (\w+) \| (.*)", part, flags=re.MULTILINE)[1:] for part in parts}


def test_the_three_walks_visit_each_package_and_none_twice(drawing):
    packages = {name for layer in drawing["layers"]() for name in layer if (ROOT / "mcti" / name).is_dir()}
    visited = {title: [package for package, _ in rows] for title, rows in walks().items()}
    assert len(visited) == 3
    assert all(len(names) == len(set(names)) for names in visited.values())
    assert {name for names in visited.values() for name in names} == packages | {"components", "pipelines"}


def test_each_row_of_a_walk_names_a_file_of_its_package():
    for rows in walks().values():
        for package, text in rows:
            folder = package if package in ("components", "pipelines") else f"mcti/{package}"
            assert f"`{folder}/" in text.split("|")[0], text


def test_each_name_of_the_index_is_defined_in_its_file():
    """`file`: `name` or `Class.name`, several names separated by commas or "and"."""
    entries = re.findall(r"`([\w./]+\.py)`: ((?:`[\w.]+`(?:, | and )?)+)", text_of("docs/index.md"))
    assert len(entries) > 5
    for file, names in entries:
        defined = set(re.findall(r"^\s*(?:def |class )?(\w+)", text_of(file), flags=re.MULTILINE))
        for name in re.findall(r"`([\w.]+)`", names):
            assert set(name.split(".")) <= defined, f"{file}: {name}"


def test_the_index_links_every_page():
    linked = set(re.findall(r"\]\(([\w-]+\.md)\)", text_of("docs/index.md")))
    assert linked == {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_linked_file_exists(page):
    targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize(
    "page", [*PAGES, *sorted((ROOT / "docs" / "decisions").glob("*.md"))], ids=lambda path: path.name
)
def test_every_bare_path_of_a_page_exists(page):
    assert missing_paths(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("package", [*code_language.CODE, "findings"])
def test_every_bare_path_of_the_code_exists(package):
    """Docstrings, comments, messages and the descriptions of settings."""
    missing = []
    for path in (ROOT / package).rglob("*"):
        if path.suffix in {".py", ".sh", ".yaml"} and path.name not in PLANTED:
            missing += [f"{path.relative_to(ROOT)}: {name}" for name in missing_paths(path.read_text(encoding="utf-8"))]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_test_that_a_page_names_exists(page):
    assert missing_tests(page.read_text(encoding="utf-8")) == []


def test_a_missing_test_is_detected():
    text = "`tests/test_docs.py::test_no_such`, `tests/test_docs.py::test_a_missing_test_is_detected`"
    assert missing_tests(text) == ["tests/test_docs.py::test_no_such"]


def missing_tests(text: str) -> list[str]:
    named = re.findall(r"(tests/[\w/]+\.py)::(?:\w+::)?(\w+)", text)
    return [f"{file}::{test}" for file, test in named if not re.search(rf"\bdef {test}\(", text_of(file))]


def missing_paths(text: str) -> list[str]:
    return [name for name in BARE_PATH.findall(text) if not (ROOT / name).exists()]


def test_a_missing_path_is_detected():
    assert missing_paths("see docs/no-such-page.md and `mcti/no/such.py`, not a/docs/x.md") == [
        "docs/no-such-page.md",
        "mcti/no/such.py",
    ]


def test_every_make_word_of_the_pages_is_a_target():
    words = {
        word for page in PAGES for word in re.findall(r"(?:`|^)make ([a-z][a-z-]+)", page.read_text("utf-8"), re.M)
    }
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), flags=re.MULTILINE))
    assert "demo" in words
    assert words <= targets


def test_the_readme_has_command_lines():
    assert sum(block.count("mcti ") for block in blocks(text_of("README.md"), "bash")) > 5


@pytest.mark.slow
def test_the_python_example_runs_on_a_small_cohort(tmp_path, monkeypatch):
    random, ids = np.random.default_rng(0), [f"P-{number:03}" for number in range(60)]
    genes = pd.DataFrame(random.normal(size=(60, 4)), index=pd.Index(ids, name="patient_id"), columns=list("ABCD"))
    months = np.round(30 * np.exp(-0.7 * genes["A"] + 0.3 * random.normal(size=60)) + 0.1, 2)
    clinical = {"cohort": "small", "site": "S1", "age": 60, "is_female": 1, "subtype": ["x", "y"] * 30}
    events = (random.random(60) < 0.7).astype(int)
    table = pd.DataFrame(clinical | {"time_months": months.to_numpy(), "event": events}, index=genes.index)
    table.to_csv(tmp_path / "clinical.csv")
    genes.to_csv(tmp_path / "expression.csv")
    (tmp_path / "params.yaml").write_text(
        "ingest: {name: small, expression_scale: z-score}\n"
        "split: {folds: 2, inner_folds: 2, min_test_events: 0}\n"
        "train: {preset: tiny, epochs: 2, workers: 1}\nevaluate: {bootstrap: 100}\n"
    )
    monkeypatch.chdir(tmp_path)
    (block,) = blocks(text_of("docs/python-api.md"), "python")
    assert len(block.replace("\n\n", "\n").splitlines()) == 12
    names: dict[str, object] = {}
    exec(block, names)
    assert names["evaluation"].result.patients == 60
    assert 0 <= names["evaluation"].result.c_index <= 1
    assert (tmp_path / "kaplan_meier.png").stat().st_size > 10_000
    assert sorted(path.name for path in (tmp_path / "notebook").iterdir()) == [
        "cohort",
        "evaluation",
        "folds.csv",
        "folds.json",
        "models",
    ]


def test_no_tracked_file_names_a_path_of_one_machine():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    machine = re.compile(r"(?<![\w.])/(work|root|home/\w+)/")
    files = []
    for name in listed.splitlines():
        path = ROOT / name
        if path.suffix in {".py", ".md", ".yaml", ".toml", ".sh", ".lock"} and path.is_file():
            files += [name for line in path.read_text(encoding="utf-8").splitlines() if machine.search(line)]
    assert files == []
