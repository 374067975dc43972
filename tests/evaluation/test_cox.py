"""Oracle: scikit-survival 0.28 (CoxPHSurvivalAnalysis, ties by Breslow). The coefficients: tests/model/test_cox.py."""

import numpy as np
import pytest
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.util import Surv

from mcti.evaluation import cox


@pytest.mark.parametrize("penalty", [0.5, 20.0, 1000.0])
def test_curves_agree_with_scikit_survival(penalty):
    """200 patients, times in whole months: most are tied."""
    generator = np.random.default_rng(0)
    design = generator.normal(size=(200, 8))
    time, event = np.ceil(generator.exponential(10 * np.exp(-design[:, 0]))), generator.random(200) < 0.6
    oracle = CoxPHSurvivalAnalysis(alpha=penalty, ties="breslow", tol=1e-12).fit(design, Surv.from_arrays(event, time))
    months = np.array([3.0, 9.0])
    curves = np.stack([curve(months) for curve in oracle.predict_survival_function(design)])
    np.testing.assert_allclose(cox.fit_ridge(design, event, time, penalty).survival(design, months), curves, atol=1e-8)
