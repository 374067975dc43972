"""End to end on real servers: raw tables and slides to a promoted champion, with DVC, in folders with spaces."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from mcti import storage
from mcti.demo import raw_data
from mcti.local import stack
from mcti.storage import tree_md5
from tests import command_blocks
from tests.stack.small_project import (
    clone,
    dvc,
    environment,
    kill_after,
    kill_process,
    make_raw_data,
    mcti,
    run_with_one_killed_task,
    shrink_settings,
)

pytestmark = [pytest.mark.slow, pytest.mark.stack]

STAGES = [
    "settings",
    "ingest",
    "validate",
    "list_features",
    "extract",
    "validate_features",
    "split",
    "list_sources",
    "search",
    "train",
    "evaluate",
    "register",
]
ALWAYS = {"list_features", "list_sources"}
RESULTS = ["data/folds.csv", "reports/evaluation/metrics.json", "reports/evaluation/predictions.csv"]


@pytest.fixture(scope="module")
def project(preloaded, tmp_path_factory):
    """A clone in which the servers run and all stages are done."""
    folder = clone(tmp_path_factory.mktemp("first clone") / "a project", programs=preloaded)
    shrink_settings(folder)
    make_raw_data(folder)
    record_as_complete(folder / "data" / "raw")
    stack.up(folder)
    try:
        dvc(folder, "add", "data/raw", "--quiet")
        done = dvc(folder, "repro", check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        yield folder
    finally:
        stack.down(folder)


def record_as_complete(raw):
    """The record of `mcti demo`, so that it keeps this small cohort as its whole one."""
    files = [*raw.glob("*.csv"), *raw.glob("slides/*")]
    md5 = {str(path.relative_to(raw)): storage.md5(path) for path in files}
    record = {"painter": raw_data._painter_identity(), "patients": None, "md5": md5}
    storage.write_json(raw / raw_data._RECORD, record)


def run_stages(output):
    """The stages that `dvc repro` ran, without those that always run."""
    return [name for name in STAGES if f"Running stage '{name}'" in output and name not in ALWAYS]


def changed_stages(folder):
    return sorted(set(json.loads(dvc(folder, "status", "--json").stdout)) - ALWAYS)


def results(folder):
    return {name: (folder / name).read_bytes() for name in RESULTS}


def test_all_stages_ran_and_left_their_files(project):
    lock = yaml.safe_load((project / "dvc.lock").read_text(encoding="utf-8"))
    assert sorted(lock["stages"]) == sorted(STAGES)
    metrics = json.loads((project / "reports/evaluation/metrics.json").read_text(encoding="utf-8"))
    for model in ("mcti", "cox_clinical", "cox_genes", "forest"):
        c_index = metrics[model]["c_index"]
        assert 0 <= c_index["low"] <= c_index["value"] <= c_index["high"] <= 1
    assert "painted slides: not a clinical result" in (project / "reports/evaluation/report.html").read_text("utf-8")
    assert "painted slides: not a clinical result" in (project / "reports/validation/report.html").read_text("utf-8")


def test_a_second_repro_runs_nothing(project):
    done = dvc(project, "repro")
    assert run_stages(done.stdout) == []
    assert changed_stages(project) == []


@pytest.mark.parametrize(
    ("key", "value", "stages"),
    [
        ("promote.margin", 0.01, []),
        ("register.experiment", "other", ["register"]),
        ("evaluate.bootstrap", 120, ["evaluate"]),
        ("search.epochs", 2, ["search"]),
        ("split.seed", 8, ["split"]),
    ],
)
def test_a_changed_parameter_touches_exactly_its_own_stages(project, key, value, stages):
    path = project / "params.yaml"
    before = path.read_text(encoding="utf-8")
    tree = yaml.safe_load(before)
    section, name = key.split(".")
    tree[section][name] = value
    try:
        path.write_text(yaml.safe_dump(tree), encoding="utf-8")
        dvc(project, "repro", "--quiet", "settings")
        assert changed_stages(project) == stages
    finally:
        path.write_text(before, encoding="utf-8")
        dvc(project, "repro", "--quiet", "settings")


def test_the_champion_gives_in_a_new_process_the_bits_of_the_evaluation(project):
    promoted = mcti(project, "promote", "--json")
    assert promoted.returncode == 0, promoted.stderr
    assert json.loads(promoted.stdout)["outcome"] == "promote"
    out = project / "again.csv"
    done = mcti(
        project, "predict", "--model", "models:/mcti-demo@champion", "--cohort", "data/cohort",
        "--features", "data/features", "--out", str(out),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # As text, so that every bit is compared.
    predicted = pd.read_csv(out, dtype=str).set_index("patient_id")["risk"]
    evaluated = pd.read_csv(project / "reports/evaluation/predictions.csv", dtype=str).set_index("patient_id")["risk"]
    assert predicted.loc[evaluated.index].to_dict() == evaluated.to_dict()


def test_another_clone_pulls_everything_and_runs_nothing(project, preloaded, tmp_path):
    dvc(project, "push")
    for command in (["add", "-A"], ["-c", "user.name=x", "-c", "user.email=x@x", "commit", "-qm", "data"]):
        subprocess.run(["git", *command], cwd=project, check=True, capture_output=True)
    other = clone(tmp_path / "second clone", project, preloaded)
    joined = mcti(other, "stack", "join", str(project))
    assert joined.returncode == 0, joined.stderr
    dvc(other, "pull")
    done = dvc(other, "repro")
    assert run_stages(done.stdout) == []
    assert results(other) == results(project)


def test_a_repro_that_is_killed_several_times_gives_the_same_numbers(project, preloaded, tmp_path):
    other = clone(tmp_path / "killed clone", programs=preloaded)
    shrink_settings(other)
    (other / "data").mkdir(exist_ok=True)
    subprocess.run(["cp", "-r", str(project / "data" / "raw"), str(other / "data")], check=True)
    assert mcti(other, "stack", "join", str(project)).returncode == 0
    dvc(other, "add", "data/raw", "--quiet")
    draw = random.Random(3)
    kills = sum(kill_after(other, draw.uniform(1, 9)) for _ in range(5))
    assert kills >= 3
    done = dvc(other, "repro", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert results(other) == results(project)


def test_the_compiled_kubeflow_pipeline_gives_the_bytes_of_dvc(project, tmp_path):
    """The compiled file under kfp.local: slides in two shards, one process per task and fold.

    One training task is killed after its first checkpoint: it is retried and resumes, and the bytes are the same.
    """
    words = ("--set", "cluster.extract_shards=2", "--set", "register.name=parity", "--json")
    done = run_with_one_killed_task(project, tmp_path / "runs", kill_process, *words)
    assert done.returncode == 0, done.stderr[-5000:]
    run = Path(json.loads(done.stdout)["folder"])
    digests = {
        "data/folds.csv": run / "split/folds/folds.csv",
        "reports/evaluation/metrics.json": run / "evaluate/report/metrics.json",
        "reports/evaluation/predictions.csv": run / "evaluate/report/predictions.csv",
    }
    assert {name: path.read_bytes() for name, path in digests.items()} == results(project)
    assert tree_md5(run / "merge-features/whole") == tree_md5(project / "data/features")
    assert tree_md5(run / "ingest/cohort") == tree_md5(project / "data/cohort")
    assert json.loads((run / "promote/verdict").read_text(encoding="utf-8"))["champion"] == 1
    assert json.loads((run / "outcome/report").read_text(encoding="utf-8"))["state"] == "FINISHED"


def test_the_report_opens_offline_in_a_browser_with_every_figure(project):
    """Chromium without network: no console error, no request that leaves the file, every picture drawn."""
    script = r"""
import json, shutil, sys
from playwright.sync_api import sync_playwright
with sync_playwright() as play:
    browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"], timeout=900_000)
    results = {}
    for page_path in sys.argv[1:]:
        page = browser.new_context(offline=True).new_page()
        page.set_default_timeout(900_000)
        errors, requests = [], []
        page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: errors.append(str(e)))
        page.on("request", lambda r: requests.append(r.url))
        page.goto("file://" + page_path)
        shapes = page.evaluate(
            "() => [...document.querySelectorAll('img, figure svg, svg[role=img]')]"
            ".map(e => [e.getBoundingClientRect().width, e.tagName == 'IMG' ? e.naturalWidth : 1])")
        fits = page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")
        outside = [u for u in requests if not u.startswith(("file:", "data:"))]
        results[page_path] = {"errors": errors, "outside": outside, "shapes": shapes, "fits": fits}
    browser.close()
print(json.dumps(results))
"""
    pages = [str(project / "reports" / name / "report.html") for name in ("evaluation", "validation")]
    done = subprocess.run(
        [sys.executable, "-c", script, *pages], capture_output=True, text=True, env=environment(), check=False
    )
    assert done.returncode == 0, done.stderr
    for page, result in json.loads(done.stdout).items():
        assert result["errors"] == [], page
        assert result["outside"] == [], page
        assert result["shapes"], page
        assert all(width > 50 and natural > 0 for width, natural in result["shapes"]), page
        assert result["fits"], page


def test_the_page_of_the_tutorial_on_the_demo_runs_and_changes_nothing(project):
    """The last test of this file: the page ends with `make stop`."""
    for name in ("requirements.lock", "requirements-uv.lock", "pyproject.toml"):
        os.utime(project / name, (0, 0))  # older than the environment: `make` installs nothing
    before = results(project)
    page = command_blocks.ROOT / "docs" / "tutorial" / "demo.md"
    output = command_blocks.run(command_blocks.to_run(page), project, environment())
    assert output.count("nothing changed: every stage is up to date") == 2
    assert results(project) == before
    assert not stack.status(project).running
