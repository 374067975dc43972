"""The entry under observation: parsing, exclusions, counts, warnings, contract, pooling, and steps without it."""

from dataclasses import replace

import lifelines
import numpy as np
import pandas as pd
import pytest
from sksurv.nonparametric import kaplan_meier_estimator

from mcti.cohort import left_truncation, tables
from mcti.contracts import expectations, followup, measurements, suites
from mcti.errors import DataError
from mcti.params import IngestParams, ValidateParams
from mcti.steps.ingest import ingest
from mcti.steps.validate import validate
from tests.cohort import cases
from tests.contracts import factories

PARAMS = IngestParams(name="made", expression_scale="z-score", covariates=())


def run(frames, tmp_path, params=PARAMS, name="cohort"):
    paths = cases.write_sources(frames, tmp_path / f"raw_{name}")
    return ingest(paths["clinical"], paths["expression"], paths["slides"], params, tmp_path / name)


def with_entries(entries, column="entry_months", **changes):
    frames = cases.sources()
    frames["clinical"] = frames["clinical"].assign(**{column: entries}, **changes)
    return frames


def test_entries_are_read_in_the_unit_of_the_times(tmp_path):
    frames = with_entries([0.0, 30.4375] * 20, "days_to_sequencing", time_months=[60.875 * (i + 1) for i in range(40)])
    params = PARAMS.model_copy(update={"time_unit": "days", "columns": {"entry_months": "days_to_sequencing"}})
    result = run(frames, tmp_path, params)
    patients, info = tables.read_patients(tmp_path / "cohort"), tables.read_info(tmp_path / "cohort")
    np.testing.assert_allclose(patients["entry_months"], [0.0, 1.0] * 20, rtol=1e-12)
    np.testing.assert_allclose(patients["time_months"], 2 * np.arange(1, 41), rtol=1e-12)
    assert (result.late_entries, result.median_late_entry) == (20, 1.0)
    assert (info.counts["late_entries"], info.median_late_entry) == (20, 1.0)
    assert not any("is not used" in text for text in result.warnings)


def test_the_entry_is_no_covariate(tmp_path):
    run(with_entries(0.5), tmp_path, PARAMS.model_copy(update={"covariates": None}))
    patients = tables.read_patients(tmp_path / "cohort")
    assert "entry_months" in patients
    assert tables.covariates(patients) == []
    assert "entry_months" not in tables.covariate_columns(patients)


def test_patients_who_were_never_at_risk_are_excluded_with_the_reason(tmp_path):
    frames = with_entries([0.25] * 40)
    clinical = frames["clinical"].astype({"entry_months": object})
    clinical.loc[3, "entry_months"] = clinical.loc[3, "time_months"]
    clinical.loc[5, "entry_months"] = clinical.loc[5, "time_months"] + 1
    clinical.loc[8, "entry_months"] = ""
    result = run({**frames, "clinical": clinical}, tmp_path)
    assert result.excluded == {"follow-up ends before or at the entry": 2, "no time of entry": 1}
    kept = set(tables.read_patients(tmp_path / "cohort")["patient_id"])
    assert kept == {f"P-{i:04d}" for i in range(40)} - {"P-0003", "P-0005", "P-0008"}


@pytest.mark.parametrize(
    ("cell", "words"), [("-1", "negative"), ("2014-05-06", "not a number"), ("soon", "not a number")]
)
def test_a_cell_that_is_no_entry_is_named(tmp_path, cell, words):
    frames = with_entries(["0"] * 39 + [cell])
    with pytest.raises(DataError, match=words) as caught:
        run(frames, tmp_path)
    assert "P-0039, column entry_months" in str(caught.value)
    assert not (tmp_path / "cohort").exists()


def test_a_cohort_without_the_column_has_no_trace_of_it(tmp_path):
    run(cases.sources(), tmp_path)
    info = (tmp_path / "cohort/cohort.json").read_text()
    assert "entr" not in info
    assert "entry_months" not in tables.read_patients(tmp_path / "cohort")


def test_a_small_early_risk_set_is_a_warning_of_ingest_and_of_the_contract(tmp_path):
    late = with_entries(
        [0.1] * 3 + [30.0] * 37, time_months=[5.0, 20.0, 40.0, *range(41, 78)], event=[1] * 20 + [0] * 20
    )
    result = run(late, tmp_path)
    assert any("only 2 patients are at risk at an early event" in text for text in result.warnings)
    relaxed = ValidateParams(min_patients=10, min_events=5, min_events_per_fold=0)
    tables_info = tables.read_info(tmp_path / "cohort").model_copy(update={"event_confirmed": True})
    (tmp_path / "cohort/cohort.json").write_text(tables_info.model_dump_json())
    assert validate(tmp_path / "cohort", relaxed, tmp_path / "report").passed
    assert "risk_set_large" in (tmp_path / "report/results.json").read_text()
    early = with_entries([0.0] * 40, time_months=late["clinical"]["time_months"], event=late["clinical"]["event"])
    assert not any("at risk at an early event" in text for text in run(early, tmp_path, name="early").warnings)


@pytest.mark.parametrize(
    ("changes", "failing"),
    [
        ({"entry_months": -0.5}, {"entry_not_negative"}),
        ({"entry_months": np.nan}, {"entry_filled"}),
        ({"entry_months": 1e4}, {"entry_before_end"}),
        ({"entry_months": 0.01}, set()),
    ],
)
def test_the_contract_of_entries(changes, failing):
    data = factories.good()
    patients = data.patients.assign(entry_months=0.0)
    patients.loc[7, list(changes)] = list(changes.values())
    measured = measurements.measure(replace(data, patients=patients))
    results = suites.run(measured, expectations.entry_rules())
    assert {result.id for result in results if not result.passed} == failing


@pytest.mark.parametrize("seed", range(4))
def test_kaplan_meier_with_entries_agrees_with_scikit_survival_and_lifelines(seed):
    """Oracles: scikit-survival 0.28 (time_enter) and lifelines 0.30 (entry); times without ties of entry and event."""
    rng = np.random.default_rng(seed)
    entry = rng.uniform(0, 10, 300)
    time, event = entry + rng.exponential(30, 300) + 0.01, rng.random(300) < 0.5
    months, share = followup.kaplan_meier(time, event, entry)
    x, y = kaplan_meier_estimator(event, time, time_enter=entry)
    np.testing.assert_allclose(share, y[np.searchsorted(x, months)], rtol=0, atol=1e-9)
    theirs = lifelines.KaplanMeierFitter().fit(time, event, entry=entry).survival_function_at_times(months)
    np.testing.assert_allclose(share, theirs.to_numpy(), rtol=0, atol=1e-9)


def test_one_who_enters_at_the_time_of_an_event_is_not_yet_at_risk():
    """Surv(start, stop, event) of R: (start, stop]. At 2 months A and B are at risk, C enters: S = 1 - 1/2."""
    months, share = followup.kaplan_meier(
        np.array([2.0, 5.0, 6.0]), np.array([True, False, False]), np.array([0.0, 0.0, 2.0])
    )
    assert share[months == 2.0] == 0.5


def test_all_cohorts_of_a_pool_have_the_column_or_none():
    plain = pd.DataFrame({"patient_id": ["A"]})
    entered = plain.assign(entry_months=1.0)
    left_truncation.check_same([("a", plain), ("b", plain)])
    left_truncation.check_same([("a", entered), ("b", entered)])
    with pytest.raises(DataError, match="only one of this cohort and a has the column entry_months"):
        left_truncation.check_same([("a", plain), ("b", entered)])


def test_late_entry_and_competing_events_together_are_refused(tmp_path):
    frames = with_entries(0.5)
    frames["clinical"]["event"] = [0, 1, 2, 0] * 10
    params = PARAMS.model_copy(update={"event_values": {"2": 2}})
    with pytest.raises(DataError, match="competing events together with late entry"):
        run(frames, tmp_path, params)
    assert not (tmp_path / "cohort").exists()
