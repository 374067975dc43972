"""The study on a small cohort: its command, and its numbers against scikit-survival."""

import io
import json
import math
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sksurv.metrics import concordance_index_censored

from benchmarks import study_report, tcga_study
from mcti import params
from mcti.demo.public_cohort import demo_tables

ROOT = Path(__file__).parents[2]
PATIENTS, FOLDS, SEEDS = 80, 2, 2
MODELS = ("linear_all", "mcti", "no_bilinear", "permuted linear_all")

pytestmark = pytest.mark.slow


def write_cohort(root, classes=None):
    """Patients and genes of GSE7390 with simulated patches and eight simulated sites, in the layout of the study."""
    clinical, expression, _ = demo_tables()
    clinical = clinical.drop(columns=["grade", "size_cm"]).head(PATIENTS)
    clinical["site"] = [f"S{i % 8}" for i in range(PATIENTS)]
    if classes is not None:
        clinical["subtype"] = classes
    clinical.to_csv(root / "small_clinical.csv", index=False)
    expression.iloc[:PATIENTS, :21].to_parquet(root / "small_expression.parquet")
    names = clinical["patient_id"]
    pd.DataFrame({"patient_id": names, "slide_id": [f"{n}-slide" for n in names]}).to_csv(
        root / "small_slides.csv", index=False
    )
    random = np.random.default_rng(5)
    (root / "bags").mkdir()
    with zipfile.ZipFile(root / "bags" / "small.zip", "w") as archive:
        for name in names:
            stream = io.BytesIO()
            torch.save(torch.from_numpy(random.normal(size=(5, 8)).astype(np.float32)), stream)
            archive.writestr(f"{name}-slide.pt", stream.getvalue())
    return clinical.set_index("patient_id")


def study(root, *flags):
    words = ["--data", str(root), "--out", str(root / "study"), "--docs", str(root / "docs"), "--workers", "1"]
    words += ["--folds", str(FOLDS), "--seeds", str(SEEDS), "--bootstrap", "60", "--models", *MODELS, *flags]
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.tcga_study", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def finished_study(tmp_path_factory):
    """The folder of a study that was stopped before its first fit and started again; its cohort's table."""
    root = tmp_path_factory.mktemp("study")
    table = write_cohort(root)
    stopped = study(root, "--minutes", "1e-9")
    assert stopped.returncode != 0
    assert "linear_all is not complete" in stopped.stderr, "no table without the reference model"
    done = study(root)
    assert done.returncode == 0, done.stderr
    return root, table


def c_within_folds(table, folder):
    """Pairs inside the folds, by scikit-survival."""
    pairs = right = 0.0
    for path in sorted(folder.glob("*.csv")):
        rows = pd.read_csv(path, dtype={"patient_id": str})
        truth = table.loc[rows["patient_id"]]
        concordance = concordance_index_censored(truth["event"].astype(bool), truth["time_months"], rows["risk"])
        right, pairs = right + concordance[1] + concordance[3] / 2, pairs + sum(concordance[1:4])
    return right / pairs


def test_every_c_of_the_tables_agrees_with_its_predictions(finished_study):
    root, table = finished_study
    arms = json.loads((root / "docs" / "results.json").read_text(encoding="utf-8"))["arms"]
    assert [arm["scheme"] for arm in arms] == ["site", "random"]
    for arm in arms:
        assert arm["missing"] == []
        for name in ("mcti", "no_bilinear"):
            folder = root / "study" / "small" / arm["scheme"] / name
            c_by_seed = [c_within_folds(table, folder / f"seed_{seed}") for seed in range(SEEDS)]
            assert arm["models"][name]["c_by_seed"] == pytest.approx(c_by_seed, abs=1e-12)
        linear = root / "study" / "small" / arm["scheme"] / "linear_all" / "seed_0"
        bar = arm["models"]["linear_all"]["c_index"]["value"]
        assert bar == pytest.approx(c_within_folds(table, linear), abs=1e-12)
        difference = arm["models"]["mcti"]["minus_linear_all"]
        assert difference["value"] == pytest.approx(arm["models"]["mcti"]["c_index"]["value"] - bar, abs=1e-12)
        assert difference["seeds"] == list(range(SEEDS))
        assert difference["low"] < difference["value"] < difference["high"]


def test_a_cohort_of_one_class_has_tables(tmp_path):
    """The AUROC of one subtype is not defined: null in the JSON, a dash in the table, and the study finishes."""
    write_cohort(tmp_path, classes="the only one")
    done = study(tmp_path, "--seeds", "1", "--models", "linear_all", "mcti")
    assert done.returncode == 0, done.stderr
    arms = json.loads((tmp_path / "docs" / "results.json").read_text(encoding="utf-8"))["arms"]
    assert [arm["subtype"]["subtype_auroc"] for arm in arms] == [None, None]
    assert "AUROC –, macro-F1 1.000" in (tmp_path / "docs" / "results.md").read_text(encoding="utf-8")


def test_undefined_numbers_are_null_in_json():
    tree = {"a": [1.0, math.nan, {"b": (math.inf, 2)}], "c": "nan"}
    assert study_report.plain(tree) == {"a": [1.0, None, {"b": [None, 2]}], "c": "nan"}


def test_no_site_is_on_both_sides_and_every_patient_is_tested_once(finished_study):
    root, table = finished_study
    folds = json.loads((root / "study" / "small" / "protocol.json").read_text(encoding="utf-8"))["folds"]
    for scheme in ("site", "random"):
        tested = [set(patients) for patients in folds[scheme].values()]
        assert sorted(p for part in tested for p in part) == sorted(table.index)
    for part in folds["site"].values():
        rest = table.index.difference(part)
        assert set(table.loc[part, "site"]).isdisjoint(table.loc[rest, "site"])


def test_it_resumes_and_refuses_another_protocol(finished_study):
    root, _ = finished_study
    pages = {name: (root / "docs" / name).read_bytes() for name in ("results.md", "results.json")}
    gone = next((root / "study" / "small" / "site" / "mcti").glob("*/*.csv"))
    before = {path: path.stat().st_mtime_ns for path in (root / "study").rglob("*.csv") if path != gone}
    kept = gone.read_bytes()
    gone.unlink()
    assert study(root).returncode == 0
    assert gone.read_bytes() == kept, "the same seed gives the same bytes"
    assert {path: path.stat().st_mtime_ns for path in before} == before, "what was there is not fitted again"
    assert {name: (root / "docs" / name).read_bytes() for name in pages} == pages
    other = study(root, "--folds", str(FOLDS + 1))
    assert other.returncode != 0
    assert "another protocol or other data" in other.stderr


def test_the_shipped_settings_equal_those_of_the_study():
    """The study takes the defaults of `train`; params.yaml names columns of its own cohort, and nothing else."""
    assert set(tcga_study.SETTINGS) == {"device", "threads"}
    shipped, default = params.load(ROOT / "params.yaml").train, params.TrainParams()
    assert [name for name in type(default).model_fields if getattr(shipped, name) != getattr(default, name)] == [
        "architecture"
    ]
