"""Kinds of tampering with the ledger of a `Version`, for test_verification.py."""

import base64
import json

from tests.registry.trust.factories import new_key, sign_entry, signed_chain


def rewritten_ledger(v):
    v.ledger_entries = signed_chain(v.key, {"reason": "another"})


def unsigned_rewritten_ledger(v):
    """As an attacker with write access to S3 and to the tags of MLflow, but without a key."""
    v.ledger_entries = signed_chain(None, {"reason": "another"})
    v.head = f"6:{v.ledger_entries[-1].hash}"


def rewritten_with_foreign_key(v):
    v.ledger_entries = signed_chain(new_key(), {"reason": "another"})
    v.head = f"6:{v.ledger_entries[-1].hash}"


def rewritten_with_old_signatures(v):
    signatures = [entry.signature for entry in v.ledger_entries]
    unsigned_rewritten_ledger(v)
    v.ledger_entries = [
        entry.model_copy(update={"signature": signature})
        for entry, signature in zip(v.ledger_entries, signatures, strict=True)
    ]


def entry_change(position, change):
    """Change one entry of the ledger by a function from version and entry to fields."""

    def apply(v):
        entry = v.ledger_entries[position]
        v.ledger_entries[position] = entry.model_copy(update=change(v, entry))

    return apply


def appended_entry(key_of):
    """A rollback after the last entry, chained and stored as head, signed by `key_of(v)` (None: not signed)."""

    def apply(v):
        last, key = v.ledger_entries[-1], key_of(v)
        entry = last.model_copy(update={"number": 7, "before": last.hash, "action": "rollback", "signature": None})
        entry = entry.with_hash()
        v.ledger_entries.append(sign_entry(entry, key) if key else entry)
        v.head = f"7:{entry.hash}"

    return apply


def altered_entry_signature(v, entry):
    bundle = json.loads(json.dumps(entry.signature))
    signature = bytearray(base64.b64decode(bundle["dsseEnvelope"]["signatures"][0]["sig"]))
    signature[-1] ^= 1
    bundle["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(bytes(signature)).decode()
    return {"signature": bundle}
