"""Objects for notebooks: they are what the steps write, and the figures show these numbers."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from mcti import api
from mcti.cohort import tables
from mcti.errors import DataError
from mcti.slides.portable import PortableFeatures
from tests.steps.evaluate.test_step import PARAMS, make_project


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """A project, and its evaluation."""
    root = tmp_path_factory.mktemp("a project")
    make_project(root)
    inputs = (root / "cohort", root / "features", root / "folds.csv", root / "models")
    return root, api.evaluate(*inputs, PARAMS, root / "out")


def test_a_cohort_is_its_four_files(evaluated):
    root, _ = evaluated
    cohort = api.load_cohort(root / "cohort")
    pd.testing.assert_frame_equal(cohort.patients, tables.read_patients(root / "cohort"))
    assert cohort.expression.shape == (80, 12)
    assert list(cohort.slides["patient_id"]) == list(cohort.patients["patient_id"])
    assert cohort.info.endpoint == "OS"
    with pytest.raises(DataError):
        api.load_cohort(root / "nowhere")


def test_an_evaluation_is_what_the_step_wrote(evaluated):
    root, evaluation = evaluated
    assert (root / "out/report.html").exists()
    assert evaluation.result.patients == len(evaluation.predictions) == 80
    assert evaluation.metrics["mcti"]["c_index"]["value"] == evaluation.result.c_index
    again = api.Evaluation.read(root / "out")
    pd.testing.assert_frame_equal(again.predictions, evaluation.predictions)


def test_the_kaplan_meier_figure_shows_the_curves_of_the_report(evaluated):
    """The numbers of the report's figure are in plots/km.csv, in the order of the groups."""
    root, evaluation = evaluated
    figure = evaluation.kaplan_meier()
    assert isinstance(figure, Figure)
    reported = pd.read_csv(root / "out/plots/km.csv")
    lines = figure.axes[0].get_lines()
    assert len(lines) == 2
    for line, (_, rows) in zip(lines, reported.groupby("group", sort=False), strict=True):
        np.testing.assert_allclose(line.get_xdata(), rows["months"])
        np.testing.assert_allclose(line.get_ydata(), rows["survival"])
    assert len(evaluation.kaplan_meier(risk_groups=3).axes[0].get_lines()) == 3


def test_the_calibration_figure_shows_the_points_of_the_report(evaluated):
    root, evaluation = evaluated
    reported = pd.read_csv(root / "out/plots/calibration.csv")
    axes = evaluation.calibration().axes[0]
    points = [container.lines[0] for container in axes.containers]
    assert len(points) == reported["months"].nunique()
    for line, (_, rows) in zip(points, reported.groupby("months"), strict=True):
        np.testing.assert_allclose(line.get_xdata(), rows["predicted"])
        np.testing.assert_allclose(line.get_ydata(), rows["observed"])


def test_the_figure_of_the_models_states_the_c_of_the_result(evaluated):
    _, evaluation = evaluated
    texts = [text.get_text() for text in evaluation.c_index().axes[0].texts]
    assert any(text.startswith(f"{evaluation.result.c_index:.3f} [") for text in texts)
    assert len(texts) == len(evaluation.metrics)


def test_features_of_a_slide_are_an_anndata_object(tmp_path):
    from mcti.slides import exchange

    values, corners = (
        np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32),
        np.array([[0, 0], [5, 0], [0, 5], [5, 5]]),
    )
    slide = PortableFeatures("S1", values, corners, {"patch_size": 5, "patch_size_level0": 5}, {"mpp_x": 0.5})
    exchange.to_store(slide, tmp_path / "S1.h5", "h5")
    table = api.read_anndata(tmp_path / "S1.h5")
    np.testing.assert_array_equal(table.X, values)
    np.testing.assert_array_equal(table.obsm["spatial"], corners)
    assert list(table.obs["slide_id"]) == ["S1"] * 4
    assert table.uns["slide_properties"]["mpp"] == 0.5
