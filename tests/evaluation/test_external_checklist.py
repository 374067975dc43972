"""TRIPOD+AI items of an external validation."""

from mcti.evaluation import external_checklist
from mcti.evaluation.tripod_checklist import TOPICS
from tests.evaluation.test_external import make_scores, make_summary


def test_every_item_is_listed_and_states_the_validation():
    summary = make_summary(excluded={"no slides": 4}, notice="painted slides")
    items = {
        item.number: item for item in external_checklist.fill(summary, make_scores(), {"mcti": {}}, {"forest": "trees"})
    }
    assert list(items) == [number for number, _ in TOPICS]
    assert items["4"].text.startswith("external evaluation (validation) of lung-os version 3")
    assert items["20a"].text.startswith("104 patients in the cohort; not predicted: 4 (no slides)")
    assert "left out: Random survival forest" in items["12"].text
    assert "development cohort first, validation cohort other" in items["16"].text
    assert items["26"].text == "painted slides"
    assert items["17"].open
    assert "not updated" in items["24"].text


def test_unknown_figures_of_the_development_are_stated():
    items = external_checklist.fill(make_summary(development=""), make_scores(), {}, {})
    text = {item.number: item.text for item in items}
    assert "figures of the development are not known" in text["23a"]
    assert "not recorded" in text["16"]
