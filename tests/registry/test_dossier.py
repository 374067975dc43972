"""Sections of the dossier from synthetic data: counts of the evaluated patients, search, parts, differences."""

from typing import Any

import pytest

from mcti.registry import dossier
from mcti.registry.card import GAP, evaluated
from mcti.registry.dossier import Dossier
from mcti.registry.dossier_document import DossierSource
from mcti.registry.ledger import LedgerEntry
from mcti.registry.ledger_anchors import AnchorStore

NUMBER = {"value": 0.6, "low": 0.5, "high": 0.7}
ERRORS = {"value": -0.01, "low": -0.02, "high": 0.01}
COMPARED = {"difference": NUMBER, "p": 0.04, "p_holm": 0.2, "ibs_difference": ERRORS, "ibs_p": 0.3}
RESULT = {
    "patients": 561,
    "events": 122,
    "median_follow_up": 39.62,
    "excluded": {"ingest": {"no follow-up": 2}, "split": {"no features of a slide": 14}},
    "warnings": ["Poor calibration: slope 0.41 at month 60."],
}


def card(**evaluation: Any) -> dict[str, Any]:
    contract = {"description": "ages are years", "severity": "critical", "passed": True, "failing": 0, "rows": 575}
    data = {
        "name": "kidney", "md5": "a" * 32, "endpoint": "OS", "warnings": [], "attrition": {"no follow-up": 2},
        "numbers": {"patients": 575, "events": 125, "tied_share": 0.01}, "expectations": [contract],
    }  # fmt: skip
    return {
        "name": "kidney", "intended_use": "research", "not_intended": "treatment", "contact": GAP, "notice": "",
        "architecture": {}, "new_patients": "the mean of all fold models", "inputs": {"features": GAP},
        "outputs": {}, "data": data, "bins_months": [0, 12], "training": {"settings": {}},
        "evaluation": {"method": "out of fold", **evaluation},
        "lineage": {"digest": "d", "commit": "c", "image": "i", "folds": "f", "data": {}},
        "licences": {"data": GAP, "encoder": GAP},
    }  # fmt: skip


def source(result: dict[str, Any] = RESULT, **fields: Any) -> DossierSource:
    """The data of version 1. fields: of DossierSource."""
    model = {
        "c_index": NUMBER, "slope_60": NUMBER, "ibs": NUMBER,
        "comparison": {"cox_clinical": COMPARED, "linear_all": {**COMPARED, "primary": True}},
        "search": {"sentences": ["The outcomes of 448 of the 561 evaluated patients took part in the choice."]},
        "attribution": {"patients": 40, "shares": {"network_slides": 0.12, "cox": 0.73}, "details": {}},
    }  # fmt: skip
    metrics = {"mcti": model, "network_alone": {"c_index": NUMBER}, "cox_part": {"c_index": NUMBER}}
    data = {"version": 1, "alias": "champion", "card": card(), "metrics": metrics, "sbom": {"components": []},
            "entries": (), "evaluation": result}  # fmt: skip
    return DossierSource(**(data | fields))


def entry(number: int = 1, action: str = "promote", version: int = 1, **evidence: Any) -> LedgerEntry:
    """An entry of the ledger; evidence: of the decision."""
    return LedgerEntry(
        number=number, id="0" * 16, before="0" * 64, time=f"2026-01-0{number}T00:00:00+00:00", who="paul",
        action=action, model="kidney", version=version, champion=1, previous=None, evidence=evidence,
    ).with_hash()  # fmt: skip


def build(result: dict[str, Any]) -> Dossier:
    return Dossier.build(source(result))


def rows(document: Dossier, key: str) -> list[tuple[str, ...]]:
    section = next(part for part in document.sections if part.key == key)
    return [row for table in section.tables for row in table.rows]


def test_counts_of_evaluated_patients_and_of_the_cohort_are_separate():
    data = rows(build(RESULT), "data")
    assert ("patients evaluated", "561") in data
    assert ("events among them", "122") in data
    assert ("median follow-up, months (reverse Kaplan-Meier)", "39.62") in data
    assert ("patients in the cohort, before the split", "575") in data
    assert not [row for row in data if row[0] == "patients"], "a count without its population"
    assert ("split", "no features of a slide", "14") in data
    assert not [label for label, *_ in data if "competing" in label or "after the origin" in label]


def test_competing_events_and_late_entry_are_stated():
    data = dict(row[:2] for row in rows(build(RESULT | {"competing_events": 31, "late_entries": 212}), "data"))
    assert data["competing events: S(t) is cause-specific, and 1 - S(t) larger than the event probability"] == "31"
    assert data["patients under observation from a time after the origin, who count from their entry"] == "212"


def test_a_median_follow_up_that_is_not_reached_is_stated():
    data = rows(build({**RESULT, "median_follow_up": None}), "data")
    assert ("median follow-up, months (reverse Kaplan-Meier)", "not reached") in data


def test_the_search_the_parts_and_the_warnings_are_stated():
    document = build(RESULT)
    text = {part.key: " ".join(part.paragraphs) for part in document.sections}
    assert "448 of the 561 evaluated patients" in text["methods"]
    assert "Poor calibration: slope 0.41" in text["limits"]
    results = rows(document, "results")
    assert ("MCTI: Cox part alone", "0.600", "0.500", "0.700") in results
    assert ("Cox part", "73 %") in results
    assert (
        "Cox: clinical + genes + slides (primary contrast)",
        "-0.010",
        "-0.020",
        "0.010",
        "0.300",
        "not defined",
    ) in results
    page = dossier.html(document, {})
    assert "561" in page
    assert "cox_clinical" not in page


def test_the_card_counts_evaluated_and_excluded_patients():
    line = evaluated(card(**RESULT))
    assert (
        line == "561 patients, 122 events; excluded: 2 at ingest (no follow-up), 14 at split (no features of a slide)"
    )
    assert evaluated(card()) == "not recorded"


def lineage_of(**fields: Any) -> tuple[list[tuple[str, ...]], list[str]]:
    document = Dossier.build(source(**fields))
    section = next(part for part in document.sections if part.key == "lineage")
    return rows(document, "lineage"), [gap for gap in section.gaps if "anchor" in gap]


def test_the_anchors_of_the_ledger_are_in_the_lineage():
    last = entry(2)
    store = AnchorStore(address="s3://anchors/kidney/", number=2, locked=True)
    cells, gaps = lineage_of(entries=(entry(1), last), anchors=store)
    assert ("objects", "2 anchors in s3://anchors/kidney/ (locked)") in cells
    printed = dict(row for row in cells if len(row) == 2)["last entry, for paper"]
    assert printed.replace(" ", "") == f"2:{last.hash}"
    assert gaps == []


@pytest.mark.parametrize(
    ("store", "gap"),
    [
        (None, "are not configured"),
        (AnchorStore(address="s3://anchors/kidney/", number=1, locked=False), "are not known to be locked"),
        (AnchorStore(address="s3://anchors/kidney/", number=1, locked=None), "are not known to be locked"),
    ],
)
def test_a_ledger_without_locked_anchors_is_a_gap(store, gap):
    _, gaps = lineage_of(entries=(entry(1),), anchors=store)
    assert [gap in text for text in gaps] == [True]


def test_an_anchor_that_the_ledger_contradicts_is_a_gap():
    fault = "the ledger was rewritten: the anchor in x has another hash of entry 1"
    store = AnchorStore(address="s3://anchors/kidney/", number=1, locked=True)
    assert lineage_of(entries=(entry(1),), anchors=store, anchor_faults=(fault,))[1] == [fault]
