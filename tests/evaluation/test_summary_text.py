import dataclasses

import numpy as np
import pytest

from mcti.evaluation import summary_text
from mcti.evaluation.comparison import Interval
from tests.evaluation.test_report import make_scores


def test_undefined_numbers_are_reported_as_not_defined():
    assert summary_text.format_interval(Interval(np.nan, np.nan, np.nan)) == "not defined"
    assert summary_text.format_interval(Interval(0.5, np.nan, np.nan)) == "0.500"


def test_an_interval_has_three_decimals():
    assert summary_text.format_interval(Interval(0.61249, 0.5, 0.75)) == "0.612 [0.500, 0.750]"


@pytest.mark.parametrize(
    ("share", "text"), [(0.0, "0 %"), (0.00012, "0.012 %"), (0.0099, "0.99 %"), (0.01, "1 %"), (0.734, "73 %")]
)
def test_a_share_has_two_significant_digits_below_one_percent(share, text):
    assert summary_text.percent(share) == text


def test_skipped_baselines_have_their_display_name_in_the_warnings():
    warnings = summary_text.warnings(make_scores(-0.1, 0.1), {"linear_all": "no slide features were passed"})
    assert "Baseline Cox: clinical + genes + slides was left out: no slide features were passed." in warnings


def test_the_number_of_late_entries_and_the_meaning_of_the_curves_are_stated():
    late = dataclasses.replace(make_scores(-0.1, 0.1), late_entries=41)
    (sentence,) = set(summary_text.warnings(late, {})) - set(summary_text.warnings(make_scores(-0.1, 0.1), {}))
    assert sentence.startswith("41 patients came under observation after the origin, and count from their entry")


def test_without_a_horizon_there_is_no_calibration_text():
    assert summary_text.calibration_sentences(make_scores(-0.1, 0.1)) == ""
    assert summary_text.calibration(make_scores(-0.1, 0.1)) == {}


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ({}, "set train.recalibration_folds (3, for example)"),
        ({"recalibration": {"before": {}}}, "use more inner folds"),
        ({"pretrained": True}, "mcti pretrain does not recalibrate curves"),
    ],
)
def test_the_hint_on_poor_calibration_names_what_the_training_reads(change, hint):
    scores = dataclasses.replace(make_scores(-0.1, 0.1), horizons=np.array([24.0]), **change)
    scores.models["mcti"]["slope_24"] = {"value": 0.3, "low": 0.1, "high": 0.5}
    (sentence,) = [line for line in summary_text.warnings(scores, {}) if line.startswith("Poor calibration")]
    assert sentence.startswith("Poor calibration: slope 0.30 at month 24, outside 0.7 to 1.4: ")
    assert hint in sentence


def test_the_gain_of_a_nested_search_has_the_interval_of_every_fold():
    gains = {"0": {"value": 0.02, "low": -0.1, "high": 0.14}, "1": {"value": 0.0, "low": 0.0, "high": 0.0}, "2": None}
    search = {"outer_folds": [0, 1, 2], "nested": True, "gains": gains}
    patients, gain = summary_text.search_sentences(search)
    assert "no test patient was used" in patients
    assert "by outer fold: fold 0 0.020 [-0.100, 0.140]; fold 1 0.000 [0.000, 0.000] (" in gain
    assert "biased upwards by selection" in gain
