"""Electronic signatures on approvals: who signed what, when and with which meaning (21 CFR 11.50 and 11.70).

A signature is a tag of the version with the signatory, the time, the meaning, and the hashes of weights and evaluation
that it is about. It is written after the signatory gave the password of an MLflow user again (reauthentication.py). No
record is ever replaced: a later signature is another tag. The hash of a record detects an edit of the tag, not a forged
record; where a signing key is configured, a signed statement covers it too (trust/approval_statement.py).
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from mcti.errors import DataError, UsageError
from mcti.registry import models

TAG = "mcti.signature."
ID_LENGTH = 16  # digits of the hash of a signature, in the name of its tag and of its statement
MAX_MEANING = 200
"""Length of a meaning in characters."""


class ElectronicSignature(BaseModel):
    """One signature; `hash` is the SHA-256 of all other fields.

    who         the MLflow user who gave the password;  server  host of the MLflow server that verified it
    time        RFC 3339 in UTC;  meaning  what the signature states, in the words of the signatory
    address     models:/NAME/NUMBER;  digest, evaluation  SHA-256 of the weights, MD5 of the evaluation
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    who: str = Field(min_length=1)
    server: str
    time: AwareDatetime
    meaning: str = Field(min_length=1, max_length=MAX_MEANING)
    address: str
    digest: str = Field(min_length=1)
    evaluation: str = Field(min_length=1)
    hash: str = ""

    @property
    def id(self) -> str:
        """The end of its tag, and of the name of its signed statement."""
        return self.hash[:ID_LENGTH]

    @property
    def tag(self) -> str:
        """The name of its tag."""
        return f"{TAG}{self.id}"

    def computed_hash(self) -> str:
        """SHA-256 of the record without its hash, as JSON with sorted keys."""
        text = json.dumps(self.model_dump(mode="json", exclude={"hash"}), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def with_hash(self) -> Self:
        """The record with its hash."""
        return self.model_copy(update={"hash": self.computed_hash()})

    def fault(self, address: str, digest: str) -> str:
        """Why it cannot be a signature of the version with this address and digest; "" if it can."""
        if self.hash != self.computed_hash():
            return "the record was edited: its hash does not match its contents"
        if self.address != address:
            return f"it is about {self.address}"
        return "" if self.digest == digest else "it is about other weights"

    def describe(self) -> str:
        """Time, meaning and server in one line."""
        return f"signed {self.time:%Y-%m-%d %H:%M:%S} UTC: {self.meaning} (user of {self.server})"


class UnreadableSignature(BaseModel):
    """A tag that is not the record of a signature; tag: its name, reason: why."""

    model_config = ConfigDict(frozen=True)
    tag: str
    reason: str


def check_meaning(meaning: str) -> str:
    """The meaning without surrounding spaces.

    Raises UsageError when it is empty, too long, or not one line of printable text.
    """
    text = meaning.strip()
    if not text or len(text) > MAX_MEANING or not text.isprintable():
        hint = "state what the signature means, such as 'I reviewed the evaluation and approve the release'"
        raise UsageError(f"the meaning must be one line of 1 to {MAX_MEANING} characters", "--meaning", hint)
    return text


def record(version: Any, who: str, server: str, meaning: str) -> ElectronicSignature:
    """The record of a signature on a version, now.

    who  the MLflow user;  server  host of the server that verified the user;  meaning  of `check_meaning`
    """
    return ElectronicSignature(
        who=who,
        server=server,
        time=datetime.now(UTC).replace(microsecond=0),
        meaning=meaning,
        address=f"models:/{version.name}/{version.version}",
        digest=version.tags[models.DIGEST],
        evaluation=version.tags[models.EVALUATION],
    ).with_hash()


def write(client: Any, version: Any, signature: ElectronicSignature) -> None:
    """Store a signature as a tag of the version."""
    value = signature.model_dump_json()
    client.set_model_version_tag(version.name, version.version, signature.tag, value)


def read(tags: Mapping[str, str]) -> list[ElectronicSignature | UnreadableSignature]:
    """Every signature in the tags of a version, by time; those that cannot be read come first. `fault` checks them."""
    signatures: list[ElectronicSignature | UnreadableSignature] = []
    for tag in sorted(name for name in tags if name.startswith(TAG)):
        try:
            signatures.append(ElectronicSignature.model_validate_json(tags[tag]))
        except ValidationError as error:
            reason = f"not the record of a signature ({error.errors(include_input=False)[0]['msg']})"
            signatures.append(UnreadableSignature(tag=tag, reason=reason))
    return sorted(signatures, key=lambda one: one.time.timestamp() if isinstance(one, ElectronicSignature) else 0.0)


def of_decision(evidence: Mapping[str, Any]) -> list[ElectronicSignature]:
    """The signatures that the gate `approval` of a decision counted. evidence: of the entry of the ledger.

    Raises DataError when one cannot be read.
    """
    gates = (gate for gate in evidence.get("gates", ()) if gate["name"] == "approval")
    records = [one for gate in gates for one in gate.get("numbers", {}).get("signatures", ())]
    try:
        return [ElectronicSignature.model_validate(one) for one in records]
    except ValidationError as error:
        reason = error.errors(include_input=False)[0]["msg"]
        raise DataError(f"a signature of the decision cannot be read ({reason})", "the ledger", "") from None


def valid(version: Any) -> list[ElectronicSignature]:
    """The signatures on the current weights and evaluation of a version."""
    address, tags = f"models:/{version.name}/{version.version}", version.tags
    digest, evaluation = tags.get(models.DIGEST, ""), tags.get(models.EVALUATION, "")
    readable = (one for one in read(tags) if isinstance(one, ElectronicSignature))
    return [one for one in readable if not one.fault(address, digest) and one.evaluation == evaluation]
