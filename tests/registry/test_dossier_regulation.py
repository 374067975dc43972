"""Dates of the EU AI Act and the special controls: what was not read in a primary source is marked."""

from mcti.registry import dossier_regulation
from mcti.registry.dossier_requirements import REQUIREMENTS
from tests.registry.test_dossier import source


def test_the_dates_of_the_regulation_are_stated_and_those_of_its_amendment_marked():
    (table,) = dossier_regulation.ai_act(source()).tables
    dates = {row[0].partition(":")[0]: row[1:] for row in table.rows}
    assert dates["general date of application"] == ("2 August 2026", "the same; to verify")
    assert dates["Article 6(1), Chapter III sections 1 to 3"] == (
        "2 August 2027", "2 August 2028 (Article 1(40)(b)); to verify",
    )  # fmt: skip
    assert all("to verify" in row[2] for row in table.rows)
    assert "The third column is not verified" in dossier_regulation.ai_act(source()).paragraphs[0]


def test_annex_iv_is_mapped_item_by_item():
    points = {point for document, point, _, _ in REQUIREMENTS if document == "EU AI Act, Annex IV"}
    letters = {f"1({letter})" for letter in "abcdefgh"} | {f"2({letter})" for letter in "abcdefgh"}
    assert points == letters | {str(number) for number in range(3, 10)}


def test_a_special_control_without_evidence_is_a_gap():
    rows = {row[0].split()[0]: row[1:] for row in dossier_regulation.special_controls(source()).tables[0].rows}
    assert rows["(1)(ii)"] == ("GAP", "gap")
    assert rows["(1)(i)"][1] == "gap"
    assert rows["(1)(iv)"] == ("research", "partly: training of users is a gap")
    assert rows["(1)(v)(B)"][0] == "warnings of the evaluation: Poor calibration: slope 0.41 at month 60."


def test_the_checklist_names_its_source_and_that_it_is_to_verify():
    section = dossier_regulation.special_controls(source())
    assert "to verify" in section.paragraphs[0]
    assert "DEN240068" in section.title
    assert any("another organ" in gap for gap in section.gaps)
