"""The documents: pages written from code are up to date, and every path and make word that they name exists."""

import re
import runpy
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


@pytest.fixture(scope="module")
def render():
    return runpy.run_path(str(ROOT / "docs" / "render.py"))


@pytest.mark.parametrize(("page", "function"), [("params.md", "params_page"), ("cli.md", "cli_page")])
def test_a_page_written_from_code_is_up_to_date(render, page, function):
    assert (ROOT / "docs" / page).read_text(encoding="utf-8") == render[function](), "run: make docs"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_linked_file_exists(page):
    targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_every_make_word_of_the_readme_is_a_target():
    words = set(re.findall(r"`?make ([a-z][a-z-]+)", (ROOT / "README.md").read_text(encoding="utf-8")))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert words <= targets


def test_every_command_line_of_the_readme_is_understood():
    """Each `mcti …` line of a code block parses: its words and flags exist (nothing is run: --help is added)."""
    from mcti.cli import command_context
    from mcti.cli.app import app

    fenced = re.split(r"^```.*$", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1::2]
    lines = [line.split("#")[0].split() for block in fenced for line in block.splitlines() if line.startswith("mcti ")]
    assert lines
    for line in lines:
        assert command_context.run_app(app, [*line[1:], "--help"]) == 0, line


def test_no_tracked_file_names_a_path_of_one_machine():
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    machine = re.compile(r"(?<![\w.])/(work|root|home/\w+)/")
    guilty = []
    for name in done.stdout.splitlines():
        path = ROOT / name
        if path.suffix in {".py", ".md", ".yaml", ".toml", ".sh", ".lock"} and path.is_file():
            guilty += [name for line in path.read_text(encoding="utf-8").splitlines() if machine.search(line)]
    assert guilty == []
