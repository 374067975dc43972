"""Half a year of a model in use on real servers: the outcome of each month and its ledger entries."""

from pathlib import Path

import pytest

from mcti.local import stack
from tests.stack.half_year import MONTHS, NAME, HalfYear

pytestmark = [pytest.mark.slow, pytest.mark.stack]


@pytest.fixture(scope="module")
def months(running, preloaded, tmp_path_factory):
    root = tmp_path_factory.mktemp("half a year") / "a project"
    year = HalfYear.create(root, preloaded)
    stack.join(root, Path(running.folder).parent)  # the environment is restored at the end of the module
    for run_month in MONTHS:
        run_month(year)
    return {month.number: month for month in year.months}


def test_month_1_promotes_the_first_champion(months):
    assert months[1].exits == {"dvc repro": 0, "promote": 0}
    assert (months[1].champion, months[1].versions, months[1].entries) == (1, 1, 1)


def test_month_2_without_new_data_changes_no_hash_and_adds_no_entry(months):
    assert months[2].rule == "none"
    assert months[2].exits == {"dvc repro": 0, "retraining": 0}
    assert months[2].hashes == months[1].hashes
    assert len(months[2].hashes) >= 10
    assert (months[2].champion, months[2].versions, months[2].entries) == (1, 1, 1)


def test_month_2_the_retraining_pipeline_ends_after_its_first_task_with_the_reason(months):
    detected = months[2].numbers["detect"]
    assert months[2].tasks == ["conclude-2", "detect-new-data", "release-lease"]
    assert detected["reason"] == f"nothing new: version 1 of {NAME} was trained on {detected['data']}"


def test_month_3_has_new_events_but_not_enough_evidence(months):
    assert months[3].rule == "events"
    assert months[3].exits == {"dvc repro": 0, "promote": 11}
    assert (months[3].champion, months[3].versions) == (1, 2)
    assert months[3].hashes["models/folds"] != months[2].hashes["models/folds"]


def test_month_4_is_better_and_promoted(months):
    assert months[4].rule == "performance"  # a model that was trained on blurred scans is wrong on sharp ones
    assert "events" in months[4].numbers["monitor"]["fired"]
    assert months[4].exits == {"dvc repro": 0, "promote": 0}
    assert months[4].numbers["promote"]["difference"]["low"] > 0
    assert (months[4].champion, months[4].versions) == (3, 3)


def test_month_5_is_stopped_by_the_contract_and_the_champion_is_unchanged(months):
    assert months[5].exits["dvc repro"] != 0
    assert months[5].numbers["promote"]["outcome"] == "unchanged"
    assert (months[5].champion, months[5].versions, months[5].entries) == (3, 3, months[4].entries)
    assert months[5].hashes["reports/validation"] == months[4].hashes["reports/validation"], "it was not recorded"
    assert months[5].hashes["models/folds"] == months[4].hashes["models/folds"]


def test_month_6_a_champion_with_a_leak_is_detected_and_withdrawn(months):
    assert months[6].exits == {"dvc repro": 0, "promote": 0, "rollback": 0}
    assert months[6].numbers["promote"]["champion"] == 4
    assert months[6].rule == "drift"
    assert "features" in months[6].numbers["monitor"]["drifted"]
    assert months[6].numbers["rollback"]["champion"] == months[6].champion == 3


def test_after_the_rollback_the_champion_gives_the_bits_of_month_4(months):
    assert len(months[6].numbers["risks"]) == 160
    assert months[6].numbers["risks"] == months[4].numbers["risks"]


def test_the_ledger_has_no_fault_after_every_month(months):
    assert all(month.faults == [] for month in months.values())
    assert [month.entries for month in months.values()] == sorted(month.entries for month in months.values())
