"""Electronic signatures and traceability in the dossier."""

from types import SimpleNamespace

from mcti.registry import dossier_lifecycle, electronic_signatures
from tests.registry.test_dossier import entry, source

TAGS = {"mcti.digest": "d", "mcti.evaluation_md5": "e", "mcti.registered_by": "rita"}


def signed(who="anna", **tags):
    version = SimpleNamespace(name="kidney", version="1", tags=TAGS | tags)
    record = electronic_signatures.record(version, who, "mlflow:5000", "approved")
    return {record.tag: record.model_dump_json()}


def states(tags):
    section = dossier_lifecycle.signatures(source(tags=TAGS | tags))
    return [row[-1] for table in section.tables for row in table.rows], section


def test_a_valid_signature_is_shown_with_who_when_and_meaning():
    (state,), section = states(signed())
    (row,) = section.tables[0].rows
    assert (row[0], row[2], row[3], row[4], state) == ("anna", "approved", "mlflow:5000", "e", "valid")
    assert row[1].startswith("20")
    assert not any("no valid electronic signature" in gap for gap in section.gaps)


def test_signatures_that_do_not_count_are_shown_with_the_reason():
    earlier = signed(**{"mcti.evaluation_md5": "old"})
    edited = {"mcti.signature.x": next(iter(signed().values())).replace("anna", "eve")}
    shown, section = states({**earlier, **signed("rita"), **edited, "mcti.signature.y": "yes"})
    assert sorted(shown) == [
        "BROKEN: not the record of a signature (Invalid JSON: expected value at line 1 column 1)",
        "BROKEN: the record was edited: its hash does not match its contents",
        "about an earlier evaluation: does not count",
        "of the person who registered: does not count",
    ]
    assert section.gaps[0] == "no valid electronic signature: mcti approve --meaning"


def test_without_signatures_the_section_is_a_gap_and_names_plain_approvals():
    _, section = states({})
    assert (section.tables, section.paragraphs) == ((), ())
    _, section = states({"mcti.approved.ben": "d:e"})
    assert section.paragraphs == ("Approved without an electronic signature: ben.",)


def test_a_problem_is_traced_to_the_version_that_resolved_it():
    entries = (
        entry(1, "reject", 1, reason="worse", digest="d1"),
        entry(2, "promote", 2, digest="d2", commit="c2", data={"data/cohort": "m"}),
        entry(3, "rollback", 1, reason="returned"),
        entry(4, "sign", 1, reason="compared with the minutes"),
    )
    configuration, problems, history = dossier_lifecycle.traceability(source(entries=entries)).tables
    assert ("source code (commit)", "c") in configuration.rows
    by_source = {row[0]: row for row in problems.rows}
    assert by_source["ledger entry 1"][3:] == ("reject: worse", "version 2 (ledger entry 2)")
    assert by_source["ledger entry 3"][3:] == ("rollback: returned", "open")
    assert by_source["evaluation"][3] == "Poor calibration: slope 0.41 at month 60."
    assert not {"ledger entry 2", "ledger entry 4"} & by_source.keys()
    assert history.rows[1] == ("2", "d2", "c2", "data/cohort m", "entry 2: promote")


def test_a_promotion_with_looser_settings_and_a_failed_expectation_are_problems():
    data = source().card["data"]
    failed = {**data["expectations"][0], "passed": False, "failing": 3}
    card = {**source().card, "data": {**data, "expectations": [failed]}}
    entries = (entry(1, looser=["promote.margin 0"], digest="d"),)
    problems = dossier_lifecycle.traceability(source(entries=entries, card=card)).tables[1]
    texts = [row[3] for row in problems.rows]
    assert "promoted with settings looser than agreed: promote.margin 0" in texts
    assert "ages are years: 3 of 575 rows" in texts
