"""Every baseline: fitted on the training part only, correct direction of the risk, valid curves."""

import threading

import joblib
import numpy as np
import pandas as pd
import pytest
from sksurv.ensemble import forest as forest_module

from mcti.errors import DataError, UsageError
from mcti.evaluation import baselines, metrics
from mcti.evaluation.comparison import point
from mcti.evaluation.design_matrix import Inputs
from mcti.evaluation.outcomes import Outcomes
from mcti.model.cox import PENALTIES
from tests.evaluation.factories import make_folds, make_patients

MONTHS = np.array([12.0, 36.0, 60.0])
LEARNERS = [name for name in baselines.REGISTRY if name not in {"kaplan_meier", "subtype_only", "site_only"}]


def make_inputs(count: int = 160, seed: int = 0) -> Inputs:
    """The hazard is in age, in ten genes and in the bags; one age, one gene and one patient's bag are missing."""
    patients = make_patients(count, seed)
    generator = np.random.default_rng(seed + 1)
    x = patients.pop("x").to_numpy()
    patients["age"] += 6 * x
    genes = pd.DataFrame(generator.normal(size=(count, 40)), index=patients["patient_id"]).add_prefix("G")
    genes.iloc[:, :10] += x[:, None]
    bags = generator.normal(size=(count, 30))
    bags[:, :10] += x[:, None]
    patients.loc[3, "age"] = np.nan
    genes.iloc[4, 2] = np.nan
    bags[5] = np.nan
    return Inputs(patients, genes.astype(np.float32), bags)


@pytest.fixture(scope="module")
def inputs() -> Inputs:
    return make_inputs()


@pytest.mark.parametrize("name", baselines.REGISTRY)
def test_curves_fall_from_one_and_the_same_seed_gives_the_same_bits(name, inputs):
    train, test = inputs.rows(np.arange(120)), inputs.rows(np.arange(120, 160))
    risk, survival = baselines.create(name).fit(train, 3).predict(test, MONTHS)
    assert risk.shape == (40,)
    assert survival.shape == (40, 3)
    assert np.isfinite(risk).all()
    assert (survival >= 0).all()
    assert (survival <= 1).all()
    assert (np.diff(survival, axis=1) <= 0).all()
    again = baselines.create(name).fit(train, 3).predict(test, MONTHS)
    np.testing.assert_array_equal(again[0], risk)
    np.testing.assert_array_equal(again[1], survival)


@pytest.mark.parametrize("name", LEARNERS)
def test_higher_risk_means_an_earlier_event(name, inputs):
    """The signal is strong (C of the truth .77), so a model with the reversed direction would be below .5."""
    test = inputs.rows(np.arange(110, 160))
    risk, survival = baselines.create(name).fit(inputs.rows(np.arange(110)), 0).predict(test, MONTHS)
    assert metrics.harrell_c(test.event, test.time_months, risk) > 0.6
    assert np.corrcoef(risk, survival[:, 2])[0, 1] < -0.5


@pytest.mark.parametrize("name", baselines.REGISTRY)
def test_a_changed_test_row_changes_no_fitted_quantity(name, inputs):
    """An extreme test patient must not change any bit of the prediction for another test patient."""
    patients = inputs.patients.copy()
    patients.loc[patients.index[150:], ["age", "time_months"]] = [1e6, 1e6]
    patients.loc[patients.index[150:], ["subtype", "site"]] = "never seen"
    genes = inputs.genes.copy()
    genes.iloc[150:] = 1e6
    wild = Inputs(patients, genes, np.where(np.arange(160)[:, None] >= 150, 1e6, inputs.bags))
    predictions = []
    for table in (inputs, wild):
        outcomes = Outcomes.from_folds(table.patients, {0: (list(patients["patient_id"][:120]), ["P0130", "P0155"])})
        predictions.append(baselines.fit_predict(name, table, outcomes, MONTHS, 0))
    assert predictions[0].risk[0] == predictions[1].risk[0]
    np.testing.assert_array_equal(predictions[0].survival[0], predictions[1].survival[0])
    assert np.isfinite(predictions[1].risk).all()


def test_an_unknown_baseline_is_refused_with_a_suggestion():
    with pytest.raises(UsageError, match="did you mean cox_genes"):
        baselines.create("cox_gene")


def test_a_training_part_without_an_event_is_refused(inputs):
    alive = inputs.patients.assign(event=(np.arange(160) < 20).astype(int))
    ids = list(alive["patient_id"])
    outcomes = Outcomes.from_folds(alive, {0: (ids[20:], ids[:20])})
    with pytest.raises(DataError, match="fold 0"):
        baselines.fit_predict("forest", Inputs(alive, inputs.genes, inputs.bags), outcomes, MONTHS, 0)


def test_all_columns_together_beat_the_clinical_ones_over_folds(inputs):
    outcomes = Outcomes.from_folds(inputs.patients, make_folds(inputs.patients))
    scores = {
        name: point(
            metrics.c_index(outcomes, baselines.fit_predict(name, inputs, outcomes, MONTHS, 0).risk),
            len(outcomes.event),
        )
        for name in ("cox_clinical", "linear_all", "kaplan_meier")
    }
    assert scores["kaplan_meier"] == 0.5
    assert 0.5 < scores["cox_clinical"] < scores["linear_all"]


def test_the_rotated_embedding_gives_the_ridge_model_of_all_its_columns(inputs):
    """Oracle: CoxPHSurvivalAnalysis of scikit-survival on the z-scores of more columns than patients."""
    from sksurv.linear_model import CoxPHSurvivalAnalysis
    from sksurv.util import Surv

    generator = np.random.default_rng(2)
    means = generator.normal(size=(60, 90))
    means[:, 0] += inputs.time_months[:60] / 30
    bags = np.concatenate([means, np.zeros_like(means)], axis=1)
    embeddings = Inputs(inputs.patients.iloc[:60], inputs.genes.iloc[:60], bags, embeddings=True)
    train, test = embeddings.rows(np.arange(40)), embeddings.rows(np.arange(40, 60))
    model = baselines.create("cox_slide_embedding").fit(train, 0)
    scores = (means - means[:40].mean(axis=0)) / means[:40].std(axis=0)
    labels = Surv.from_arrays(train.event, train.time_months)
    risk = model.predict(test, MONTHS)[0]
    expected = [
        CoxPHSurvivalAnalysis(alpha=penalty, n_iter=200).fit(scores[:40], labels).coef_ @ scores[40:].T
        for penalty in PENALTIES
    ]
    assert min(np.abs(risk - one).max() for one in expected) < 1e-5  # Newton's method stops at 1e-7


def test_a_forest_of_the_event_times_has_the_bits_of_a_forest_of_all_times(inputs, monkeypatch):
    """Oracle: the same estimator of scikit-survival in one thread, fitted with the follow-up as it is."""
    train, test = inputs.rows(np.arange(120)), inputs.rows(np.arange(120, 160))
    threads, build = set(), forest_module._parallel_build_trees
    with joblib.parallel_config("threading", n_jobs=3), monkeypatch.context() as patch:

        def recorded(*arguments, **options):
            threads.add(threading.get_ident())
            return build(*arguments, **options)

        patch.setattr(forest_module, "_parallel_build_trees", recorded)
        forest = baselines.create("forest").fit(train, 3)
    assert threads
    assert threading.get_ident() not in threads  # joblib runs a single job in the calling thread
    risk, survival = forest.predict(test, MONTHS)
    plain = baselines.Trees(baselines._forest).fit(train, 3).predict(test, MONTHS)
    np.testing.assert_array_equal(risk, plain[0])
    np.testing.assert_array_equal(survival, plain[1])


def test_times_move_back_to_the_event_before_and_events_stay():
    event = np.array([False, True, False, False, True, False])
    months = np.array([1.0, 2.0, 2.0, 3.5, 4.0, 9.0])
    np.testing.assert_array_equal(baselines.at_event_times(event, months), [0.0, 2.0, 2.0, 2.0, 4.0, 4.0])
