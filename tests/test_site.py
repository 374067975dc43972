"""The documentation as a site: it is built without a warning, needs no network, and its commands exist."""

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mcti import params
from tests import command_blocks
from tests.command_blocks import LANGUAGES, PAGES, ROOT, blocks, commands, fault

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
TUTORIAL = ("demo.md", "own-tables.md", "own-features.md", "cluster.md", "promotion.md")
EXTERNAL = re.compile(r"""<(?:script|link|img|iframe)[^>]*(?:src|href)=["']?((?:https?:)?//[^"'\s>]+)""")
IN_STYLE = re.compile(r"""(?:url\(["']?|@import\s+["'])((?:https?:)?//[^"')]+)""")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site")
    build(out)
    return out


def build(out: Path, config: str = "mkdocs.yml") -> None:
    words = ["build", "--strict", "--config-file", config, "--site-dir", str(out)]
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_page_of_the_documentation_is_a_page_of_the_site(site):
    sources = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    assert {path.relative_to(site) for path in site.rglob("*.html")} == sources | {
        Path("404.html"), Path("runbook.html"), Path("contributing.html")
    }  # fmt: skip


def test_no_page_loads_a_file_from_a_network(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        links = EXTERNAL.findall(page.read_text(encoding="utf-8"))
        assert [link for link in links if not _is_page_address(link)] == [], page.name
    for style in site.rglob("*.css"):
        assert IN_STYLE.findall(style.read_text(encoding="utf-8")) == [], style.name


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")
def test_a_browser_without_a_network_shows_and_searches_the_pages(site):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_context(offline=True).new_page()
        errors, requests = [], []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto((site / "tutorial" / "demo.html").as_uri())
        page.get_by_role("textbox", name="Search").fill("ledger")
        page.locator(".md-search-result__item").first.wait_for(timeout=60_000)
        assert "ledger" in page.locator(".md-search-result__list").inner_text().lower()
        browser.close()
    assert errors == []
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []


def _is_page_address(link: str) -> bool:
    """A link for search engines or to the author of the theme, which a browser does not load."""
    return link.startswith("https://squidfunk.github.io")


def test_the_script_of_another_project_is_unaltered_and_has_its_licence():
    """SHA-256 of shim/index.js of the npm package iframe-worker 1.0.4."""
    folder = ROOT / "docs" / "assets" / "iframe-worker"
    digest = hashlib.sha256((folder / "shim.js").read_bytes()).hexdigest()
    assert digest == "e8e412dbcfea9b7e31b5ffa288d7b6035915e714c542f4176a0cdbe262fc9609"
    assert "Permission is hereby granted" in (folder / "LICENSE.txt").read_text(encoding="utf-8")
    assert "iframe-worker 1.0.4 (MIT)" in (ROOT / "docs" / "licences.md").read_text(encoding="utf-8")


def test_a_font_of_a_network_is_detected():
    assert EXTERNAL.findall('<link rel="stylesheet" href="https://fonts.googleapis.com/css?family=Roboto">') == [
        "https://fonts.googleapis.com/css?family=Roboto"
    ]
    assert IN_STYLE.findall("@font-face{src:url(//a.example/b.woff2)}") == ["//a.example/b.woff2"]


def test_links_to_files_of_the_repository_are_links_of_the_site_or_paths(site):
    text = (site / "tutorial" / "cluster.html").read_text(encoding="utf-8")
    assert 'href="../runbook.html"' in text
    contributing = (site / "contributing.html").read_text(encoding="utf-8")
    assert 'href="architecture.html"' in contributing
    assert "<code>CHANGELOG.md</code>" in contributing


def test_a_link_to_a_missing_page_ends_the_build(tmp_path):
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "index.md").write_text("# Start\n\n[missing](no-such-page.md)\n")
    tree = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:")[0] + "\n"
    tree = tree.replace("docs_dir: docs", f"docs_dir: {docs}").replace("hooks:\n  - docs/site_pages.py\n", "")
    (tmp_path / "mkdocs.yml").write_text(tree)
    with pytest.raises(AssertionError, match="no-such-page"):
        build(tmp_path / "out", str(tmp_path / "mkdocs.yml"))


def test_the_tutorial_has_five_pages_in_this_order():
    nav = re.findall(r"tutorial/([\w-]+\.md)", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert tuple(nav) == TUTORIAL
    assert {page.name for page in PAGES if page.parent.name == "tutorial"} == set(TUTORIAL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_block_has_a_known_language_and_only_commands_have_a_reason_not_to_run(page):
    for block in blocks(page):
        assert block.language in LANGUAGES
        assert block.rest == ""
        assert not block.title or block.language == "bash"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_command_is_understood_by_the_parser_of_its_program(page):
    scripts = [block.text for block in blocks(page) if block.language == "bash"]
    assert scripts
    assert [(words, why) for script in scripts for words in commands(script) if (why := fault(words))] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_settings_of_a_page_are_valid(page, tmp_path):
    (tmp_path / "params.yaml").write_text(command_blocks.settings(page), encoding="utf-8")
    tree = yaml.safe_load(command_blocks.settings(page)) or {}
    loaded = params.load(tmp_path / "params.yaml").model_dump(by_alias=True)
    assert set(tree) <= set(loaded)


@pytest.mark.parametrize(
    "line",
    [
        "mcti train --cohort data/cohort --no-such-option",
        "mcti pipeline submit --host http://localhost:8888 --kinds training",
        "mcti pipeline compile",
        "mcti no-such-command",
        "mcti serve --model m --port eighty",
        "dvc repro --no-such-option",
        "make no-such-target",
        "kubectl apply -k infra/no-such-overlay",
        "curl http://localhost",
    ],
)
def test_a_command_that_its_program_would_refuse_is_detected(line):
    assert fault(*commands(line)) != ""


def test_each_test_that_a_block_names_exists():
    named = {name for page in PAGES for block in blocks(page) for name in re.findall(r"tests/[\w/.]+", block.title)}
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []
