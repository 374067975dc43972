"""Fitted baselines as numbers on raw inputs: the same predictions, the same bytes, and refusals."""

import numpy as np
import pandas as pd
import pytest

from mcti.errors import DataError
from mcti.evaluation import baselines
from mcti.evaluation.design_matrix import Inputs
from mcti.evaluation.linear_predictor import Columns, LinearPredictor, StoredBaselines, Terms
from mcti.evaluation.outcomes import Outcomes
from tests.evaluation.factories import make_folds, make_patients

MONTHS = np.array([12.0, 36.0])
NAMES = (
    "kaplan_meier",
    "cox_clinical",
    "cox_genes",
    "cox_clinical_genes",
    "cox_slides",
    "cox_slide_embedding",
    "linear_all",
    "site_only",
)


@pytest.fixture(scope="module")
def inputs():
    """120 patients with missing ages, genes and slides; three subtypes."""
    patients = make_patients(120)
    patients.loc[3:9, "age"] = np.nan
    patients["subtype"] = np.where(np.arange(120) % 3 == 0, "A", np.where(np.arange(120) % 3 == 1, "B", "C"))
    random = np.random.default_rng(0)
    genes = pd.DataFrame(random.normal(size=(120, 40)), index=patients["patient_id"]).add_prefix("G")
    genes.iloc[3:6, 2] = np.nan
    bags = random.normal(size=(120, 60))
    bags[4] = np.nan
    return Inputs(patients, genes, bags)


@pytest.fixture(scope="module")
def fitted(inputs):
    outcomes = Outcomes.from_folds(inputs.patients, make_folds(inputs.patients, 3))
    return {name: baselines.fit_folds(name, inputs, outcomes, 0) for name in NAMES}


@pytest.fixture(scope="module")
def stored(fitted, inputs):
    models = {name: [model.stored(MONTHS) for model in folds] for name, folds in fitted.items()}
    return StoredBaselines(models, tuple(inputs.genes.columns))


@pytest.fixture
def loaded(stored, tmp_path):
    (tmp_path / "baseline_models.safetensors").write_bytes(stored.save())
    return StoredBaselines.load(tmp_path / "baseline_models.safetensors")


@pytest.mark.parametrize("name", NAMES)
def test_the_stored_numbers_give_the_predictions_of_the_fitted_models(name, fitted, loaded, inputs):
    """Oracle: the fitted model itself; both are sums of at most 100 terms, so that 1e-11 is rounding."""
    parts = [model.predict(inputs, MONTHS) for model in fitted[name]]
    risk, survival = loaded.predict(name, inputs, MONTHS)
    np.testing.assert_allclose(risk, np.mean([part[0] for part in parts], axis=0), rtol=0, atol=1e-11)
    np.testing.assert_allclose(survival, np.mean([part[1] for part in parts], axis=0), rtol=0, atol=1e-11)


def test_the_same_models_give_the_same_bytes(stored, loaded):
    assert loaded.save() == stored.save()


def test_trees_are_not_stored(inputs):
    outcomes = Outcomes.from_folds(inputs.patients, make_folds(inputs.patients, 2))
    assert baselines.fit_folds("boosting", inputs, outcomes, 0)[0].stored(MONTHS) is None


def test_a_risk_calculated_by_hand():
    """Age 70 and an unknown size; subtype B; gene 2.0 and a missing gene at its median 5."""
    terms = Terms(
        offset=-1.0,
        numbers={"age": (60.0, 0.1), "size": (3.0, 0.5)},
        missing={"size": 0.25},
        categories={"subtype": {"B": -0.75}},
        genes=Columns(np.array([0.0, 5.0]), np.array([2.0, -0.2])),
    )
    patients = pd.DataFrame({"age": [70.0], "size": [np.nan], "subtype": ["B"]})
    inputs = Inputs(patients, pd.DataFrame({"a": [2.0], "b": [np.nan]}))
    expected = -1.0 + 7.0 + 1.5 + 0.25 - 0.75 + 4.0 - 1.0
    risk, survival = LinearPredictor(terms, MONTHS, np.array([0.9, 0.5])).predict(inputs, np.array([36.0]))
    assert risk[0] == pytest.approx(expected, abs=1e-12)
    assert survival[0, 0] == pytest.approx(0.5 ** np.exp(expected), abs=1e-12)


def test_a_baseline_that_the_cohort_cannot_serve_has_a_reason(loaded, inputs):
    """One column less, one numeric column as text, no slides, other slides, too few genes, another horizon."""
    no_age = Inputs(inputs.patients.drop(columns="age"), inputs.genes, inputs.bags)
    as_text = Inputs(inputs.patients.assign(age="old"), inputs.genes, inputs.bags)
    few_genes = Inputs(inputs.patients, inputs.genes.iloc[:, :30], inputs.bags)
    assert loaded.unusable(inputs, MONTHS) == {}
    assert loaded.unusable(no_age, MONTHS)["linear_all"] == "the cohort has no column age"
    assert loaded.unusable(as_text, MONTHS)["cox_clinical"] == "the column age is not numeric in the cohort"
    assert "lacks 10 of its 40 genes" in loaded.unusable(few_genes, MONTHS)["cox_genes"]
    assert "kaplan_meier" not in loaded.unusable(few_genes, MONTHS)
    without = Inputs(inputs.patients, inputs.genes)
    assert loaded.unusable(without, MONTHS)["cox_slides"] == "no slide features were passed"
    narrow = Inputs(inputs.patients, inputs.genes, np.ones((120, 8)))
    assert loaded.unusable(narrow, MONTHS)["cox_slides"] == "the features have width 4, not 30"
    assert set(loaded.unusable(inputs, np.array([24.0]))) == set(NAMES)


def test_a_missing_gene_counts_as_its_training_median(loaded, inputs):
    absent = Inputs(inputs.patients, inputs.genes.drop(columns="G0"), inputs.bags)
    at_median = inputs.genes.copy()
    at_median["G0"] = np.nan
    one, _ = loaded.predict("cox_genes", absent, MONTHS)
    other, _ = loaded.predict("cox_genes", Inputs(inputs.patients, at_median, inputs.bags), MONTHS)
    np.testing.assert_array_equal(one, other)


def test_a_file_of_another_program_is_refused(tmp_path, stored):
    path = tmp_path / "baseline_models.safetensors"
    path.write_bytes(b"no safetensors file")
    with pytest.raises(DataError, match="not a file of fitted baselines"):
        StoredBaselines.load(path)
    model = stored.models["cox_genes"][0]
    genes = Columns(model.terms.genes.median, np.full(40, np.nan))
    path.write_bytes(StoredBaselines({"m": [LinearPredictor(Terms(genes=genes), MONTHS, MONTHS)]}, ()).save())
    with pytest.raises(DataError, match="not finite"):
        StoredBaselines.load(path)
