"""The text of the report for given scores."""

import dataclasses

import numpy as np
import pytest

from mcti.evaluation import report
from mcti.evaluation.scores import Scores
from mcti.params import EvaluateParams
from mcti.slides.tile_images import TileImage

PARAMS = EvaluateParams(baselines=("cox_clinical",), primary_baseline="cox_clinical")


def make_scores(low: float, high: float, events: tuple[int, ...] = (12, 15)) -> Scores:
    """MCTI and the baseline with C .65, the interval of the difference as given; no horizon."""
    folds = [{"fold": k, "patients": 40, "events": n, "c_index": 0.6 if n else None} for k, n in enumerate(events)]
    number = {"value": 0.65, "low": 0.55, "high": 0.75}
    models = {
        n: {"c_index": number, "c_within_subtype": number, "uno_c": number, "folds": folds}
        for n in ("mcti", "cox_clinical")
    }
    compared = {
        "difference": {"value": (low + high) / 2, "low": low, "high": high},
        "p": 0.2, "p_holm": None, "primary": True,
        "fold_corrected": {"value": 0.1, "low": -0.1, "high": 0.3, "p": 0.4, "folds": 2},
        "ibs_difference": {"value": None, "low": None, "high": None}, "ibs_p": None, "ibs_p_holm": None,
    }  # fmt: skip
    return Scores(models, {"cox_clinical": compared}, {}, [], {}, np.array([]), np.array([600.0]))


def page(scores: Scores, name: str = "c", notice: str = "") -> str:
    facts = report.CohortSummary(name, notice, "OS", 80, 27, 50.0, "12 genes", {"ingest": {"no slide": 2}})
    return report.render(facts, scores, [], PARAMS, {"linear_all": "no slide features were passed"})


@pytest.mark.parametrize(
    ("ends", "verdict"),
    [((0.01, 0.1), "MCTI ranks better"), ((-0.1, -0.01), "MCTI ranks worse"), ((-0.1, 0.1), "no difference is shown")],
)
def test_the_verdict_follows_the_interval_in_both_directions(ends, verdict):
    assert verdict in page(make_scores(*ends))


def test_folds_without_enough_events_and_unusable_horizons_are_reported():
    text = page(make_scores(-0.1, 0.1, events=(0, 4)))
    assert "1 test fold(s) have no event" in text
    assert "Only 4 events: no conclusion is possible" in text
    assert "Months 600 cannot be scored" in text
    assert "Cox: clinical + genes + slides was left out: no slide features were passed" in text


def test_text_of_the_cohort_is_escaped():
    text = page(make_scores(-0.1, 0.1), name="<script>alert(1)</script>", notice="<b>")
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "&lt;b&gt;" in text


def test_excluded_patients_are_counted_by_step_and_reason():
    text = page(make_scores(-0.1, 0.1))
    assert '<td>ingest</td><td class="long" data-head="reason">no slide</td><td data-head="patients">2</td>' in text
    assert (
        "82 patients in the clinical table; excluded: 2 at ingest (no slide); 80 evaluated, 27 with the event" in text
    )


def test_a_median_follow_up_that_is_not_reached_is_reported():
    facts = report.CohortSummary("c", "", "OS", 80, 27, np.inf, "12 genes")
    text = report.render(facts, make_scores(-0.1, 0.1), [], PARAMS, {})
    assert "median follow-up not reached (reverse Kaplan-Meier" in text


def with_search(**more) -> Scores:
    gain = {"value": 0.02, "low": -0.03, "high": 0.07}
    search = {"nested": False, "outer_folds": [0], "trials": 8, "gain": gain, "seen": 60, "patients": 80}
    return dataclasses.replace(make_scores(-0.1, 0.1), search=search | more)


def test_a_search_that_used_test_patients_is_reported_in_three_places():
    text = page(with_search())
    sentence = "60 of the 80 evaluated patients influenced the choice of the settings"
    assert text.count(sentence) == 3
    assert "0.020 [-0.030, 0.070]" in text
    assert "best of 8 trials" in text


def test_a_nested_search_is_reported_as_using_no_test_patient():
    gains = {"0": {"value": 0.01, "low": None, "high": None}, "1": {"value": -0.02, "low": None, "high": None}}
    text = page(with_search(nested=True, seen=0, outer_folds=[0, 1], gains=gains))
    assert "no test patient was used" in text
    assert "fold 0 0.010; fold 1 -0.020 (intervals" in text
    assert "influenced the choice" not in text


def with_slopes(*slopes: float) -> Scores:
    """Scores with one horizon per slope, at months 12, 24 …"""
    scores, horizons = make_scores(-0.1, 0.1), np.arange(1, len(slopes) + 1) * 12.0
    number = {"value": 0.2, "low": 0.1, "high": 0.3}
    for model in scores.models.values():
        model |= {"ibs": number, "ibs_skill": number, "d_calibration": {"p": 0.5}}
        for months, slope in zip(horizons, slopes, strict=True):
            model |= {f"{name}_{months:g}": number for name in ("auc", "intercept", "ici", "brier")}
            model[f"slope_{months:g}"] = {"value": slope, "low": slope, "high": slope}
    return dataclasses.replace(scores, horizons=horizons)


@pytest.mark.parametrize(("slope", "warned"), [(0.69, True), (0.7, False), (1.0, False), (1.4, False), (1.41, True)])
def test_a_slope_outside_seven_tenths_and_one_point_four_is_a_warning_that_names_the_setting(slope, warned):
    text = page(with_slopes(1.0, slope))
    assert ("train.recalibration_folds" in text) is warned
    assert f"Calibration at month 24: slope {slope:.3f}" in text
    assert "Integrated Brier score 0.200 [0.100, 0.300]" in text


def test_critical_patches_without_an_image_are_counted_by_reason():
    patch = {"slide_id": "A-1", "x": 0, "y": 0, "index": 1, "tiles": 4, "score": 0.5}
    crops = [None, TileImage(missing="no coordinates"), TileImage(missing="no coordinates"), TileImage("data:,a")]

    def text(crops):
        patches = [patch | {"crop": crop} for crop in crops]
        row = {"patient_id": "A", "selection": "best", "agreement": 1.0, "months": 9.0, "rank": 0.5, "patches": patches}
        facts = report.CohortSummary("c", "", "OS", 80, 27, 50.0, "12 genes")
        insights = report.ModelInsights(patients=[row])
        return report.render(facts, make_scores(-0.1, 0.1), [], PARAMS, {}, insights)

    assert "3 of 4 critical patches have no image: no coordinates (2), no list of slides (1)." in text(crops)
    assert "critical patches have no image" not in text(crops[3:])
