"""Conformance with OpenSSF Model Signing: both directions with its package model_signing 1.1.1."""

import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from mcti.registry.trust import envelope, model_signature
from mcti.registry.trust.envelope import InvalidDocument
from tests.registry.trust.factories import (
    TIME,
    certificate,
    der,
    new_key,
    pem,
    private_pem,
    public_pem,
    signer_of,
    trusting,
)

ADDRESS = "models:/lung-os/3"


@pytest.fixture
def model(tmp_path):
    """Names whose order as text and as paths differs: `a.b` sorts before `a/…` as text, after it as a path."""
    folder = tmp_path / "lung-os"
    for name in ("a/weights.safetensors", "a.b", "a/b/model.json", "ensemble.json", "Z"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode() * 1000)
    return folder


def sign(model, key, certificates=()):
    payload = model_signature.payload(model_signature.file_hashes(model), model.name, ADDRESS, TIME)
    return signer_of(key, certificates).sign(payload)


@pytest.mark.parametrize("curve", [ec.SECP256R1, ec.SECP384R1, ec.SECP521R1])
def test_model_signing_verifies_our_signature(model, tmp_path, curve):
    from model_signing import verifying

    key = new_key(curve)
    (tmp_path / "model.sig").write_text(envelope.write(sign(model, key)))
    (tmp_path / "key.pem").write_bytes(public_pem(key))
    (tmp_path / "other.pem").write_bytes(public_pem(new_key(curve)))
    verifying.Config().use_elliptic_key_verifier(public_key=tmp_path / "key.pem").verify(model, tmp_path / "model.sig")
    other = verifying.Config().use_elliptic_key_verifier(public_key=tmp_path / "other.pem")
    with pytest.raises(ValueError, match="Key mismatch"):
        other.verify(model, tmp_path / "model.sig")


def test_model_signing_finds_a_file_that_was_altered_after_our_signature(model, tmp_path):
    from model_signing import verifying

    key = new_key()
    (tmp_path / "model.sig").write_text(envelope.write(sign(model, key)))
    (tmp_path / "key.pem").write_bytes(public_pem(key))
    (model / "Z").write_bytes(b"other")
    with pytest.raises(ValueError, match=r"Hash mismatch for .*Z"):
        verifying.Config().use_elliptic_key_verifier(public_key=tmp_path / "key.pem").verify(
            model, tmp_path / "model.sig"
        )


def test_model_signing_verifies_our_signature_with_certificates(model, tmp_path):
    from model_signing import verifying

    authority, key = new_key(), new_key()
    root = certificate(("ca", authority), ("ca", authority), is_authority=True)
    leaf = certificate(("signer", key), ("ca", authority), is_authority=False)
    (tmp_path / "model.sig").write_text(envelope.write(sign(model, key, der(leaf))))
    (tmp_path / "root.pem").write_bytes(pem(root))
    config = verifying.Config().use_certificate_verifier(certificate_chain=[tmp_path / "root.pem"])
    config.verify(model, tmp_path / "model.sig")


def test_a_signature_of_model_signing_is_verified(model, tmp_path):
    from model_signing import signing

    key = new_key()
    (tmp_path / "key.pem").write_bytes(private_pem(key))
    signing.Config().use_elliptic_key_signer(private_key=tmp_path / "key.pem").sign(model, tmp_path / "model.sig")
    document = envelope.read((tmp_path / "model.sig").read_bytes())
    files = model_signature.file_hashes(model)
    assert trusting(key).check(document, "model", None).state == "verified"
    assert model_signature.differences(document.statement, files, ADDRESS) == []
    (model / "Z").write_bytes(b"other")
    assert model_signature.differences(document.statement, model_signature.file_hashes(model), ADDRESS) == [
        "Z was altered"
    ]


def test_both_hash_the_files_in_the_same_order(model):
    """Oracle: the manifest of model_signing 1.1.1 and the subject that it derives."""
    from model_signing import hashing
    from model_signing._signing.signing import Payload

    manifest = hashing.Config().hash(model)
    ours = json.loads(model_signature.payload(model_signature.file_hashes(model), model.name, ADDRESS, TIME))
    theirs = Payload(manifest).statement.pb
    assert [(x.identifier, x.digest.digest_hex) for x in manifest.resource_descriptors()] == [
        (x["name"], x["digest"]) for x in ours["predicate"]["resources"]
    ]
    assert ours["subject"] == [{"name": theirs.subject[0].name, "digest": dict(theirs.subject[0].digest)}]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda s: s["predicate"].update(serialization={"method": "shards", "hash_type": "sha256"}), "whole files"),
        (lambda s: s["predicate"]["resources"].pop(), "SHA-256 of the subject"),
        (lambda s: s["predicate"].pop("resources"), "not a statement of OpenSSF Model Signing"),
        (lambda s: s["predicate"]["resources"].append(s["predicate"]["resources"][0]), "SHA-256 of the subject"),
    ],
)
def test_an_inconsistent_statement_is_refused(model, change, reason):
    files = model_signature.file_hashes(model)
    statement = json.loads(model_signature.payload(files, "lung-os", ADDRESS, TIME))
    change(statement)
    with pytest.raises(InvalidDocument, match=reason):
        model_signature.differences(statement, files, ADDRESS)
