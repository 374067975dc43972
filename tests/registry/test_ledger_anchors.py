"""Anchors: the printed text, and the comparison with a ledger."""

import pytest

from mcti.errors import UsageError
from mcti.registry import ledger_anchors
from mcti.registry.ledger_anchors import Anchor
from tests.registry.trust.factories import new_key, signed_chain


def anchors_of(entries):
    return [Anchor(entry.number, entry.hash, "s3://a/b") for entry in entries]


def test_a_ledger_agrees_with_the_anchors_of_its_entries():
    entries = signed_chain()
    assert ledger_anchors.find_faults(entries, anchors_of(entries)) == []
    assert ledger_anchors.find_faults(entries, anchors_of(entries[:3])) == []
    assert ledger_anchors.find_faults([], []) == []


@pytest.mark.parametrize("anchored", range(6))
def test_a_rewritten_ledger_contradicts_an_anchor_of_any_entry(anchored):
    """As by the holder of a signing key: the ledger is consistent and signed."""
    former, rewritten = signed_chain(new_key()), signed_chain(new_key(), {"reason": "another"})
    (fault,) = ledger_anchors.find_faults(rewritten, anchors_of([former[anchored]]))
    assert fault == f"the ledger was rewritten: the anchor in s3://a/b has another hash of entry {anchored + 1}"


def test_a_lost_end_contradicts_the_anchor_of_the_last_entry():
    entries = signed_chain()
    (fault,) = ledger_anchors.find_faults(entries[:5], anchors_of(entries[5:]))
    assert fault == "the anchor in s3://a/b is of entry 6, which the ledger has lost"
    assert len(ledger_anchors.find_faults([], anchors_of(entries))) == 6


def test_anchors_before_the_first_entry_of_a_part_are_not_compared():
    entries = signed_chain()
    wrong = Anchor(1, "0" * 64, "s3://a/b")
    assert ledger_anchors.find_faults(entries[2:], [wrong]) == []
    assert len(ledger_anchors.find_faults(entries, [wrong])) == 1


def test_the_printed_text_is_read_again_with_any_blanks():
    entry = signed_chain()[2]
    first, second = ledger_anchors.printed(entry).splitlines()
    assert first == "Ledger of lung-os, entry 3 of 2025-05-30T12:00:00+00:00: rollback, champion version 1"
    assert [len(group) for group in second.removeprefix("3:").split()] == [8] * 8
    for text in (second, second.upper(), second.replace(" ", "\n  "), f"3:{entry.hash}"):
        assert ledger_anchors.parse(text) == (3, entry.hash, "--anchor")


@pytest.mark.parametrize(
    "text", ["", "3", "3:abc", f"0:{'a' * 64}", f"3:{'g' * 64}", f"3:{'a' * 65}", f"-3:{'a' * 64}"]
)
def test_any_other_text_is_refused(text):
    with pytest.raises(UsageError, match="the text is not an anchor"):
        ledger_anchors.parse(text)


def test_without_an_address_no_anchor_is_stored_or_read(monkeypatch):
    monkeypatch.delenv(ledger_anchors.VARIABLE, raising=False)
    ledger_anchors.store(signed_chain()[0])
    assert ledger_anchors.read("lung-os") == []
