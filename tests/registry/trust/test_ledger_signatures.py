"""Signatures of ledger entries: roles, what a signed entry pins, and tampering with each field."""

import json

import pytest

from mcti.registry import ledger
from mcti.registry.trust import ledger_signatures
from mcti.registry.trust.trust_file import TrustFile
from tests.registry.trust.factories import DECISIONS, new_key, public_pem, sign_entry, signed_chain, trusting


@pytest.fixture(scope="module")
def key():
    return new_key()


def states(entries, trust):
    return [ledger_signatures.check(entry, trust).state for entry in entries]


def summary(entries, trust):
    return ledger_signatures.summary(entries, [ledger_signatures.check(entry, trust) for entry in entries])


def trusting_both(first, second, **revocation):
    keys = [("old", first, revocation), ("new", second, {})]
    return TrustFile.model_validate(
        {"keys": [{"id": name, "public_key": public_pem(key).decode(), "roles": ["gate", "ledger"], **extra}
                  for name, key, extra in keys]}
    )  # fmt: skip


def test_each_signed_entry_is_verified_and_the_ledger_names_the_key(key):
    entries = signed_chain(key)
    assert states(entries, trusting(key)) == ["verified"] * 6
    assert summary(entries, trusting(key)) == ("verified", "site", "")
    assert ledger.find_faults(entries, None) == []


def test_the_hash_of_an_entry_does_not_depend_on_its_signature(key):
    assert [entry.hash for entry in signed_chain(key)] == [entry.hash for entry in signed_chain()]


def test_an_unsigned_entry_has_the_bytes_of_earlier_versions(key):
    body = ledger.to_bytes(signed_chain()[0])
    assert b"signature" not in body
    assert ledger.parse(body, "s3://b/1") == signed_chain()[0]
    signed = signed_chain(key)[0]
    assert ledger.parse(ledger.to_bytes(signed), "s3://b/1") == signed


CHANGES = {"number": 9, "before": "f" * 64, "time": "2025-06-09T00:00:00+00:00", "action": "reject", "model": "other",
           "version": 8, "champion": 8, "previous": 8, "hash": "e" * 64}  # fmt: skip


@pytest.mark.parametrize("field", CHANGES)
def test_a_changed_field_is_not_what_was_signed(key, field):
    entry = signed_chain(key)[1].model_copy(update={field: CHANGES[field]})
    result = ledger_signatures.check(entry, trusting(key))
    assert (result.state, "another entry" in result.note) == ("broken", True)


@pytest.mark.parametrize("field", ["who", "evidence", "id"])
def test_the_other_fields_are_covered_by_the_signed_hash(key, field):
    changed = {"who": "eve", "evidence": {"reason": "other"}, "id": "ff"}[field]
    entry = signed_chain(key)[1].model_copy(update={field: changed}).with_hash()
    assert ledger_signatures.check(entry, trusting(key)).state == "broken"


@pytest.mark.parametrize("bundle", [{}, {"mediaType": "other"}, {"mediaType": 3, "dsseEnvelope": []}])
def test_a_signature_in_another_form_is_broken(key, bundle):
    entry = signed_chain(key)[0].model_copy(update={"signature": bundle})
    assert ledger_signatures.check(entry, trusting(key)).state == "broken"


def test_decisions_need_the_role_gate_and_rollbacks_the_role_ledger(key):
    """Entries 1 to 6: promote, promote, rollback, reject, promote, reject."""
    entries = signed_chain(key)
    gates = trusting(key, roles=["gate"])
    assert states(entries, gates) == ["verified", "verified", "broken", "verified", "verified", "verified"]
    assert "no role ledger" in summary(entries, gates).note
    operators = trusting(key, roles=["ledger"])
    assert states(entries, operators) == ["broken", "broken", "verified", "broken", "broken", "broken"]


def test_unsigned_entries_before_the_first_signed_one_are_pinned_by_it(key):
    entries = signed_chain(key, first_signed=4)
    assert states(entries, trusting(key)) == ["unsigned"] * 3 + ["verified"] * 3
    result = summary(entries, trusting(key))
    assert (result.state, result.signer) == ("verified", "site")
    assert result.note == "3 entries before entry 4 have no verified signature; entry 4 pins them"
    assert summary(entries, trusting(new_key())).state == "unknown"


def test_a_ledger_without_signatures_is_unsigned_and_an_empty_one_is_verified(key):
    assert summary(signed_chain(), trusting(key)).state == "unsigned"
    assert summary([], trusting(key)).state == "verified"


def test_after_a_revocation_a_signed_entry_of_a_new_key_pins_the_ledger(key):
    new = new_key()
    trust = trusting_both(key, new, revoked_at="2025-07-01T00:00:00Z")
    decisions = [*DECISIONS, ("sign", 3, 3, 1)]
    before = signed_chain(key)
    assert summary(before, trust).state == "broken"
    entries = [*before, sign_entry(signed_chain(None, decisions=decisions)[-1], new)]
    assert entries[-1].before == before[-1].hash
    assert summary(entries, trust).state == "verified"
    assert "6 entries before entry 7" in summary(entries, trust).note
    by_unknown = [*before, sign_entry(entries[-1], new_key())]
    assert summary(by_unknown, trust).state == "broken"


def test_an_ordinary_entry_of_a_new_key_does_not_pin_broken_ones(key):
    new = new_key()
    trust = trusting_both(key, new, revoked_at="2025-07-01T00:00:00Z")
    entries = [*signed_chain(key)[:5], sign_entry(signed_chain()[5], new)]
    assert summary(entries, trust).state == "broken"


def test_the_statement_names_no_person_and_no_evidence(key):
    statement = json.loads(ledger_signatures.payload(signed_chain(key)[0]))
    assert "paul" not in json.dumps(statement)
    assert "reason" not in json.dumps(statement)
    assert statement["subject"][0]["digest"]["sha256"] == signed_chain()[0].hash
