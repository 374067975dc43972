"""Test rows of a split, and the errors of folds that do not fit the cohort."""

import numpy as np
import pandas as pd
import pytest

from mcti.errors import DataError
from mcti.evaluation.outcomes import Outcomes

PATIENTS = pd.DataFrame({"patient_id": list("ABCD"), "time_months": [5.0, 7.0, 9.0, 11.0], "event": [1, 0, 1, 0]})


def test_rows_are_ordered_by_fold_and_then_by_the_table():
    outcomes = Outcomes.from_folds(PATIENTS, {1: (["A", "B"], ["D", "C"]), 0: (["C", "D"], ["B"])})
    assert [fold.number for fold in outcomes.folds] == [0, 1]
    assert outcomes.patient.tolist() == [1, 2, 3]
    assert outcomes.fold_number.tolist() == [0, 1, 1]
    assert outcomes.starts.tolist() == [0, 1, 3]
    assert outcomes.tested_time.tolist() == [7, 9, 11]
    assert outcomes.tested_event.tolist() == [False, True, False]
    assert [(fold.number, part.start, part.stop) for fold, part in outcomes.parts()] == [(0, 0, 1), (1, 1, 3)]


def test_the_curves_of_a_fold_come_from_its_training_part():
    fold = Outcomes.from_folds(PATIENTS, {0: (["C", "D"], ["A", "B"])}).folds[0]
    assert fold.survival.times.tolist() == [9, 11]
    assert fold.censoring.at(10.0) == 1
    assert fold.follow_up_quantile(0.5) == 10


def test_a_patient_who_is_not_in_the_cohort_is_named():
    with pytest.raises(DataError, match=r"patient 'X' is not in the cohort \(1 such patients\) in folds, fold 3"):
        Outcomes.from_folds(PATIENTS, {3: (["A"], ["X"])})


def test_a_patient_in_both_parts_is_named():
    with pytest.raises(DataError, match=r"patient 'A' is in the training part and in the test part.*fold 0"):
        Outcomes.from_folds(PATIENTS, {0: (["A", "B"], ["A"])})


def test_event_and_time_are_those_of_the_table():
    outcomes = Outcomes.from_folds(PATIENTS, {0: (["A"], ["B"])})
    np.testing.assert_array_equal(outcomes.event, [True, False, True, False])
    np.testing.assert_array_equal(outcomes.time_months, PATIENTS["time_months"])
