"""Records of electronic signatures, with a registry in memory."""

import hashlib
import json

import pytest

from mcti.errors import DataError, UsageError
from mcti.registry import approvals, electronic_signatures
from tests.registry.tagged_version import Client


def signed(client, who="anna", meaning="approved for release"):
    signature = electronic_signatures.record(client.version, who, "mlflow.example:5000", meaning)
    electronic_signatures.write(client, client.version, signature)
    return signature


def test_a_signature_has_who_when_meaning_and_the_hashes_of_the_version():
    client = Client()
    signature = signed(client)
    fields = json.loads(client.version.tags[f"mcti.signature.{signature.hash[:16]}"])
    time = fields.pop("time")
    assert time.endswith("Z")
    stored_hash = fields.pop("hash")
    assert fields == {
        "who": "anna", "server": "mlflow.example:5000", "meaning": "approved for release",
        "address": "models:/m/3", "digest": "d1", "evaluation": "e1",
    }  # fmt: skip
    text = json.dumps({**fields, "time": time}, sort_keys=True, ensure_ascii=False)
    assert stored_hash == hashlib.sha256(text.encode()).hexdigest()
    assert electronic_signatures.valid(client.version) == [signature]


def test_a_later_signature_does_not_replace_an_earlier_one():
    client = Client()
    signed(client, meaning="reviewed")
    signed(client, meaning="approved")
    assert len(electronic_signatures.read(client.version.tags)) == 2
    assert approvals.approvers(client.version) == ["anna"]


@pytest.mark.parametrize("tag", ["mcti.digest", "mcti.evaluation_md5"])
def test_a_signature_is_valid_for_the_weights_and_the_evaluation_that_were_signed(tag):
    client = Client()
    signed(client)
    client.version.tags[tag] = "other"
    assert approvals.signatures(client.version) == []
    del client.version.tags[tag]
    assert approvals.signatures(client.version) == []


def test_a_signature_of_another_version_is_not_valid():
    client = Client()
    signed(client)
    client.version.version = "4"
    assert electronic_signatures.valid(client.version) == []


@pytest.mark.parametrize("field", ["who", "server", "time", "meaning", "address", "digest", "evaluation", "hash"])
def test_an_edited_field_is_a_fault(field):
    client = Client()
    signature = signed(client)
    record = signature.model_dump(mode="json")
    record[field] = "2026-01-01T00:00:00Z" if field == "time" else "a" * 64
    edited = electronic_signatures.ElectronicSignature.model_validate(record)
    assert edited.fault("models:/m/3", "d1").startswith("the record was edited")
    client.version.tags[signature.tag] = edited.model_dump_json()
    assert approvals.approvers(client.version) == []


@pytest.mark.parametrize("text", ["", "{}", "yes", '{"who": "anna"}'])
def test_a_tag_that_is_no_record_is_reported_and_does_not_count(text):
    client = Client()
    client.version.tags["mcti.signature.abc"] = text
    (unreadable,) = electronic_signatures.read(client.version.tags)
    assert unreadable.tag == "mcti.signature.abc"
    assert unreadable.reason.startswith("not the record of a signature")
    assert approvals.approvers(client.version) == []


@pytest.mark.parametrize("tag", [approvals.REGISTERED_BY, approvals.REGISTERED_USER])
def test_the_signature_of_the_one_who_registered_does_not_count(tag):
    client = Client()
    client.version.tags[tag] = "anna"
    signed(client)
    assert approvals.approvers(client.version) == []
    with pytest.raises(DataError, match="anna registered this version in model m, version 3"):
        approvals.refuse_registrant(client.version, "anna", "")


def test_the_registration_names_the_mlflow_user(monkeypatch):
    monkeypatch.setenv("MCTI_ACTOR", "pipeline")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "rita")
    assert approvals.registrant_tags() == {"mcti.registered_by": "pipeline", "mcti.registered_user": "rita"}


@pytest.mark.parametrize("meaning", ["", "  ", "two\nlines", "x" * 201, "\x1b[31m"])
def test_an_invalid_meaning_is_refused(meaning):
    with pytest.raises(UsageError, match="one line of 1 to 200 characters"):
        electronic_signatures.check_meaning(meaning)
    assert electronic_signatures.check_meaning(" approved ø ") == "approved ø"


def test_the_signatures_of_a_decision_are_read_from_its_gate():
    client = Client()
    record = signed(client).model_dump(mode="json")
    evidence = {"gates": [{"name": "approval", "numbers": {"approved": ["anna"], "signatures": [record]}}]}
    assert electronic_signatures.of_decision(evidence) == electronic_signatures.valid(client.version)
    assert electronic_signatures.of_decision({"gates": [{"name": "approval", "numbers": {"approved": []}}]}) == []
    with pytest.raises(DataError, match="a signature of the decision cannot be read"):
        electronic_signatures.of_decision({"gates": [{"name": "approval", "numbers": {"signatures": [{}]}}]})
