"""Embeddings of slides and of patients through split, train, evaluate, predict, explain and heatmaps."""

import json
import logging

import numpy as np
import pandas as pd
import pytest
import torch

from mcti.cohort import tables
from mcti.dataset.loading import load_dataset
from mcti.params import EvaluateParams, ExplainParams, ExtractParams, PredictParams, SplitParams
from mcti.slides.features import read_slide
from mcti.steps.evaluate import baseline_fits
from mcti.steps.evaluate.step import evaluate
from mcti.steps.exchange import import_features
from mcti.steps.explain.step import explain
from mcti.steps.extract import extract
from mcti.steps.heatmaps import heatmaps
from mcti.steps.predict.step import predict
from mcti.steps.split import split
from mcti.steps.train import train
from tests.training import factories

PARAMS = EvaluateParams(
    bootstrap=100, baselines=("cox_clinical_genes", "cox_slide_embedding", "cox_slides"), attribution_patients=3
)


def make_vectors(root, cohort, level):
    """A folder of one tensor (5,) per slide or patient; of the two slides of P-000 only one has a vector."""
    slides = tables.read_slides(cohort)
    second = slides.iloc[:1].assign(slide_id="second")
    table = pd.concat([slides, second])
    tables.write(
        tables.Cohort(tables.read_patients(cohort), tables.read_expression(cohort), table, tables.read_info(cohort)),
        cohort,
    )
    names = list(table["slide_id"][1:]) if level == "slide" else list(table["patient_id"].unique())
    source = root / "vectors"
    source.mkdir()
    random = np.random.default_rng(0)
    for name in names:
        torch.save(torch.from_numpy(random.normal(size=5).astype(np.float32)), source / f"{name}.pt")
    return source


def import_vectors(root, cohort, level):
    """The set as `mcti features import` stores it."""
    source = make_vectors(root, cohort, level)
    result = import_features(source, "pt", root / "embeddings", slides=cohort / "slides.parquet", encoder="titan")
    assert (result.level, result.width) == (level, 5)
    return root / "embeddings"


@pytest.fixture(scope="module", params=["slide", "patient"])
def project(tmp_path_factory, request):
    root = tmp_path_factory.mktemp(request.param)
    cohort, _, _ = factories.folders(root, patients=40)
    features = import_vectors(root, cohort, request.param)
    split(cohort, features, SplitParams(folds=2, min_test_events=1), root / "folds.csv")
    train(cohort, features, root / "folds.csv", factories.settings(workers=1, epochs=2), root / "models")
    evaluate(cohort, features, root / "folds.csv", root / "models", PARAMS, root / "out")
    return root


def test_bags_have_one_row_per_slide_or_patient_and_no_coordinates(project):
    data = load_dataset(project / "cohort", project / "embeddings")
    first, second = data.bags["P-000"], data.bags["P-001"]
    of_slides = "slide" in project.name
    assert [slide.slide_id for slide in first.slides] == ["second" if of_slides else "P-000"]
    expected = read_slide(project / "embeddings" / f"P-001{'-S' if of_slides else ''}.h5").features
    np.testing.assert_array_equal(second.patches.numpy(), expected)
    assert second.tile_position(0).x is None
    assert data.provenance["encoder"] == "titan"


def test_vectors_that_extract_imports_are_read_as_those_of_an_import(project, tmp_path):
    """The set of the project's fixture: equal bags, of slides or of patients."""
    level = "slide" if "slide" in project.name else "patient"
    cohort, _, _ = factories.folders(tmp_path, patients=40)
    source = make_vectors(tmp_path, cohort, level)
    settings = {"format": "pt", "path": str(source), "encoder": "titan", "mpp": "unknown", "patch_size": "unknown"}
    params = ExtractParams.model_validate({"source": "import", "import": settings, "max_failed_slides_share": 0.5})
    result = extract(cohort / "slides.parquet", params, tmp_path / "store")
    data, expected = load_dataset(cohort, tmp_path / "store"), load_dataset(project / "cohort", project / "embeddings")
    missing = {"NO_FEATURES": 1} if level == "slide" else {}  # of the two slides of P-000 one has no vector
    assert result.statuses == {"OK": 40} | missing
    assert data.bags.keys() == expected.bags.keys()
    for patient, bag in data.bags.items():
        np.testing.assert_array_equal(bag.patches, expected.bags[patient].patches)
        assert [slide.slide_id for slide in bag.slides] == [slide.slide_id for slide in expected.bags[patient].slides]
    assert data.provenance["encoder"] == "titan"


def test_the_report_has_the_cox_model_of_the_embedding_and_no_critical_patches(project):
    metrics = json.loads((project / "out" / "metrics.json").read_text())
    assert "cox_slide_embedding" in metrics
    page = (project / "out" / "report.html").read_text(encoding="utf-8")
    assert "Cox: slide embedding" in page
    assert "there are no critical patches and no heatmaps" in page
    assert "best- and the worst-predicted" not in page


def test_the_baseline_is_left_out_for_features_of_patches(tmp_path):
    cohort, features, _ = factories.folders(tmp_path)
    patients = tables.read_patients(cohort)
    inputs = baseline_fits.read_inputs(cohort, features, patients)
    assert not inputs.embeddings
    assert inputs.bags.shape == (len(patients), 2 * factories.WIDTH)


def test_predictions_and_explanations_of_one_row(project, caplog):
    caplog.set_level(logging.INFO, logger="mcti")
    cohort, features = project / "cohort", project / "embeddings"
    result = predict(str(project / "models"), cohort, features, PredictParams(workers=1), project / "out.csv")
    assert (result.patients, result.refused) == (40, 0)
    explained = explain(
        str(project / "models"), cohort, features, ExplainParams(steps=8), project / "why", patient_ids=["P-001"]
    )
    assert explained.slides_without_coordinates == 1
    drawn = heatmaps(cohort, features, project / "why", project / "heatmaps")
    assert (drawn.drawn, drawn.failed) == (0, {})
    if "slide" in project.name:
        assert "40 slides have one embedding and no tiles, so they have no heatmap" in caplog.text
