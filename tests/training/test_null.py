"""Permuted outcomes on a small synthetic cohort: C is one half, and leakage is detected."""

import numpy as np
import pytest

from benchmarks import training_null
from benchmarks.known_truth import SIZES

SMALL = {"epochs": 3, "architecture": {"covariates": ["age"], **SIZES}}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mcti", "linear_all"])
def test_on_permuted_outcomes_c_is_one_half_and_leakage_is_detected(name):
    """Of 40 patients and 8 permutations the mean has a standard error of .027: a leak lies three and more above."""
    patients = training_null.synthetic(40)
    honest, peeking = (
        [training_null.c_of(patients, name, number, peek=peek, **SMALL) for number in range(8)]
        for peek in (False, True)
    )
    assert abs(training_null.standard_errors(honest)[2]) <= 2
    assert training_null.standard_errors(peeking)[2] > 3


def test_a_permutation_changes_the_follow_up_only():
    before = training_null.synthetic(30)
    after = training_null.permuted(before, 1)
    one, two = before.inputs.patients, after.inputs.patients
    assert not np.array_equal(one["time_months"], two["time_months"])
    pairs = [sorted(zip(t["time_months"], t["event"], strict=True)) for t in (one, two)]
    assert pairs[0] == pairs[1]
    assert one.drop(columns=["time_months", "event"]).equals(two.drop(columns=["time_months", "event"]))
    for row in two.to_dict("records"):
        bag, former = after.data.bags[row["patient_id"]], before.data.bags[row["patient_id"]]
        assert (bag.time_months, bag.event) == (row["time_months"], bool(row["event"]))
        assert bag.patches is former.patches
        assert bag.genes is former.genes
