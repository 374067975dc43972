"""Gene groups, learning curves and critical patches in the report of trained models."""

import base64
import io
import json
import re
import shutil

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mcti.cohort.folds import read_folds
from mcti.evaluation import metrics
from mcti.params import EvaluateParams
from mcti.steps.evaluate import model_insights
from mcti.steps.evaluate.evaluation import split_outcomes
from mcti.steps.evaluate.step import evaluate
from mcti.steps.train import train
from tests.slides.conftest import write_tiff
from tests.training import factories


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("shown")
    cohort, features, folds = factories.folders(root, patients=40)
    train(cohort, features, folds, factories.settings(workers=1, epochs=2), root / "models")
    params = EvaluateParams(bootstrap=100, baselines=("cox_clinical_genes",), attribution_patients=0)
    evaluate(cohort, features, folds, root / "models", params, root / "out")
    return root


def test_the_page_shows_groups_curves_and_critical_patches(project):
    page = (project / "out" / "report.html").read_text(encoding="utf-8")
    for title in (
        "Gene groups",
        "Learning curves",
        "Critical patches of the best- and the worst-predicted",
        "Patient flow",
    ):
        assert title in page
    assert (project / "out" / "figures" / "learning.svg").exists()
    assert (project / "out" / "figures" / "forest.png").exists()


def test_the_subtype_is_scored_from_the_predictions(project):
    """From predictions.csv of the folds: macro-F1 of the most probable class."""
    metrics_json = json.loads((project / "out" / "metrics.json").read_text())["mcti"]
    rows = pd.concat([pd.read_csv(f) for f in sorted((project / "models").glob("fold_*/predictions.csv"))])
    truth = pd.read_parquet(project / "cohort" / "patients.parquet").set_index("patient_id")["subtype"]
    scores = metrics.subtype_scores(
        truth.loc[rows["patient_id"]].reset_index(drop=True),
        rows[["P_IDC", "P_ILC"]].rename(columns=lambda c: c.removeprefix("P_")),
    )
    assert np.allclose(rows[["P_IDC", "P_ILC"]].sum(axis=1), 1)
    for name, value in scores.items():
        assert metrics_json[name]["value"] == pytest.approx(value, abs=1e-12)
        assert metrics_json[name]["low"] <= value <= metrics_json[name]["high"]


def test_the_critical_patches_are_in_the_slides_of_the_patient(project):
    cohort = project / "cohort"
    outcomes = split_outcomes(pd.read_parquet(cohort / "patients.parquet"), read_folds(project / "folds.csv"))
    risk = np.arange(len(outcomes.patient), dtype=np.float64)
    rows = model_insights.critical_patches(cohort, project / "features", project / "models", outcomes, risk)
    assert [row["selection"] for row in rows] == ["best"] * 3 + ["worst"] * 3
    assert rows[0]["agreement"] >= rows[-1]["agreement"]
    for row in rows:
        assert {patch["slide_id"] for patch in row["patches"]} == {f"{row['patient_id']}-S"}
        scores = [patch["score"] for patch in row["patches"]]
        assert scores == sorted(scores, reverse=True)


def test_with_slides_the_report_shows_the_patches_and_the_reason_for_a_missing_image(project, tmp_path):
    """Slides of every second patient, each of one colour: an image has the colour of its patient's slide."""
    shutil.copytree(project / "features", tmp_path / "features")
    (tmp_path / "slides").mkdir()
    for number, file in enumerate(sorted((tmp_path / "features").glob("*.h5"))):
        with h5py.File(file, "r+") as store:
            store["coords"].attrs["patch_size_level0"] = 64
        if number % 2 == 0:
            picture = np.full((64, 128, 3), 60 + 4 * number, np.uint8)
            write_tiff(tmp_path / "slides" / f"{file.stem}.tif", picture)
    params = EvaluateParams(bootstrap=100, baselines=("cox_clinical_genes",), attribution_patients=0)
    places = project / "cohort", tmp_path / "features", project / "folds.csv", project / "models"
    evaluate(*places, params, tmp_path / "out", slides=tmp_path / "slides")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    shown_ones = re.findall(r'src="data:image/jpeg;base64,([^"]+)"[^>]*alt="Tile of slide P-(\d+)-S 0, 0 ', page)
    assert shown_ones
    for data, number in shown_ones:
        tile = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
        assert tile.shape == (128, 128, 3)
        assert abs(tile.mean() - (60 + 4 * int(number))) < 3  # JPEG
    missing = re.findall(r"P-(\d+)-S 0, 0 \(-?[\d.]+\) \[no image: [^\]]+\]", page)
    assert missing
    assert all(int(number) % 2 for number in missing)


def test_without_weights_and_without_slides_the_details_are_empty(project, tmp_path):
    outcomes = split_outcomes(
        pd.read_parquet(project / "cohort" / "patients.parquet"), read_folds(project / "folds.csv")
    )
    risk = np.zeros(len(outcomes.patient))
    assert model_insights.gene_groups(tmp_path, outcomes) is None
    assert model_insights.history(tmp_path, outcomes) == {}
    assert model_insights.critical_patches(project / "cohort", None, project / "models", outcomes, risk) == []
