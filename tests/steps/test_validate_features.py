"""The step `validate_features`: extracted and imported features against the expectations on features."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from mcti.cohort import tables
from mcti.errors import DataError
from mcti.params import ExtractParams, ValidateParams
from mcti.steps.extract import extract
from mcti.steps.validate_features import validate_features
from tests.cohort import cases

PARAMS = ValidateParams()


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return cases.write_cohort(cases.sources(patients=30), tmp_path_factory.mktemp("cases") / "cohort")


@pytest.fixture
def imported(cohort, tmp_path):
    """A store of features that `extract` imported, and how to write it with changed files."""

    def write(**changed):
        slides = tables.read_slides(cohort)["slide_id"].tolist()
        source = tmp_path / "set"
        source.mkdir()
        for i, name in enumerate(slides):
            values = torch.from_numpy(np.random.default_rng(i).standard_normal((4, 6)).astype(np.float32))
            values = changed.get(f"slide_{i}", values)
            torch.save(values, source / f"{name}.pt")
        settings = {"format": "pt", "path": str(source), "encoder": "uni", "mpp": 0.5, "patch_size": 256}
        params = ExtractParams.model_validate({"source": "import", "import": settings})
        extract(cohort / "slides.parquet", params, tmp_path / "features")
        return tmp_path / "features"

    return write


def test_imported_features_that_hold_every_expectation_pass_with_a_report(cohort, imported, tmp_path):
    result = validate_features(cohort, imported(), PARAMS, tmp_path / "report")
    slides = len(tables.read_slides(cohort))
    assert (result.passed, result.failed, result.expectations) == (True, (), 9)
    assert (result.slides, result.usable, result.tiles) == (slides, slides, 4 * slides)
    document = (tmp_path / "report" / "report.html").read_text()
    assert "Validation of the features of" in document
    assert "Patients by number of patches" in document
    assert "Drift" not in document
    results = json.loads((tmp_path / "report" / "results.json").read_text())
    assert results["numbers"]["patients without a patch"] == 0


def test_a_copy_of_a_slide_stops_the_run_and_is_named_after_the_report_is_written(cohort, imported, tmp_path):
    values = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    features = imported(slide_3=values, slide_5=values)
    with pytest.raises(DataError, match=r"expectation features_of_one_slide fails .*: 2 of \d+ rows") as caught:
        validate_features(cohort, features, PARAMS, tmp_path / "report")
    assert caught.value.exit_code == 3
    assert "report.html" in str(caught.value)
    results = json.loads((tmp_path / "report" / "results.json").read_text())
    assert results["passed"] is False
    assert "Stopped." in (tmp_path / "report" / "report.html").read_text()


def test_failed_slides_are_listed_by_status_and_too_many_stop_the_run(cohort, imported, tmp_path):
    features = imported()
    table = pd.read_csv(features / "slides.csv", dtype=str, keep_default_na=False)
    table.loc[:5, "status"] = "NO_FEATURES"
    table.to_csv(features / "slides.csv", index=False)
    with pytest.raises(DataError, match="expectation slides_failed_few fails"):
        validate_features(cohort, features, PARAMS, tmp_path / "report")
    results = json.loads((tmp_path / "report" / "results.json").read_text())
    assert results["failed_slides"] == {"NO_FEATURES": sorted(table["slide_id"][:6])}


def test_patches_with_constant_features_are_a_warning(cohort, imported, tmp_path):
    result = validate_features(cohort, imported(slide_2=torch.ones(4, 6)), PARAMS, tmp_path / "report")
    assert (result.passed, result.failed) == (True, ("features_differ",))
    assert "Passed with 1 warning" in (tmp_path / "report" / "report.html").read_text()
