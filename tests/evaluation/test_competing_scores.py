"""The numbers of all models with competing events, and what the report shows of them."""

import numpy as np
import pytest

from mcti.evaluation import competing, competing_report, competing_scores, risk_groups
from mcti.evaluation.competing import CompetingOutcomes
from mcti.evaluation.outcomes import Outcomes
from mcti.evaluation.predictions import Predictions
from mcti.params import EvaluateParams
from mcti.registry import metric_labels
from tests.evaluation.factories import make_folds
from tests.evaluation.test_competing_predictions import EVENT, inputs_of

PARAMS = EvaluateParams(bootstrap=100, horizons_months=(24.0, 48.0, 400.0), risk_groups=2)
USABLE = np.array([24.0, 48.0])


@pytest.fixture(scope="module")
def scored():
    """Two models: the true hazard of the event, and that of the opposite order."""
    x, status, inputs = inputs_of(240)
    outcomes = Outcomes.from_folds(inputs.patients, make_folds(inputs.patients, 3))
    tested = CompetingOutcomes.of(outcomes, status == 2)
    risk = x[outcomes.patient]
    months = np.array(sorted(PARAMS.horizons_months))
    models = {
        name: Predictions(sign * risk, np.exp(-EVENT * np.exp(sign * risk)[:, None] * months))
        for name, sign in (("mcti", 1), ("reversed", -1))
    }
    groups = risk_groups.form_groups(outcomes, risk, 2)
    return tested, competing_scores.score(tested, models, inputs, groups, USABLE, PARAMS)


def test_every_model_and_both_baselines_have_the_same_labelled_metrics(scored):
    tested, result = scored
    models = result.numbers["models"]
    assert list(models) == ["mcti", "reversed", "cause_specific_cox", "aalen_johansen"]
    assert len({tuple(one) for one in models.values()}) == 1
    assert not [key for key in models["mcti"] if metric_labels.label(key) == key]
    assert result.numbers["competing_events"] == int(tested.competing.sum())
    reference = models["aalen_johansen"]
    assert (reference["c_competing"]["value"], reference["ibs_skill_competing"]["value"]) == (0.5, 0.0)


def test_the_true_hazard_is_better_and_calibrated(scored):
    models = scored[1].numbers["models"]
    assert models["reversed"]["c_competing"]["value"] < 0.4 < 0.65 < models["mcti"]["c_competing"]["value"]
    low, high = (models["mcti"]["oe_competing_48"][end] for end in ("low", "high"))
    assert low < 1 < high
    assert models["mcti"]["ibs_competing"]["low"] < models["mcti"]["ibs_competing"]["value"]
    difference = scored[1].numbers["comparison"]["reversed"]
    gap = models["mcti"]["ibs_competing"]["value"] - models["reversed"]["ibs_competing"]["value"]
    assert difference["ibs_difference"]["value"] == pytest.approx(gap)
    assert difference["ibs_difference"]["high"] < 0 < difference["c_difference"]["low"]


def test_the_curves_of_a_group_are_those_of_its_patients(scored):
    tested, result = scored
    assert [group.name for group in result.groups] == ["low", "high"]
    assert sum(group.patients for group in result.groups) == len(tested.patient)
    at_two_years = [float(group.event.at(24.0)) for group in result.groups]
    assert at_two_years[0] < at_two_years[1]
    assert set(result.calibration) == {24.0, 48.0}
    whole, _ = competing.aalen_johansen(tested.by_event.event, tested.competing, tested.by_event.time_months)
    assert at_two_years[0] < float(whole.at(24.0)) < at_two_years[1]


def test_the_report_has_a_row_per_model_and_tables_of_its_figures(scored):
    result = scored[1]
    section = competing_report.section(result.numbers)
    assert [row["name"] for row in section["rows"]] == [
        "MCTI", "reversed", "Cox: cause-specific, both events", "Aalen-Johansen"
    ]  # fmt: skip
    assert {len(row["cells"]) for row in section["rows"]} == {len(section["columns"])}
    assert section["rows"][0]["cells"][-1] == "–"
    assert f"{result.numbers['competing_events']} patients had a competing event" in section["text"]
    assert competing_report.section({}) == {}
    figures = [figure for figure, _ in competing_report.drawn(result)]
    assert [figure.name for figure in figures] == ["cumulative_incidence", "incidence_calibration"]
    incidence = float(result.groups[1].event.at(48.0))
    assert f"high risk: event {incidence:.2f}" in figures[0].alt
    tables = competing_report.plots(result)
    assert set(tables["cumulative_incidence"]["event"]) == {"event", "competing"}
    assert len(tables["incidence_calibration"]) == 10
