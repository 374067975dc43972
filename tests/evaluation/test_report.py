"""What the page says, from scores made by hand."""

import numpy as np
import pytest

from mcti.evaluation import checklist, report
from mcti.evaluation.comparison import Interval
from mcti.evaluation.scores import Scores
from mcti.params import EvaluateParams

PARAMS = EvaluateParams(baselines=("cox_clinical",), primary_baseline="cox_clinical")


def make_scores(low: float, high: float, events: tuple[int, ...] = (12, 15)) -> Scores:
    """Ours .65, the baseline .6, the difference's interval as given; no horizon."""
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
    }  # fmt: skip
    return Scores(models, {"cox_clinical": compared}, {}, [], {}, np.array([]), np.array([600.0]))


def page(scores: Scores, name: str = "c", notice: str = "") -> str:
    facts = report.CohortFacts(name, notice, "OS", 80, 27, 50.0, "12 genes", ["no slide", "no slide"])
    return report.render(facts, scores, [], PARAMS, {"linear_all": "no slide features were given"})


@pytest.mark.parametrize(
    ("ends", "verdict"),
    [((0.01, 0.1), "MCTI ranks better"), ((-0.1, -0.01), "MCTI ranks worse"), ((-0.1, 0.1), "no difference is shown")],
)
def test_the_verdict_follows_the_interval_whichever_way_it_went(ends, verdict):
    assert verdict in page(make_scores(*ends))


def test_folds_without_events_few_events_and_horizons_out_of_reach_are_said():
    text = page(make_scores(-0.1, 0.1, events=(0, 4)))
    assert "1 test fold(s) have no event" in text
    assert "Only 4 events: no claim can be made" in text
    assert "Months 600 cannot be scored" in text
    assert "linear_all was left out: no slide features were given" in text


def test_words_of_the_cohort_are_escaped():
    text = page(make_scores(-0.1, 0.1), name="<script>alert(1)</script>", notice="<b>")
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "&lt;b&gt;" in text


def test_attrition_is_counted_by_reason():
    assert '<td class="words">no slide</td><td>2</td>' in page(make_scores(-0.1, 0.1))


def test_undefined_numbers_are_called_so():
    assert report.shown(Interval(np.nan, np.nan, np.nan)) == "not defined"
    assert report.shown(Interval(0.5, np.nan, np.nan)) == "0.500"


def test_the_checklist_fills_what_the_run_knows_and_leaves_the_rest_to_people():
    study = checklist.Study("OS", 80, 27, 2, "12 genes", "painted")
    items = {item.number: item for item in checklist.fill(study, make_scores(-0.1, 0.1), PARAMS)}
    assert len(items) == len(checklist.TOPICS)
    assert "80 patients, 27 events, at least 12 events in a test fold" in items["10"].said
    assert items["26"].said == "painted"
    assert items["17"].open
    assert not items["8a"].open
