"""The page of `dvc plots`: the vendored scripts are unaltered, and a browser without a network draws the figures."""

import csv
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.polling import LIMIT_MS

ROOT = Path(__file__).parents[1]
VEGA = ROOT / ".dvc" / "vega"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SCRIPT = re.compile(r'<script data-file="([^"]+)" data-package="([^"]+)">(.*?)</script>\n', re.DOTALL)
STAGES = """
plots:
  - Brier score:
      template: by_model
      x: months
      y:
        plots/over_time.csv: brier
"""


def scripts():
    """(file, package, text) of each script of the page."""
    return SCRIPT.findall((VEGA / "page.html").read_text(encoding="utf-8"))


def test_each_script_is_the_file_of_its_package():
    """SHA256SUMS was made from the files of the npm packages."""
    lines = (VEGA / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    expected = {name: digest for digest, name in (line.split() for line in lines)}
    assert {name: hashlib.sha256(text.encode()).hexdigest() for name, _, text in scripts()} == expected


def test_the_licence_of_each_package_is_in_the_tree():
    licences = (VEGA / "LICENSES.txt").read_text(encoding="utf-8")
    assert "Redistributions of source code must retain the above copyright notice" in licences
    page = (ROOT / "docs" / "licences.md").read_text(encoding="utf-8")
    for _, package, _ in scripts():
        name, _, version = package.partition("@")
        assert name in licences.splitlines()[0]
        assert f"{name} {version}" in page


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")
def test_the_difference_of_two_commits_is_drawn_without_a_network(tmp_path):
    from playwright.sync_api import sync_playwright

    plots = tmp_path / "plots"
    plots.mkdir()
    for part in ("config", "plots", "vega"):
        copy = shutil.copytree if (ROOT / ".dvc" / part).is_dir() else shutil.copy
        (tmp_path / ".dvc").mkdir(exist_ok=True)
        copy(ROOT / ".dvc" / part, tmp_path / ".dvc" / part)
    (tmp_path / "dvc.yaml").write_text(STAGES)
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org"]
    subprocess.run([*git, "init", "-q"], cwd=tmp_path, check=True)
    for brier in ("0.2", "0.3"):
        with (plots / "over_time.csv").open("w", newline="") as stream:
            rows = [["model", "months", "brier"], ["mcti", "12", brier], ["mcti", "36", brier]]
            csv.writer(stream).writerows(rows)
        subprocess.run([*git, "add", "."], cwd=tmp_path, check=True)
        subprocess.run([*git, "commit", "-q", "-m", brier], cwd=tmp_path, check=True)
    command = [str(Path(sys.executable).with_name("dvc")), "plots", "diff", "HEAD~1"]
    subprocess.run(command, cwd=tmp_path, check=True, env=os.environ | {"DVC_NO_ANALYTICS": "1"})
    page = tmp_path / "dvc_plots" / "index.html"
    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--host-resolver-rules=MAP * 127.0.0.1:9"], timeout=LIMIT_MS
        )
        opened, requested, errors = browser.new_page(), [], []
        opened.set_default_timeout(LIMIT_MS)
        opened.on("request", lambda request: requested.append(request.url))
        opened.on("pageerror", lambda error: errors.append(str(error)))
        opened.goto(page.as_uri())
        opened.wait_for_selector("svg, canvas")
        browser.close()
    assert not errors
    assert not [address for address in requested if not address.startswith(("file:", "data:"))]
