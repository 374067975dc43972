"""Signed documents: an in-toto statement in a DSSE envelope, in a Sigstore bundle as OpenSSF Model Signing writes it.

Formats: in-toto Statement v1; DSSE v1.0.2; Sigstore bundle v0.3 with a public key or a certificate chain and without an
entry of a transparency log. `model_signing` reads and writes the same bundles.
"""

import base64
import binascii
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

PAYLOAD_TYPE = "application/vnd.in-toto+json"
BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"


class InvalidDocument(ValueError):
    """The text is not a signed document of the format above; the message states why."""


@dataclass(frozen=True)
class SignedDocument:
    """A statement with one signature, not verified yet.

    payload       the bytes of the statement
    signature     ECDSA over `pae(payload)`, in DER
    hint          SHA-256 of the PEM of the public key, in hex; "" with certificates
    certificates  in DER, the one of the signer first; empty with a bare key
    """

    payload: bytes
    signature: bytes
    hint: str = ""
    certificates: tuple[bytes, ...] = ()

    @property
    def signed_bytes(self) -> bytes:
        """The bytes that the signature covers."""
        return pae(self.payload)

    @property
    def statement(self) -> dict[str, Any]:
        """The statement.

        Raises InvalidDocument when the payload is not an in-toto statement.
        """
        statement = load_json(self.payload)
        if not isinstance(statement, dict) or statement.get("_type") != STATEMENT_TYPE:
            raise InvalidDocument(f"the payload is not a statement of type {STATEMENT_TYPE}")
        fields = {"subject": list, "predicateType": str, "predicate": dict}
        invalid = [name for name, expected in fields.items() if not isinstance(statement.get(name), expected)]
        if invalid:
            raise InvalidDocument(f"the field {invalid[0]} of the statement is missing or invalid")
        return statement


def pae(payload: bytes) -> bytes:
    """The bytes to sign: the pre-authentication encoding of DSSE for a payload of type `PAYLOAD_TYPE`."""
    return b"DSSEv1 %d %b %d %b" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def payload_of(subject: list[dict[str, Any]], predicate_type: str, predicate: dict[str, Any]) -> bytes:
    """The bytes of a statement, as JSON with sorted keys."""
    statement = {"_type": STATEMENT_TYPE, "subject": subject, "predicateType": predicate_type, "predicate": predicate}
    return json.dumps(statement, sort_keys=True, ensure_ascii=False).encode()


def now() -> str:
    """The time for a statement: RFC 3339 in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def write(document: SignedDocument) -> str:
    """The document as the text of a Sigstore bundle."""
    return json.dumps(to_bundle(document), indent=1, sort_keys=True) + "\n"


def to_bundle(document: SignedDocument) -> dict[str, Any]:
    """The document as a Sigstore bundle."""
    chain = {"certificates": [{"rawBytes": _encode(der)} for der in document.certificates]}
    key = {"x509CertificateChain": chain} if document.certificates else {"publicKey": {"hint": document.hint}}
    envelope = {
        "payload": _encode(document.payload),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"sig": _encode(document.signature), "keyid": document.hint}],
    }
    return {"mediaType": BUNDLE_TYPE, "verificationMaterial": {**key, "tlogEntries": []}, "dsseEnvelope": envelope}


def read(text: bytes) -> SignedDocument:
    """The document in a Sigstore bundle; nothing is verified.

    Raises InvalidDocument when it has another type, not exactly one signature, or is not valid JSON or base64.
    """
    return from_bundle(load_json(text))


def from_bundle(bundle: Any) -> SignedDocument:
    """The document in a Sigstore bundle that was read from JSON; nothing is verified.

    Raises InvalidDocument as `read`.
    """
    try:
        if bundle["mediaType"] != BUNDLE_TYPE:
            raise InvalidDocument(f"the bundle has the media type {bundle['mediaType']!r}, not {BUNDLE_TYPE}")
        envelope, material = bundle["dsseEnvelope"], bundle["verificationMaterial"]
        if envelope["payloadType"] != PAYLOAD_TYPE:
            raise InvalidDocument(f"the payload has the type {envelope['payloadType']!r}, not {PAYLOAD_TYPE}")
        if len(envelope["signatures"]) != 1:
            raise InvalidDocument(f"the envelope has {len(envelope['signatures'])} signatures, not one")
        hint = str(material.get("publicKey", {}).get("hint") or "")
        named = envelope["signatures"][0].get("keyid") or hint
        if named != hint:
            raise InvalidDocument(
                f"the envelope names the key {named[:16]}, its signature the key {hint[:16] or 'none'}"
            )
        return SignedDocument(
            payload=_decode(envelope["payload"]),
            signature=_decode(envelope["signatures"][0]["sig"]),
            hint=hint,
            certificates=_certificates(material),
        )
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise InvalidDocument(f"not a Sigstore bundle with a DSSE envelope ({error})") from error


def _certificates(material: dict[str, Any]) -> tuple[bytes, ...]:
    chain = material.get("x509CertificateChain", {}).get("certificates", ())
    single = [material["certificate"]] if "certificate" in material else []
    return tuple(_decode(certificate["rawBytes"]) for certificate in [*chain, *single])


def load_json(text: bytes) -> Any:
    """The JSON document; a repeated key is refused, since readers differ in which value they take.

    Raises InvalidDocument otherwise.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise InvalidDocument(f"not valid JSON ({error})") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) != len(pairs):
        raise ValueError("a key is repeated")
    return tree


def _encode(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidDocument(f"not valid base64 ({error})") from error
