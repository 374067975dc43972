"""C of a subset of the patients, against the C of the selected rows."""

import numpy as np
import pytest

from mcti.evaluation import metrics, subgroups
from mcti.evaluation.comparison import point, resamples
from mcti.evaluation.outcomes import Outcomes
from tests.evaluation.factories import make_folds, make_patients

DRAWS = resamples(make_patients(120)["event"].to_numpy() == 1, 100, 0)


def _one_fold(count: int = 200):
    """All but ten patients in one test part, so that a subgroup's C is that of its rows."""
    patients = make_patients(count, months=1)
    ids = list(patients["patient_id"])
    return patients, Outcomes.from_folds(patients, {0: (ids[:10], ids[10:])})


def test_c_of_a_subset_equals_the_c_of_its_rows():
    patients, outcomes = _one_fold()
    risk = np.round(patients["x"].to_numpy(), 1)[outcomes.patient]
    member = (patients["subtype"] == "A").to_numpy()
    rows = outcomes.patient[member[outcomes.patient]]
    alone = metrics.harrell_c(
        outcomes.event[rows], outcomes.time_months[rows], np.round(patients["x"].to_numpy(), 1)[rows]
    )
    ours = point(subgroups.pairs_among(metrics.c_index(outcomes, risk), member), 200)
    assert ours == pytest.approx(alone, abs=1e-12)


def test_a_model_of_the_subtype_alone_has_no_c_within_subtype():
    patients = make_patients(300)
    patients["time_months"] *= np.where(patients["subtype"] == "A", 0.3, 1.0)
    outcomes = Outcomes.from_folds(patients, make_folds(patients))
    risk = (patients["subtype"] == "A").to_numpy(dtype=float)[outcomes.patient]
    pairs = metrics.c_index(outcomes, risk)
    assert point(pairs, 300) > 0.55
    assert point(subgroups.pairs_of_one_label(pairs, patients["subtype"].to_numpy()), 300) == 0.5


def test_every_member_is_counted_with_events_and_small_groups_get_no_interval():
    patients = make_patients(120)
    patients["site"] = np.where(np.arange(120) < 50, "big", [f"tiny{i}" for i in range(120)])
    outcomes = Outcomes.from_folds(patients, make_folds(patients, 4))
    pairs = metrics.c_index(outcomes, patients["x"].to_numpy()[outcomes.patient])
    by_name = {g.name: g for g in subgroups.table(pairs, patients, outcomes.tested, DRAWS)}
    assert {"women", "men", "subtype A", "subtype B", "site big", "sites with few events"} <= set(by_name)
    events = int(patients["event"].sum())
    for one, other in (("women", "men"), ("subtype A", "subtype B"), ("site big", "sites with few events")):
        assert by_name[one].patients + by_name[other].patients == 120
        assert by_name[one].events + by_name[other].events == events
    assert by_name["women"].c_index.low < by_name["women"].c_index.value < by_name["women"].c_index.high
    patients["event"] = (np.arange(120) < 4).astype(int)
    few = subgroups.table(pairs, patients, outcomes.tested, DRAWS)
    assert [group.events for group in few if group.name in ("women", "men")] != [0, 0]
    for group in few:
        assert np.isfinite(group.c_index.value), "a C of few events is reported"
        assert np.isnan(group.c_index.low), "and has no interval"


def test_subgroups_count_only_evaluated_patients():
    """30 of 120 patients are in no test part: they do not enter counts, median age or small sites."""
    patients = make_patients(120)
    patients.loc[90:, "age"] = 200.0
    ids = list(patients["patient_id"])
    outcomes = Outcomes.from_folds(patients, {0: (ids[90:], ids[:90])})
    pairs = metrics.c_index(outcomes, patients["x"].to_numpy()[outcomes.patient])
    by_name = {g.name: g for g in subgroups.table(pairs, patients, outcomes.tested, DRAWS)}
    kept = patients.iloc[:90]
    middle = kept["age"].median()
    assert by_name[f"age up to {middle:g}"].patients == (kept["age"] <= middle).sum()
    assert by_name["women"].patients + by_name["men"].patients == 90
    assert by_name["women"].events + by_name["men"].events == kept["event"].sum()


def test_a_characteristic_with_one_value_gives_no_subgroup():
    patients = make_patients(20)
    patients["is_female"], patients["subtype"], patients["site"], patients["age"] = 1, "A", "S", np.nan
    assert list(subgroups.subgroup_members(patients)) == []
