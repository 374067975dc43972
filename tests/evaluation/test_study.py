"""The study on two small cohorts: its command, and its numbers against scikit-survival and closed formulas."""

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
MODELS = (
    "linear_all", "mcti", "mcti+cox", "mcti+cox transfer", "no_bilinear", "permuted linear_all", "subtype_only",
)  # fmt: skip

pytestmark = pytest.mark.slow


def write_cohort(root, name="small", first=0, genes=slice(1, 21), classes=None):
    """Patients and genes of GSE7390 with simulated patches and eight simulated sites, in the layout of the study."""
    clinical, expression, _ = demo_tables()
    rows = slice(first, first + PATIENTS)
    clinical = clinical.drop(columns=["grade", "size_cm"]).iloc[rows]
    clinical["site"] = [f"S{i % 8}" for i in range(PATIENTS)]
    if classes is not None:
        clinical["subtype"] = classes
    clinical.to_csv(root / f"{name}_clinical.csv", index=False)
    table = expression.iloc[rows]
    pd.concat([table.iloc[:, :1], table.iloc[:, genes]], axis=1).to_parquet(root / f"{name}_expression.parquet")
    names = clinical["patient_id"]
    pd.DataFrame({"patient_id": names, "slide_id": [f"{n}-slide" for n in names]}).to_csv(
        root / f"{name}_slides.csv", index=False
    )
    random = np.random.default_rng(5 + first)
    (root / "bags").mkdir(exist_ok=True)
    with zipfile.ZipFile(root / "bags" / f"{name}.zip", "w") as archive:
        for patient in names:
            stream = io.BytesIO()
            torch.save(torch.from_numpy(random.normal(size=(5, 8)).astype(np.float32)), stream)
            archive.writestr(f"{patient}-slide.pt", stream.getvalue())
    return clinical.set_index("patient_id")


def study(root, *flags):
    words = ["--data", str(root), "--out", str(root / "study"), "--docs", str(root / "docs"), "--workers", "1"]
    words += ["--folds", str(FOLDS), "--seeds", str(SEEDS), "--bootstrap", "60", "--models", *MODELS, *flags]
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.tcga_study", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def finished_study(tmp_path_factory):
    """The folder of a study that was stopped before its first fit and started again; the table of its first cohort.

    The second cohort has one class and other genes.
    """
    root = tmp_path_factory.mktemp("study")
    table = write_cohort(root)
    write_cohort(root, "other", PATIENTS, slice(5, 30), "the only one")
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


def arms_of(root, cohort):
    document = json.loads((root / "docs" / "results.json").read_text(encoding="utf-8"))
    return {arm["scheme"]: arm for arm in document["arms"] if arm["cohort"] == cohort}


def test_every_c_of_the_tables_agrees_with_its_predictions(finished_study):
    root, table = finished_study
    assert json.loads((root / "docs" / "results.json").read_text(encoding="utf-8"))["missing"] == {}
    for scheme, arm in arms_of(root, "small").items():
        for name in ("mcti", "mcti+cox", "mcti+cox transfer", *(["no_bilinear"] if scheme == "site" else [])):
            folder = root / "study" / "small" / arm["scheme"] / name.replace(" ", "_")
            c_by_seed = [c_within_folds(table, folder / f"seed_{seed}") for seed in range(SEEDS)]
            assert arm["models"][name]["c_by_seed"] == pytest.approx(c_by_seed, abs=1e-12)
        linear = root / "study" / "small" / arm["scheme"] / "linear_all" / "seed_0"
        bar = arm["models"]["linear_all"]["c_index"]["value"]
        assert bar == pytest.approx(c_within_folds(table, linear), abs=1e-12)
        difference = arm["models"]["mcti"]["minus_linear_all"]
        assert difference["value"] == pytest.approx(arm["models"]["mcti"]["c_index"]["value"] - bar, abs=1e-12)
        assert difference["seeds"] == list(range(SEEDS))
        assert difference["low"] < difference["value"] < difference["high"]


def test_a_cohort_of_one_class_has_no_subtype_and_controls_have_folds_by_site_alone(finished_study):
    root, _ = finished_study
    small, other = arms_of(root, "small"), arms_of(root, "other")
    for scheme in ("site", "random"):
        assert small[scheme]["subtype"]
        assert other[scheme]["subtype"] == {}
        assert "subtype_only" not in other[scheme]["models"]
        assert "c_within_subtype" not in other[scheme]["models"]["mcti"]
        assert "c_within_subtype" in small[scheme]["models"]["mcti"]
    assert set(small["site"]["models"]) - set(small["random"]["models"]) == {"no_bilinear", "permuted linear_all"}


def test_the_pooled_difference_of_two_cohorts_has_the_closed_form(finished_study):
    """Q of two estimates is (y1 - y2)² / (v1 + v2 + 2 tau²), which Paule and Mandel set to 1; t(0.975, 1) = 12.7062."""
    root, _ = finished_study
    document = json.loads((root / "docs" / "results.json").read_text(encoding="utf-8"))
    row = document["pooled_contrasts"][0]
    assert (row["model"], row["comparator"], row["scheme"]) == ("mcti+cox transfer", "linear_all", "site")
    chosen = [r for r in document["contrasts"] if all(r[k] == row[k] for k in ("model", "comparator", "scheme"))]
    y, v = (np.array([f(r) for r in chosen]) for f in (lambda r: r["value"], lambda r: (r["high"] - r["low"]) ** 2))
    v /= (2 * 1.959964) ** 2
    tau2 = max(0.0, ((y[0] - y[1]) ** 2 - v.sum()) / 2)
    w = 1 / (v + tau2)
    mean = w @ y / w.sum()
    pooled = row["pooled"]
    assert pooled["value"] == pytest.approx(mean, abs=1e-9)
    assert pooled["high"] - mean == pytest.approx(12.7062 / math.sqrt(w.sum()), rel=1e-5)
    assert pooled["least"] == pytest.approx(y.min(), abs=1e-12)
    page = (root / "docs" / "results.md").read_text(encoding="utf-8")
    assert f"MCTI + Cox (default), with transfer − linear model | {mean:+.3f} [" in page


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
    gone = [  # of the training run of mcti one of two files, and a whole run of another one
        next((root / "study" / "small" / "site" / name).glob("*/*.csv")) for name in ("mcti", "mcti+cox_transfer")
    ]
    before = {path: path.stat().st_mtime_ns for path in (root / "study").rglob("*.csv") if path not in gone}
    kept = {path: path.read_bytes() for path in gone}
    for path in gone:
        path.unlink()
    assert study(root).returncode == 0
    assert {path: path.read_bytes() for path in gone} == kept, "the same seed gives the same bytes"
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
