"""Assignment of patients to outer and inner folds, and the folds file."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcti.cohort import folds
from mcti.errors import DataError, UsageError
from mcti.params import SplitParams
from tests.cohort.cases import patient_table


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(40, 150), st.integers(2, 6))
def test_stratified_folds_differ_by_at_most_one_in_patients_events_and_events_of_each_subtype(seed, patients, count):
    frame = patient_table(seed, patients)
    if frame["event"].sum() < count:
        return
    assignment = folds.assign_stratified(frame, count, [seed])
    events = frame["event"].to_numpy()
    for chosen in (np.ones(patients), events, *(events * (frame["subtype"] == k) for k in frame["subtype"].unique())):
        sums = np.bincount(assignment, weights=chosen, minlength=count)
        assert sums.max() - sums.min() <= 1


def test_stratified_folds_also_balance_competing_events():
    frame = patient_table(3)
    censored = np.flatnonzero(frame["event"] == 0)
    frame["competing"] = np.isin(np.arange(len(frame)), censored[::3]).astype("int8")
    counts = frame["competing"].groupby(folds.assign_stratified(frame, 5, [3])).sum()
    assert counts.max() - counts.min() <= 1
    none = frame.assign(competing=np.int8(0))
    without = frame.drop(columns="competing")
    np.testing.assert_array_equal(folds.assign_stratified(none, 5, [3]), folds.assign_stratified(without, 5, [3]))


@pytest.mark.parametrize("scheme", ["stratified", "site", "leave-one-site-out", "time"])
def test_no_patient_is_trained_on_and_tested(scheme):
    params = SplitParams(scheme=scheme, folds=3, time_column="year")
    assigned = folds.assign_folds(patient_table(), params)
    for number in assigned.numbers:
        assert not set(assigned.test_patients(number)) & set(assigned.train_patients(number))
        assert sorted(assigned.inner(number)) == assigned.train_patients(number)
        assert set(assigned.inner(number).values()) == {0, 1, 2}


@pytest.mark.parametrize("scheme", ["stratified", "site", "leave-one-site-out"])
def test_every_patient_is_tested_once_in_each_repeat(scheme):
    repeats = 1 if scheme == "leave-one-site-out" else 2
    assigned = folds.assign_folds(patient_table(), SplitParams(scheme=scheme, folds=4, repeats=repeats))
    counts = assigned.frame[assigned.frame["role"] == "test"]["patient_id"].value_counts()
    assert (counts == repeats).all()
    assert len(counts) == 120


@pytest.mark.parametrize("scheme", ["site", "leave-one-site-out"])
def test_no_site_is_in_two_folds_or_in_two_inner_folds(scheme):
    frame = patient_table()
    site = frame.set_index("patient_id")["site"]
    assigned = folds.assign_folds(frame, SplitParams(scheme=scheme, folds=4))
    for number in assigned.numbers:
        assert not set(site[assigned.test_patients(number)]) & set(site[assigned.train_patients(number)])
        inner = pd.Series(assigned.inner(number))
        assert (inner.groupby(site[inner.index]).nunique() == 1).all()


def test_time_folds_train_on_the_past_only():
    frame = patient_table()
    year = frame.set_index("patient_id")["year"]
    assigned = folds.assign_folds(frame, SplitParams(scheme="time", folds=3, time_column="year"))
    assert assigned.numbers == [0, 1, 2]
    for number in assigned.numbers:
        assert year[assigned.train_patients(number)].max() < year[assigned.test_patients(number)].min()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"event": 0}, "0 events cannot fill 5 folds"),
        ({"event": 0, "scheme": "site"}, "0 events cannot fill"),
        ({"site": "one", "scheme": "site"}, "1 site cannot fill 5 folds"),
        ({"site": "one", "scheme": "leave-one-site-out"}, "all patients are of one site"),
        ({"year": 2000.0, "scheme": "time", "time_column": "year"}, "cannot be divided into 6 blocks"),
    ],
)
def test_a_cohort_that_cannot_fill_the_folds_is_refused(change, words):
    settings = {name: change.pop(name) for name in ("scheme", "time_column") if name in change}
    with pytest.raises(DataError, match=words):
        folds.assign_folds(patient_table().assign(**change), SplitParams(**settings))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"scheme": "time"}, "needs a column of calendar time"),
        ({"scheme": "files"}, "needs a folder"),
        ({"scheme": "leave-one-site-out", "repeats": 2}, "cannot be repeated"),
    ],
)
def test_a_scheme_without_its_setting_is_a_usage_error(settings, words):
    with pytest.raises(UsageError, match=words):
        folds.assign_folds(patient_table(), SplitParams(**settings))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (",train,0", ",training,0", "not a row of a split"),
        (",train,0", ",train,", "not a row of a split"),
        ("patient_id,fold", "patient,fold", "did you mean patient"),
    ],
)
def test_an_invalid_folds_file_is_refused(tmp_path, old, new, words):
    text = folds.assign_folds(patient_table(), SplitParams()).text()
    assert old in text
    (tmp_path / "folds.csv").write_text(text.replace(old, new, 1))
    with pytest.raises(DataError, match=words):
        folds.read_folds(tmp_path / "folds.csv")


def test_a_folds_file_with_a_patient_in_both_parts_is_refused(tmp_path):
    text = folds.assign_folds(patient_table(), SplitParams()).text()
    (tmp_path / "folds.csv").write_text(text + "P-0000,0,train,1\nP-0000,0,test,\n")
    with pytest.raises(DataError, match="'P-0000' has two rows in fold 0"):
        folds.read_folds(tmp_path / "folds.csv")
