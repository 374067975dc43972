"""The trust file: which keys and certificate authorities may sign what, and from when to when (docs/registry.md)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Literal, NoReturn, Self

import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import verification
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from mcti import storage
from mcti.errors import DataError
from mcti.registry.trust import keys
from mcti.registry.trust.envelope import SignedDocument

Role = Literal["model", "lineage", "gate", "ledger", "approval"]
MAX_CLOCK_SKEW = timedelta(minutes=5)


class _Signatory(BaseModel):
    """What keys and authorities have in common.

    id          name in the reports
    roles       what may be signed: model (weights), lineage (statements of data to evaluation), gate (decisions and
                their ledger entries), ledger (other ledger entries), approval (electronic signatures of persons)
    valid_from, valid_to    signatures are accepted if they are dated in this interval
    revoked_at  from when signatures are refused
    revocation  `compromised`: all signatures are refused, since the holder of a stolen key can date them freely;
                `retired`: those dated before revoked_at are accepted
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    id: str = Field(min_length=1)
    roles: tuple[Role, ...] = Field(min_length=1)
    valid_from: AwareDatetime | None = None
    valid_to: AwareDatetime | None = None
    revoked_at: AwareDatetime | None = None
    revocation: Literal["compromised", "retired"] = "compromised"

    @model_validator(mode="after")
    def _interval_is_not_empty(self) -> Self:
        if self.valid_from and self.valid_to and self.valid_to <= self.valid_from:
            raise ValueError("valid_to is not after valid_from")
        return self

    def refusal(self, role: Role, signed: datetime, now: datetime) -> str:
        """Why a signature dated `signed` for this role is refused; "" if it is accepted."""
        if role not in self.roles:
            return f"key {self.id} may not sign this: it has no role {role}"
        if self.revoked_at and now >= self.revoked_at:
            if self.revocation == "compromised":
                return f"key {self.id} was revoked at {self.revoked_at:%Y-%m-%d %H:%M} UTC as compromised"
            if signed >= self.revoked_at:
                return f"key {self.id} was retired at {self.revoked_at:%Y-%m-%d %H:%M} UTC, before the signature"
        if self.valid_from and signed < self.valid_from:
            return f"key {self.id} is valid from {self.valid_from:%Y-%m-%d %H:%M} UTC, after the signature"
        if self.valid_to and signed > self.valid_to:
            return f"key {self.id} expired at {self.valid_to:%Y-%m-%d %H:%M} UTC, before the signature"
        return ""


class TrustedKey(_Signatory):
    """A public key in PEM: elliptic curve P-256, P-384 or P-521."""

    public_key: str

    @cached_property
    def key(self) -> ec.EllipticCurvePublicKey:
        """The key."""
        return keys.parse_public_key(self.public_key.encode())

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the PEM of the key."""
        return keys.fingerprint(self.key)

    @model_validator(mode="after")
    def _key_is_readable(self) -> Self:
        _ = self.key
        return self


class Authority(_Signatory):
    """A certificate authority, as its certificate in PEM: it vouches for the certificates of signers."""

    certificate: str

    @cached_property
    def root(self) -> x509.Certificate:
        """The certificate."""
        return x509.load_pem_x509_certificate(self.certificate.encode())

    @model_validator(mode="after")
    def _certificate_is_readable(self) -> Self:
        _ = self.root
        return self

    def leaf_of(self, chain: Sequence[x509.Certificate], at: datetime) -> x509.Certificate | None:
        """The signer's certificate if this authority vouches for it at the time; None otherwise."""
        permitted = verification.ExtensionPolicy.permit_all()
        policy = verification.PolicyBuilder().store(verification.Store([self.root])).time(at)
        policy = policy.extension_policies(
            ca_policy=verification.ExtensionPolicy.webpki_defaults_ca(), ee_policy=permitted
        )
        try:
            policy.build_client_verifier().verify(chain[0], list(chain[1:]))
        except verification.VerificationError:
            return None
        return chain[0] if _may_sign(chain[0]) else None


def _may_sign(certificate: x509.Certificate) -> bool:
    try:
        return bool(certificate.extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature)
    except x509.ExtensionNotFound:
        return False


@dataclass(frozen=True)
class SignatureCheck:
    """Result for one signature. state: verified | unknown (the key is not trusted) | broken; signer: id of its key."""

    state: Literal["verified", "unknown", "broken"]
    signer: str
    note: str = ""


class TrustFile(BaseModel):
    """All keys and authorities that a site trusts."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    keys: tuple[TrustedKey, ...] = ()
    authorities: tuple[Authority, ...] = ()

    @model_validator(mode="after")
    def _ids_and_keys_are_unique(self) -> Self:
        ids = [entry.id for entry in (*self.keys, *self.authorities)]
        prints = [entry.fingerprint for entry in self.keys]
        for values, name in ((ids, "id"), (prints, "public key")):
            repeated = next((value for value in values if values.count(value) > 1), None)
            if repeated:
                raise ValueError(f"{name} {repeated} is listed twice")
        return self

    def check(self, document: SignedDocument, role: Role, signed: datetime | None) -> SignatureCheck:
        """Verify the signature of a document, its key, and what the key may sign.

        signed  the time that the document states; None: it states none, and the present time decides
        """
        now = datetime.now(UTC)
        if signed and signed > now + MAX_CLOCK_SKEW:
            return SignatureCheck("broken", "", f"the signature is dated {signed:%Y-%m-%d %H:%M} UTC, in the future")
        if document.certificates:
            return self._check_chain(document, role, signed or now, now)
        trusted = next((entry for entry in self.keys if entry.fingerprint == document.hint), None)
        if trusted is None:
            return SignatureCheck("unknown", "", f"key {document.hint[:16] or 'without an identity'} is not trusted")
        if not keys.is_signed_by(trusted.key, document.signature, document.signed_bytes):
            return SignatureCheck("broken", trusted.id, f"the signature is not that of key {trusted.id}")
        return _checked(trusted, role, signed or now, now)

    def _check_chain(self, document: SignedDocument, role: Role, signed: datetime, now: datetime) -> SignatureCheck:
        try:
            chain = [x509.load_der_x509_certificate(der) for der in document.certificates]
            key = chain[0].public_key()
        except ValueError:
            return SignatureCheck("broken", "", "a certificate cannot be read")
        if not isinstance(key, ec.EllipticCurvePublicKey) or not keys.is_supported(key):
            return SignatureCheck("broken", "", "the certificate has no key on P-256, P-384 or P-521")
        if not keys.is_signed_by(key, document.signature, document.signed_bytes):
            return SignatureCheck("broken", "", "the signature is not that of its certificate")
        authority = next((entry for entry in self.authorities if entry.leaf_of(chain, signed)), None)
        if authority is None:
            name = chain[0].subject.rfc4514_string()
            return SignatureCheck("unknown", "", f"no trusted authority issued a valid signing certificate to {name}")
        return _checked(authority, role, signed, now)


def _checked(entry: _Signatory, role: Role, signed: datetime, now: datetime) -> SignatureCheck:
    refusal = entry.refusal(role, signed, now)
    return SignatureCheck("broken" if refusal else "verified", entry.id, refusal)


def load(location: storage.Location | None) -> TrustFile:
    """The trust file at a path or an s3:// address; None: no key is trusted.

    Raises DataError when it cannot be read or an entry is invalid.
    """
    if not location:
        return TrustFile()
    try:
        tree = yaml.safe_load(storage.read_bytes(location))
    except yaml.YAMLError as error:
        raise DataError("not a YAML file", f"trust.keys {location}", "see docs/registry.md") from error
    try:
        return TrustFile.model_validate(tree or {})
    except ValidationError as error:
        _refuse(error, location)


def _refuse(error: ValidationError, location: storage.Location) -> NoReturn:
    first = error.errors(include_input=False)[0]
    path = ".".join(str(part) for part in first["loc"])
    hint = "see the example of a trust file in docs/registry.md; times need a zone, such as 2026-01-31T00:00:00Z"
    raise DataError(f"{path or 'the file'}: {first['msg']}", f"trust.keys {location}", hint) from None
