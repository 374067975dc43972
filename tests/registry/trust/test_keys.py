"""The signing key from a file or a command, and what is refused."""

import os
import shlex
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from mcti.errors import OperationalError, UsageError
from mcti.registry.trust import keys
from tests.registry.trust.factories import certificate, der, new_key, pem, private_pem, public_pem


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    for name in [name for name in os.environ if name.startswith("MCTI_SIGNING_")]:
        monkeypatch.delenv(name)


def key_file(tmp_path, key, password=None):
    path = tmp_path / "key.pem"
    path.write_bytes(private_pem(key, password))
    return str(path)


def test_without_a_key_there_is_no_signer():
    assert keys.from_environment() is None


@pytest.mark.parametrize("curve", [ec.SECP256R1, ec.SECP384R1, ec.SECP521R1])
def test_a_key_file_signs(tmp_path, monkeypatch, curve):
    key = new_key(curve)
    monkeypatch.setenv(keys.KEY, key_file(tmp_path, key))
    document = keys.from_environment().sign(b"payload")
    assert keys.is_signed_by(key.public_key(), document.signature, document.signed_bytes)
    assert not keys.is_signed_by(new_key(curve).public_key(), document.signature, document.signed_bytes)


def test_an_encrypted_key_needs_its_password(tmp_path, monkeypatch):
    monkeypatch.setenv(keys.KEY, key_file(tmp_path, new_key(), b"secret word"))
    with pytest.raises(UsageError, match=r"MCTI_SIGNING_PASSWORD_FILE"):
        keys.from_environment()
    (tmp_path / "password").write_text("secret word\n")
    monkeypatch.setenv(keys.PASSWORD_FILE, str(tmp_path / "password"))
    assert keys.from_environment() is not None
    (tmp_path / "password").write_text("other")
    with pytest.raises(UsageError) as caught:
        keys.from_environment()
    assert "other" not in str(caught.value)


def test_a_command_signs_what_it_reads(tmp_path, monkeypatch):
    """As a KMS: the key is used by another program only; openssl is independent of our code."""
    key = new_key(ec.SECP384R1)
    command = f"openssl dgst -sha384 -sign {shlex.quote(key_file(tmp_path, key))}"
    (tmp_path / "public.pem").write_bytes(public_pem(key))
    monkeypatch.setenv(keys.COMMAND, command)
    monkeypatch.setenv(keys.PUBLIC_KEY, str(tmp_path / "public.pem"))
    document = keys.from_environment().sign(b"payload")
    assert document.hint == keys.fingerprint(key.public_key())
    assert keys.is_signed_by(key.public_key(), document.signature, document.signed_bytes)


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import sys; sys.exit('token-of-the-kms')", "exit code 1"),
        ("print('not a signature')", "does not belong to the public key"),
    ],
)
def test_a_command_that_fails_is_an_error_without_its_output(tmp_path, monkeypatch, program, reason):
    (tmp_path / "public.pem").write_bytes(public_pem(new_key()))
    monkeypatch.setenv(keys.COMMAND, shlex.join([sys.executable, "-c", program]))
    monkeypatch.setenv(keys.PUBLIC_KEY, str(tmp_path / "public.pem"))
    with pytest.raises(OperationalError, match=reason) as caught:
        keys.from_environment().sign(b"payload")
    assert "token-of-the-kms" not in str(caught.value)


def test_a_missing_command_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "public.pem").write_bytes(public_pem(new_key()))
    monkeypatch.setenv(keys.COMMAND, "no-such-program-1 --token abc")
    monkeypatch.setenv(keys.PUBLIC_KEY, str(tmp_path / "public.pem"))
    with pytest.raises(OperationalError, match="cannot be run") as caught:
        keys.from_environment().sign(b"payload")
    assert "abc" not in str(caught.value)


def test_a_command_without_public_key_is_refused(monkeypatch):
    monkeypatch.setenv(keys.COMMAND, "true")
    with pytest.raises(UsageError, match="public key of the command is unknown"):
        keys.from_environment()


def test_two_keys_are_refused(monkeypatch):
    monkeypatch.setenv(keys.COMMAND, "true")
    monkeypatch.setenv(keys.KEY, "key.pem")
    with pytest.raises(UsageError, match="two signing keys"):
        keys.from_environment()


@pytest.mark.parametrize("content", ["missing", "text", "ed25519", "P-192", "public key"])
def test_a_file_that_is_no_supported_key_is_refused(tmp_path, monkeypatch, content):
    contents = {
        "text": b"not a key",
        "ed25519": private_pem(ed25519.Ed25519PrivateKey.generate()),
        "P-192": private_pem(new_key(ec.SECP256K1)),
        "public key": public_pem(new_key()),
    }
    path = tmp_path / "key.pem"
    if content != "missing":
        path.write_bytes(contents[content])
    monkeypatch.setenv(keys.KEY, str(path))
    with pytest.raises(UsageError, match="cannot be"):
        keys.from_environment()


def test_a_key_in_a_git_repository_is_refused(tmp_path, monkeypatch):
    path = key_file(tmp_path, new_key())
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    monkeypatch.setenv(keys.KEY, path)
    assert keys.from_environment() is not None  # it is not tracked
    subprocess.run(["git", "-C", str(tmp_path), "add", "key.pem"], check=True)
    with pytest.raises(UsageError, match="is a file of a git repository"):
        keys.from_environment()


def test_certificates_must_be_those_of_the_key(tmp_path, monkeypatch):
    authority, key = new_key(), new_key()
    leaf = certificate(("signer", key), ("ca", authority), is_authority=False)
    (tmp_path / "chain.pem").write_bytes(pem(leaf))
    monkeypatch.setenv(keys.KEY, key_file(tmp_path, key))
    monkeypatch.setenv(keys.CERTIFICATES, str(tmp_path / "chain.pem"))
    assert keys.from_environment().sign(b"x").certificates == der(leaf)
    monkeypatch.setenv(keys.KEY, key_file(tmp_path, authority))
    with pytest.raises(UsageError, match="first certificate is not that of the key"):
        keys.from_environment()


def test_a_chain_that_cannot_be_read_is_refused(tmp_path, monkeypatch):
    (tmp_path / "chain.pem").write_text("no certificate")
    monkeypatch.setenv(keys.KEY, key_file(tmp_path, new_key()))
    monkeypatch.setenv(keys.CERTIFICATES, str(tmp_path / "chain.pem"))
    with pytest.raises(UsageError, match="no certificate can be read"):
        keys.from_environment()
