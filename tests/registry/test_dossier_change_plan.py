"""The change plan of the dossier: its values are those of the decision in the ledger."""

import re

from mcti.params import PromoteParams
from mcti.registry import dossier_change_plan
from tests.registry.test_dossier import entry, source

PARAMS = PromoteParams(margin=0.0125, group_margin=0.07, approvals=2, signed_approvals=True, external=True)
GATES = [{"name": "superiority", "verdict": "pass", "reason": ""}, {"name": "site A", "verdict": "pass", "reason": ""}]


def plan(**evidence):
    decision = entry(gates=GATES, params=PARAMS.model_dump(mode="json"), **evidence)
    return dossier_change_plan.change_plan(source(entries=(decision,)))


def test_criteria_have_the_values_of_the_decision():
    _, protocol, limits = plan().tables
    criteria = {row[0]: row[1] for row in protocol.rows}
    assert "above 0.0125, at the level of the look (0.05 over 10 looks, pocock)" in criteria["superiority"]
    assert "not lower by 0.07 or more" in criteria["each group and regime"]
    assert criteria["approval"] == ("2 persons other than the one who registered; electronic signatures required: yes")
    assert "required: yes" in criteria["external validation"]
    settings = {row[0]: row[1] for row in limits.rows}
    assert settings.keys() == {f"promote.{name}" for name in PromoteParams.model_fields}
    assert settings["promote.group_margin"] == "0.07"


def test_each_gate_of_the_decision_is_in_the_protocol():
    rows = {row[0]: row[2] for row in plan().tables[1].rows}
    assert (rows["superiority"], rows["site A"], rows["memory"]) == ("pass", "pass", "not evaluated")


def test_every_setting_of_a_criterion_exists_and_every_ordered_setting_is_in_a_criterion():
    used = set(re.findall(r"\{(\w+)\}", " ".join(text for _, text, _ in dossier_change_plan._RULES)))
    assert used <= PromoteParams.model_fields.keys()
    assert PromoteParams.model_fields.keys() - used == {"bootstrap", "benchmark_patches"}


def test_a_departure_from_the_agreed_settings_is_stated_with_its_reason():
    text = " ".join(plan(looser=["promote.margin 0 (params.yaml: 0.1)"], override_reason="rare subtype").paragraphs)
    assert "promote.margin 0 (params.yaml: 0.1)" in text
    assert "Stated reason: rare subtype" in text


def test_a_setting_that_the_decision_did_not_record_has_no_invented_value():
    old = entry(gates=GATES, params={"margin": 0.5})
    limits = dossier_change_plan.change_plan(source(entries=(old,))).tables[2]
    assert {row[0]: row[1] for row in limits.rows}["promote.alpha"] == "not recorded"


def test_without_a_decision_on_this_version_there_are_no_values():
    other = entry(version=2, gates=GATES, params=PARAMS.model_dump(mode="json"))
    for entries in ((), (other,)):
        section = dossier_change_plan.change_plan(source(entries=entries))
        assert section.tables == ()
        assert section.gaps[0].startswith("no gate evaluation of this version")
