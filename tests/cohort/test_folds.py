import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcti.cohort import folds, sites
from mcti.errors import DataError, UsageError
from mcti.params import SplitParams


def patient_table(seed=0, patients=120, site_count=12, subtypes=3):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "patient_id": [f"P-{i:04d}" for i in range(patients)],
            "site": [f"S{s:02d}" for s in np.minimum(rng.geometric(0.25, patients) - 1, site_count - 1)],
            "subtype": rng.choice([f"k{j}" for j in range(subtypes)], patients),
            "time_months": rng.uniform(1, 100, patients),
            "event": (rng.random(patients) < 0.4).astype(int),
            "year": rng.integers(1990, 2020, patients).astype(float),
        }
    )


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


def best_event_balance(events, site, count):
    """Exhaustive search: the minimum of the largest deviation of a share of events from 1 / count, in per cent."""
    codes, site_code = np.unique(site, return_inverse=True)
    per_site = np.bincount(site_code, weights=events)
    best = np.inf
    for rest in itertools.product(range(count), repeat=len(codes) - 1):
        assignment = (0, *rest)
        if len(set(assignment)) == count:
            share = np.bincount(assignment, weights=per_site, minlength=count) / per_site.sum()
            best = min(best, 100 * np.abs(share - 1 / count).max())
    return best


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("searched", [True, False])
def test_site_folds_are_within_three_points_of_the_best_event_balance(seed, searched, monkeypatch):
    """Oracle: all assignments of 8 sites in 3 folds; also with the exhaustive search of the product switched off."""
    if searched:
        monkeypatch.setattr(sites, "EXACT_ASSIGNMENTS", 0)
    frame = patient_table(seed, site_count=8)
    event = frame["event"].to_numpy() == 1
    assignment = sites.assign_sites(frame["site"].tolist(), event, frame["subtype"].tolist(), 3, [seed], 64)
    share = np.bincount(assignment, weights=event, minlength=3) / event.sum()
    ours = 100 * np.abs(share - 1 / 3).max()
    assert ours <= best_event_balance(event, frame["site"].to_numpy(), 3) + 3


def test_time_folds_train_on_the_past_only():
    frame = patient_table()
    year = frame.set_index("patient_id")["year"]
    assigned = folds.assign_folds(frame, SplitParams(scheme="time", folds=3, time_column="year"))
    assert assigned.numbers == [0, 1, 2]
    for number in assigned.numbers:
        assert year[assigned.train_patients(number)].max() < year[assigned.test_patients(number)].min()


def test_mcat_split_files_are_used_unchanged(tmp_path):
    frame = patient_table(patients=40)
    ids = frame["patient_id"].tolist()
    for k in range(2):
        test = ids[20 * k : 20 * k + 20]
        train = [p for p in ids if p not in test]
        pd.DataFrame({"train": pd.Series(train), "val": pd.Series([*test[:-1], "UNKNOWN"])}).to_csv(
            tmp_path / f"splits_{k}.csv"
        )
    assigned = folds.assign_folds(frame, SplitParams(scheme="files", files=str(tmp_path)))
    assert assigned.numbers == [0, 1]
    assert assigned.test_patients(0) == ids[:19]
    assert assigned.train_patients(1) == ids[:20]


def test_mcat_split_file_with_a_patient_in_both_parts_is_refused(tmp_path):
    (tmp_path / "splits_0.csv").write_text(",train,val\n0,P-0000,P-0001\n1,P-0001,\n")
    with pytest.raises(DataError, match=r"'P-0001' is in train and in val in .*splits_0.csv"):
        folds.assign_folds(patient_table(), SplitParams(scheme="files", files=str(tmp_path)))


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
