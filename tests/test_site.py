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
from tests.command_blocks import ELSEWHERE, GENERATED, LANGUAGES, PAGES, ROOT, blocks, commands, fault
from tests.polling import LIMIT_MS

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
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], timeout=LIMIT_MS)
        page = browser.new_context(offline=True).new_page()
        page.set_default_timeout(LIMIT_MS)
        errors, requests = [], []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto((site / "tutorial" / "demo.html").as_uri())
        page.get_by_role("textbox", name="Search").fill("ledger")
        page.locator(".md-search-result__item").first.wait_for()
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
    assert {page.name for page in PAGES.values() if page.parent.name == "tutorial"} == set(TUTORIAL)


@pytest.mark.parametrize("page", PAGES)
def test_each_block_has_a_known_language(page):
    for block in blocks(PAGES[page]):
        assert block.language in LANGUAGES, block.text
        assert block.rest == ""


def test_all_blocks_are_found():
    """Each fence of a page is the start or the end of one block."""
    for name, page in PAGES.items():
        fences = re.findall(r"^ *```", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert len(fences) == 2 * len(blocks(page)), name


@pytest.mark.parametrize("page", [name for name in PAGES if any(b.language == "bash" for b in blocks(PAGES[name]))])
def test_each_command_is_understood_by_the_parser_of_its_program(page, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("training.yaml").touch()  # the program of KFP tests whether its file exists
    scripts = [block.text for block in blocks(PAGES[page]) if block.language == "bash"]
    assert [(words, why) for script in scripts for words in commands(script) if (why := fault(words))] == []


@pytest.mark.parametrize("page", GENERATED)
def test_each_command_of_a_generated_page_is_understood(page):
    """The examples of the help texts, and the commands of the introductions."""
    lines = [line for block in blocks(ROOT / "docs" / page) for line in block.text.replace("\\\n", " ").splitlines()]
    words = [words for line in lines if line.startswith("mcti ") for words in commands(line)]
    assert len(words) > 40 or page != "cli.md"
    assert [(one, why) for one in words if (why := fault(one))] == []


def test_no_page_has_a_command_outside_of_the_blocks_of_commands():
    """A block of text is output, not commands."""
    for name, page in PAGES.items():
        texts = [block.text for block in blocks(page) if block.language not in ("bash", "python")]
        lines = [line for text in texts for line in text.splitlines()]
        assert [line for line in lines if re.match(r"(mcti|dvc|make|kubectl|git|docker) [a-z-]+( |$)", line)] == [], (
            name
        )


@pytest.mark.parametrize("page", [name for name in PAGES if command_blocks.settings(PAGES[name])])
def test_the_settings_of_a_page_are_valid(page, tmp_path):
    for block in blocks(PAGES[page]):
        if block.language == "yaml" and not block.title:
            (tmp_path / "params.yaml").write_text(block.text, encoding="utf-8")
            loaded = params.load(tmp_path / "params.yaml").model_dump(by_alias=True)
            assert set(yaml.safe_load(block.text)) <= set(loaded)


def test_a_block_of_another_file_has_its_name_as_title():
    """Such as dvc.yaml; the settings of params.yaml have no title."""
    titles = [b.title for page in PAGES.values() for b in blocks(page) if b.language == "yaml" and b.title]
    assert len(titles) >= 3
    assert all(title.endswith(".yaml") for title in titles)


@pytest.mark.parametrize("page", ELSEWHERE)
def test_the_test_that_runs_the_blocks_of_a_page_names_it(page):
    assert f'"{Path(page).name}"' in (ROOT / ELSEWHERE[page]).read_text(encoding="utf-8")


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
        "curl localhost -d '{\"a\": '",
        "docker run image mcti no-such-command",
        "kfp --endpoint http://localhost run create --no-such-option",
        "./no-such-script.sh",
        "wget http://localhost",
    ],
)
def test_a_command_that_its_program_would_refuse_is_detected(line):
    assert fault(*commands(line)) != ""


def test_each_test_that_a_block_names_exists():
    named = {
        name for page in PAGES.values() for block in blocks(page) for name in re.findall(r"tests/[\w/.]+", block.title)
    }
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []
