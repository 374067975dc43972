from mcti.evaluation import tripod_checklist
from tests.evaluation.test_report import PARAMS, make_scores


def test_the_checklist_fills_the_items_of_the_run_and_leaves_the_others_to_the_authors():
    study = tripod_checklist.StudySummary(
        "OS", 80, 27, {"split": {"no features": 2}}, "12 genes", "painted", (40, 42), (13, 14)
    )
    items = {item.number: item for item in tripod_checklist.fill(study, make_scores(-0.1, 0.1), PARAMS)}
    assert len(items) == len(tripod_checklist.TOPICS)
    assert "80 patients, 27 events, at least 12 events in a test fold" in items["10"].text
    assert items["26"].text == "painted"
    assert items["20a"].text.startswith("82 patients in the clinical table; excluded: 2 at split (no features); 80")
    assert items["21"].text.endswith("training part of a fold: 40 to 42 patients, 13 to 14 events")
    assert items["17"].open
    assert not items["8a"].open
