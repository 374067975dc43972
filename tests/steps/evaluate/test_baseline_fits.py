"""The fits of the baselines in two threads: the same predictions, the cores that each may use, errors."""

import threading

import joblib
import numpy as np
import pytest

from mcti.errors import DataError
from mcti.evaluation import baselines
from mcti.evaluation.outcomes import Outcomes
from mcti.params import EvaluateParams
from mcti.steps.evaluate.baseline_fits import BaselineFits
from tests.evaluation.factories import make_folds
from tests.evaluation.test_baselines import make_inputs

INPUTS = make_inputs(90)
OUTCOMES = Outcomes.from_folds(INPUTS.patients, make_folds(INPUTS.patients, 3))
HORIZONS = (12.0, 36.0)


class FakeForest(baselines.KaplanMeierBaseline):
    """Fits after `resume`; records, per fold, the threads of a fit of joblib that prefers threads, as a forest does."""

    compiled = True

    def __init__(self) -> None:
        self.threads: list[int] = []
        self.started, self.resume = threading.Event(), threading.Event()

    def fit(self, train, seed):
        self.threads.append(joblib.Parallel(prefer="threads").n_jobs)
        self.started.set()
        assert self.resume.wait(60)
        return super().fit(train, seed)


@pytest.fixture
def fake(monkeypatch):
    model = FakeForest()
    monkeypatch.setattr(baselines, "REGISTRY", {**baselines.REGISTRY, "fake": lambda: model})
    return model


def settings(*names):
    return EvaluateParams(horizons_months=HORIZONS, baselines=names, primary_baseline=names[0])


def test_the_predictions_are_those_of_one_fit_after_the_other_in_the_order_of_the_settings():
    """Oracle: `baselines.fit_predict` in this thread alone."""
    names = ("forest", "cox_clinical", "cox_genes", "kaplan_meier")
    with BaselineFits(INPUTS, OUTCOMES, settings(*names)) as fits:
        direct = fits.interpreted()
        fitted = fits.result()
    assert list(direct) == ["cox_clinical", "cox_genes", "kaplan_meier"]
    assert list(fitted.predictions) == list(names)
    for name in names:
        expected = baselines.fit_predict(name, INPUTS, OUTCOMES, np.array(HORIZONS), settings(*names).seed)
        np.testing.assert_array_equal(fitted.predictions[name].risk, expected.risk)
        np.testing.assert_array_equal(fitted.predictions[name].survival, expected.survival)


def test_a_fit_in_compiled_code_leaves_one_core_until_the_caller_waits(fake):
    with BaselineFits(INPUTS, OUTCOMES, settings("cox_clinical", "fake")) as fits:
        fits.interpreted()
        assert fake.started.wait(60)
        threading.Thread(target=lambda: fits._awaited.wait(60) and fake.resume.set()).start()
        fits.result()
    assert [fake.threads[0], fake.threads[-1]] == [-2, -1]  # of joblib: all cores but one, all cores


def test_an_error_of_the_further_thread_is_raised_where_its_result_is_awaited():
    inputs = make_inputs(90)
    inputs.patients["event"] = 0
    outcomes = Outcomes.from_folds(inputs.patients, make_folds(inputs.patients, 3))
    with BaselineFits(inputs, outcomes, settings("forest")) as fits:
        fits.interpreted()
        with pytest.raises(DataError, match="the training part has no event"):
            fits.result()


def test_after_an_error_of_the_caller_no_further_fold_is_fitted(fake):
    def fail():
        with BaselineFits(INPUTS, OUTCOMES, settings("fake")):
            assert fake.started.wait(60)
            raise KeyboardInterrupt

    before = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt):
        fail()
    fake.resume.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(60)
    assert len(fake.threads) == 1
