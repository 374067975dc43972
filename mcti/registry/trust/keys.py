"""The signing key: a file, or a command that signs (a KMS, an HSM, a smart card). It is never stored or logged.

ECDSA on P-256, P-384 or P-521 with SHA-256, SHA-384 or SHA-512, as OpenSSF Model Signing requires.
"""

import hashlib
import os
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mcti.errors import OperationalError, UsageError
from mcti.registry.trust.envelope import SignedDocument, pae

KEY, PASSWORD_FILE = "MCTI_SIGNING_KEY", "MCTI_SIGNING_PASSWORD_FILE"
COMMAND, PUBLIC_KEY = "MCTI_SIGNING_COMMAND", "MCTI_SIGNING_PUBLIC_KEY"
CERTIFICATES = "MCTI_SIGNING_CERTIFICATES"
_COMMAND_SECONDS = 60
_HASHES: dict[str, hashes.HashAlgorithm] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}


@dataclass(frozen=True)
class Signer:
    """Signs statements. sign_bytes: message to ECDSA signature in DER; certificates: in DER, the signer's first."""

    public_key: ec.EllipticCurvePublicKey
    sign_bytes: Callable[[bytes], bytes]
    certificates: tuple[bytes, ...] = ()

    def sign(self, payload: bytes) -> SignedDocument:
        """The statement with its signature.

        Raises OperationalError when the command fails, or its signature does not belong to the public key.
        """
        signature = self.sign_bytes(pae(payload))
        if not is_signed_by(self.public_key, signature, pae(payload)):
            hint = f"the command must sign the bytes of its standard input with {PUBLIC_KEY}, and write DER"
            raise OperationalError("the signature does not belong to the public key", COMMAND, hint)
        return SignedDocument(payload, signature, fingerprint(self.public_key), self.certificates)


def from_environment() -> Signer | None:
    """The signer that the environment configures; None without one.

    Raises UsageError when the configuration is incomplete, or the key cannot be used.
    """
    file, command = os.environ.get(KEY), os.environ.get(COMMAND)
    if file and command:
        raise UsageError("two signing keys are configured", f"{KEY}, {COMMAND}", "set one of the two")
    if not file and not command:
        return None
    certificates = _read_certificates()
    if command:
        public_key = _command_key(certificates)
        return Signer(public_key, lambda message: _run(command, message), _der(certificates))
    private_key = _read_private_key(Path(str(file)))
    public_key = private_key.public_key()
    if certificates and certificates[0].public_key() != public_key:
        raise UsageError("the first certificate is not that of the key", CERTIFICATES, f"set the chain of {KEY}")
    algorithm = ec.ECDSA(hash_of(public_key))
    return Signer(public_key, lambda message: private_key.sign(message, algorithm), _der(certificates))


def is_supported(key: ec.EllipticCurvePublicKey) -> bool:
    """Whether the key is on P-256, P-384 or P-521."""
    return key.curve.name in _HASHES


def hash_of(key: ec.EllipticCurvePublicKey) -> hashes.HashAlgorithm:
    """The hash algorithm for a key.

    Raises ValueError for another curve.
    """
    if not is_supported(key):
        raise ValueError(f"curve {key.curve.name} is not one of {', '.join(_HASHES)}")
    return _HASHES[key.curve.name]


def parse_public_key(pem: bytes) -> ec.EllipticCurvePublicKey:
    """A public key in PEM.

    Raises ValueError when it is not a key of a supported curve.
    """
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("not a public key in PEM") from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ValueError("not an elliptic-curve key")
    hash_of(key)
    return key


def fingerprint(key: ec.EllipticCurvePublicKey) -> str:
    """SHA-256 of the PEM of a public key: its identity in a Sigstore bundle."""
    form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(key.public_bytes(*form)).hexdigest()


def is_signed_by(key: ec.EllipticCurvePublicKey, signature: bytes, message: bytes) -> bool:
    """Whether `signature` (DER) is that of `message` by this key."""
    try:
        key.verify(signature, message, ec.ECDSA(hash_of(key)))
    except InvalidSignature:
        return False
    return True


def _read(path: Path, variable: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"the file cannot be read ({error.strerror})", f"{variable}={path}", "name a file") from error


def _read_private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    pem, where = _read(path, KEY), f"{KEY}={path}"
    if _is_tracked(path):
        hint = "remove it from the repository and its history, and make a new key: this one must not be trusted"
        raise UsageError("the signing key is a file of a git repository", where, hint)
    try:
        key = serialization.load_pem_private_key(pem, _password())
        hash_of(key.public_key())  # type: ignore[arg-type]  # another kind of key has no curve: AttributeError
    except (ValueError, TypeError, AttributeError, UnsupportedAlgorithm):
        # The reason is left out: a message of the library may quote the contents.
        hint = f"use a PEM key on P-256, P-384 or P-521; an encrypted one needs {PASSWORD_FILE}"
        raise UsageError("the signing key cannot be used", where, hint) from None
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def _password() -> bytes | None:
    file = os.environ.get(PASSWORD_FILE)
    return _read(Path(file), PASSWORD_FILE).rstrip(b"\r\n") if file else None


def _is_tracked(path: Path) -> bool:
    command = ["git", "ls-files", "--error-unmatch", "--", path.name]
    try:
        return subprocess.run(command, cwd=path.resolve().parent, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:  # no git, no repository
        return False


def _read_certificates() -> list[x509.Certificate]:
    file = os.environ.get(CERTIFICATES)
    if not file:
        return []
    try:
        return x509.load_pem_x509_certificates(_read(Path(file), CERTIFICATES))
    except ValueError:
        hint = "use a PEM file: the certificate of the key, then those up to the authority"
        raise UsageError("no certificate can be read", f"{CERTIFICATES}={file}", hint) from None


def _der(certificates: list[x509.Certificate]) -> tuple[bytes, ...]:
    return tuple(certificate.public_bytes(serialization.Encoding.DER) for certificate in certificates)


def _command_key(certificates: list[x509.Certificate]) -> ec.EllipticCurvePublicKey:
    file = os.environ.get(PUBLIC_KEY)
    if not file and not certificates:
        hint = f"set {PUBLIC_KEY} or {CERTIFICATES} to the PEM file of its public key"
        raise UsageError("the public key of the command is unknown", COMMAND, hint)
    try:
        key: Any = parse_public_key(_read(Path(file), PUBLIC_KEY)) if file else certificates[0].public_key()
        hash_of(key)
    except (ValueError, AttributeError) as error:
        where, hint = f"{PUBLIC_KEY if file else CERTIFICATES}", "use a PEM key on P-256, P-384 or P-521"
        raise UsageError(f"the public key cannot be used ({error})", where, hint) from None
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return key


def _run(command: str, message: bytes) -> bytes:
    """The output of the command; it is not run by a shell, and neither its arguments nor its output are logged."""
    hint = "run it in a terminal: it must sign the bytes of its standard input and write the signature in DER"
    try:
        arguments = shlex.split(command)
        done = subprocess.run(arguments, input=message, capture_output=True, check=False, timeout=_COMMAND_SECONDS)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise OperationalError(f"the command cannot be run ({type(error).__name__})", COMMAND, hint) from None
    if done.returncode != 0:
        raise OperationalError(f"the command ended with exit code {done.returncode}", COMMAND, hint)
    return done.stdout
