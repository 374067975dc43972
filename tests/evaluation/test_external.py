"""The numbers of a validation with those of the development, and the warnings."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mcti.evaluation import external
from mcti.evaluation.case_mix import CaseMix
from mcti.evaluation.curves import KaplanMeier
from mcti.evaluation.external import ExternalSummary
from mcti.evaluation.outcomes import Outcomes
from mcti.evaluation.scores import Scores
from tests.evaluation.factories import make_folds, make_patients


def interval(value, low=None, high=None):
    return {"value": value, "low": low, "high": high}


def make_scores(**mcti):
    numbers = {"c_index": interval(0.6, 0.5, 0.7), "slope_36": interval(0.5, 0.2, 0.8), **mcti}
    empty: dict = {}
    return Scores({"mcti": numbers}, {}, empty, [], empty, np.array([36.0]), np.array([60.0]))


def make_summary(**changes):
    usual = {
        "model": "lung-os", "version": "3", "cohort": "other", "notice": "", "endpoint": "OS", "development": "first",
        "patients": 100, "events": 40, "follow_up": 30.0,
    }  # fmt: skip
    return ExternalSummary(**(usual | changes))


def test_the_table_has_the_difference_and_only_intervals():
    scores = make_scores(folds=[{"fold": 0}], d_calibration={"p": 0.5, "shares": []})
    development = {"mcti": {"c_index": interval(0.65, 0.6, 0.7), "comparison": {}}}
    table = external.compared(scores, development).set_index("metric")
    assert list(table.index) == ["c_index", "slope_36"]
    assert table.loc["c_index", "difference"] == pytest.approx(-0.05)
    assert table.loc["slope_36", "development_value"] is None or np.isnan(table.loc["slope_36", "development_value"])
    assert external.value(development, "mcti", "c_index") == 0.65
    assert external.value(development, "mcti", "uno_c") is None
    assert external.value(development, "cox_clinical", "c_index") is None


def test_warnings_name_every_limit():
    summary = make_summary(events=9, excluded={"no slides": 4}, out_of_distribution=25, competing_events=17)
    sentences = external.warnings(summary, make_scores(), {"forest": "trees", "boosting": "trees"}, known=False)
    text = " ".join(sentences)
    for part in (
        "Random survival forest, Gradient boosting (trees)", "no evaluation of the development", "4 patients could not",
        "25 of 100 patients are out of distribution", "Only 9 events", "Months 60 cannot be scored",
        "slope 0.50 at month 36", "17 patients had competing events", "All scores are cause-specific",
    ):  # fmt: skip
        assert part in text
    entered = external.warnings(
        make_summary(entry_difference="this cohort: every patient counts from the origin"),
        replace(make_scores(), late_entries=8), {}, known=True,
    )  # fmt: skip
    assert "The cohorts differ in late entry (this cohort: every patient counts from the origin)." in entered
    assert any(sentence.startswith("8 patients came under observation after the origin") for sentence in entered)
    quiet = make_scores(slope_36=interval(1.0, 0.8, 1.2))
    assert len(external.warnings(make_summary(), quiet, {}, known=True)) == 1  # the horizon that was not scored


def test_given_groups_have_their_kaplan_meier_curves():
    patients = make_patients(60)
    outcomes = Outcomes.from_folds(patients, {0: ([], list(patients["patient_id"]))})
    group = (patients["x"].to_numpy() > 0).astype(np.int64)
    groups = external.risk_groups_of(outcomes, group, 2)
    high = patients[group == 1]
    expected = KaplanMeier.fit(high["event"].to_numpy() == 1, high["time_months"].to_numpy())
    np.testing.assert_array_equal(groups.curves[1].values, expected.values)
    assert groups.names == ("low", "high")
    assert groups.p < 0.05
    assert external.risk_groups_of(outcomes, group * 0, 2).curves[1] is None


def test_the_case_mix_is_compared_at_one_horizon_only():
    table = pd.DataFrame({"linear predictor": [0.0, 1.0, 2.0], "age": [50.0, 60.0, 55.0]})
    one = CaseMix.fit(table, 36.0)
    assert external.compare_case_mix(None, one) is None
    assert external.compare_case_mix(CaseMix.fit(table, 60.0), one) is None
    document = external.compare_case_mix(one, one).as_dict()
    assert document["membership"]["linear_predictor"]["variables"] == ["linear predictor"]
    assert [row["standardised_difference"] for row in document["variables"]] == [0.0, 0.0]


def test_the_observed_number_is_that_of_kaplan_meier():
    """Oracle: n (1 - Kaplan-Meier) where the censoring curve is that of the same patients, ties included."""
    from dataclasses import replace

    from mcti.evaluation import calibration, comparison

    patients = make_patients(150, months=1)
    whole = Outcomes.from_folds(patients, make_folds(patients, 1) | {0: ([], list(patients["patient_id"]))})
    fold = replace(whole.folds[0], train_event=whole.event, train_time=whole.time_months)
    outcomes, survival = replace(whole, folds=(fold,)), np.linspace(0.3, 0.9, 150)
    ratio = comparison.point(calibration.observed_to_expected(outcomes, survival, 36.0), 150)
    observed = 150 * (1 - float(KaplanMeier.fit(whole.event, whole.time_months).at(36.0)))
    assert ratio == pytest.approx(observed / (1 - survival).sum(), abs=1e-9)
