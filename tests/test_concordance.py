"""Harrell's C against scikit-survival (`concordance_index_censored`), the version in requirements.lock."""

import numpy as np
import pytest
from sksurv.metrics import concordance_index_censored

from mcti.concordance import harrell_c, orderable
from tests import left_truncated as lt


@pytest.mark.parametrize("patients", [7, 60, 1500])  # 1500: more events than one block has
def test_c_agrees_with_scikit_survival_with_tied_times_and_risks(patients):
    random = np.random.default_rng(patients)
    event = random.random(patients) < 0.6
    time = random.integers(1, 40, patients).astype(float)
    risk = np.round(random.normal(size=patients) - time / 40, 1)
    oracle = concordance_index_censored(event, time, risk)[0]
    assert harrell_c(event, time, risk) == pytest.approx(oracle, abs=1e-12)


def test_c_of_three_patients():
    """Pairs (1, 2) and (1, 3) can be ordered; one of them is concordant."""
    event, time = np.array([True, False, True]), np.array([1.0, 2.0, 3.0])
    assert harrell_c(event, time, np.array([0.5, 0.9, 0.1])) == 0.5


def test_c_is_undefined_without_a_pair_that_can_be_ordered():
    assert np.isnan(harrell_c(np.array([False, False]), np.array([1.0, 2.0]), np.array([0.0, 1.0])))
    assert np.isnan(harrell_c(np.array([True, True]), np.array([2.0, 2.0]), np.array([0.0, 1.0])))


def test_pairs_with_late_entry_are_those_of_r():
    """R survival 3.5-3, concordance(Surv(entry, time, event) ~ x): 30 of 40 pairs (tests/left_truncated.py)."""
    assert harrell_c(lt.EVENT, lt.TIME, lt.X, lt.ENTRY) == pytest.approx(lt.CONCORDANCE)
    assert orderable(lt.TIME[lt.EVENT], lt.TIME, lt.EVENT, lt.ENTRY).sum() == 40
