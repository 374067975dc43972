"""Signed documents against two other implementations: model_signing and securesystemslib."""

import json

import pytest

from mcti.registry.trust import envelope
from tests.registry.trust.factories import new_key, public_pem, signer_of


@pytest.fixture
def document():
    key = new_key()
    payload = envelope.payload_of([{"name": "a", "digest": {"sha256": "0" * 64}}], "https://example.com/v1", {"x": "µ"})
    return key, signer_of(key).sign(payload)


def test_a_document_is_read_as_it_was_written(document):
    assert envelope.read(envelope.write(document[1]).encode()) == document[1]


def test_securesystemslib_verifies_the_envelope(document):
    """Oracle: securesystemslib 1.6.0, another implementation of DSSE."""
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import VerificationError
    from securesystemslib.signer import SSlibKey

    key, signed = document
    tree = json.loads(envelope.write(signed))["dsseEnvelope"]
    public = SSlibKey(signed.hint, "ecdsa", "ecdsa-sha2-nistp256", {"public": public_pem(key).decode()})
    other = SSlibKey(signed.hint, "ecdsa", "ecdsa-sha2-nistp256", {"public": public_pem(new_key()).decode()})
    read = Envelope.from_dict(tree)
    assert read.pae() == signed.signed_bytes
    assert read.verify([public], 1) == {signed.hint: public}
    with pytest.raises(VerificationError):
        read.verify([other], 1)


def test_in_toto_attestation_accepts_the_statement(document):
    """Oracle: in-toto-attestation 0.9.3."""
    from google.protobuf import json_format
    from in_toto_attestation.v1.statement import Statement
    from in_toto_attestation.v1.statement_pb2 import Statement as Message

    message = json_format.Parse(document[1].payload, Message())
    Statement.copy_from_pb(message).validate()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[]", "not a Sigstore bundle"),
        (b'{"mediaType": "application/json"}', "media type"),
        (b'{"a": 1, "a": 2}', "a key is repeated"),
    ],
)
def test_any_other_text_is_refused(text, reason):
    with pytest.raises(envelope.InvalidDocument, match=reason):
        envelope.read(text)


@pytest.mark.parametrize("field", ["payload", "payloadType", "signatures"])
def test_an_envelope_without_a_field_is_refused(document, field):
    tree = json.loads(envelope.write(document[1]))
    del tree["dsseEnvelope"][field]
    with pytest.raises(envelope.InvalidDocument, match=field):
        envelope.read(json.dumps(tree).encode())


def test_base64_with_other_characters_is_refused(document):
    tree = json.loads(envelope.write(document[1]))
    tree["dsseEnvelope"]["payload"] += "!"
    with pytest.raises(envelope.InvalidDocument, match="not valid base64"):
        envelope.read(json.dumps(tree).encode())


@pytest.mark.parametrize("payload", [b"[]", b'{"_type": "other"}', b'{"_type": "https://in-toto.io/Statement/v1"}'])
def test_a_payload_that_is_no_statement_is_refused(payload):
    with pytest.raises(envelope.InvalidDocument, match="statement"):
        _ = envelope.SignedDocument(payload, b"").statement
