"""Forest plot, patient flow, learning curves, and the agreement of single patients."""

import numpy as np
import pytest

from mcti.evaluation import cohort_figures, comparison, metrics, subgroups
from mcti.evaluation.outcomes import Outcomes
from tests.evaluation.factories import make_folds, make_patients

PATIENTS = make_patients(90)
OUTCOMES = Outcomes.from_folds(PATIENTS, make_folds(PATIENTS, 3))
RISK = PATIENTS["x"].to_numpy()[OUTCOMES.patient]
PAIRS = metrics.c_index(OUTCOMES, RISK)


def rows():
    draws = comparison.resamples(OUTCOMES.event, 100, 0)
    groups = [g.as_dict() for g in subgroups.table(PAIRS, PATIENTS, OUTCOMES.tested, draws)]
    return cohort_figures.forest_rows(OUTCOMES, PAIRS, groups, draws)


def test_the_forest_plot_has_all_patients_each_fold_each_subtype_and_site():
    by_name = {row.name: row for row in rows()}
    assert {"all", "fold 0", "fold 1", "fold 2", "subtype A", "subtype B"} <= set(by_name)
    fold = OUTCOMES.folds[1]
    alone = metrics.harrell_c(fold.event, fold.time_months, RISK[OUTCOMES.fold_number == 1])
    assert by_name["fold 1"].c_index.value == pytest.approx(alone, abs=1e-12)
    assert by_name["fold 1"].events == fold.event.sum()
    drawn = cohort_figures.forest(rows())
    assert "subtype A" in drawn.alt
    assert "fold 2" in drawn.svg


def test_the_flow_counts_the_excluded_patients_by_step_and_the_evaluated_patients():
    drawn = cohort_figures.flow({"ingest": {"no follow-up": 1}, "split": {"no features of a slide": 2}}, 40, 12)
    assert "43 patients in the clinical table" in drawn.alt
    assert "xcluded at ingest: 1: no follow-up; excluded at split: 2: no features of a slide" in drawn.alt
    assert "40 patients evaluated, 12 with the event, 28 without" in drawn.alt
    assert "no patient excluded" in cohort_figures.flow({}, 40, 12).svg


def test_the_text_of_the_learning_curves_states_start_and_end():
    curves = {"epoch": [1.0, 2.0], "survival": [1.5, 0.5], "subtype": [0.7, 0.6]}
    drawn = cohort_figures.learning({0: curves, 1: curves | {"survival": [1.7, 0.7]}})
    assert "from 1.600 to 0.600" in drawn.alt
    assert "instance loss" not in drawn.svg


def test_the_agreement_of_a_patient_equals_the_worked_out_shares():
    """Deaths at 1, 2, 3 with risks 3, 1, 2: pairs (1,2) right, (1,3) right, (2,3) wrong."""
    table = PATIENTS.iloc[:4].assign(time_months=[1.0, 2.0, 3.0, 9.0], event=[1, 1, 1, 0])
    ids = list(table["patient_id"])
    tested = Outcomes.from_folds(table, {0: (ids[3:], ids[:3])})
    share, pairs = cohort_figures.agreement(tested, metrics.c_index(tested, np.array([3.0, 1.0, 2.0])))
    assert share[:3].tolist() == [1.0, 0.5, 0.5]
    assert np.isnan(share[3])
    assert pairs.tolist() == [2, 2, 2, 0]
