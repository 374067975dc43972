"""The verification of a version without a registry, and every kind of tampering of docs/security.md."""

import base64
import dataclasses
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from mcti.registry.trust import verification
from mcti.registry.trust.trust_file import TrustFile
from tests.registry.trust.factories import TIME, Version, new_key, signed_chain, trusting
from tests.registry.trust.ledger_tampering import (
    altered_entry_signature,
    appended_entry,
    entry_change,
    rewritten_ledger,
    rewritten_with_foreign_key,
    rewritten_with_old_signatures,
    unsigned_rewritten_ledger,
)


@pytest.fixture
def version(tmp_path):
    return Version(tmp_path)


def states(version, trust):
    return {check.subject: check.state for check in verification.check_all(version.again(), trust)}


SUBJECTS = ["weights", "model", "evaluation files", "features", "folds", "training", "evaluation", "registration",
            "gate-5", "ledger"]  # fmt: skip
WITHOUT_SIGNATURE = {"weights", "evaluation files"}


@pytest.mark.parametrize("curve", [ec.SECP256R1, ec.SECP384R1, ec.SECP521R1])
def test_a_signed_version_is_verified_in_every_part(tmp_path, curve):
    version = Version(tmp_path, new_key(curve))
    assert states(version, trusting(version.key)) == dict.fromkeys(SUBJECTS, "verified")


def test_without_signatures_each_part_is_unsigned(version):
    for path in version.signatures.iterdir():
        path.unlink()
    version.ledger_entries = signed_chain()
    version.head = f"6:{version.ledger_entries[-1].hash}"
    expected = {name: "verified" if name in WITHOUT_SIGNATURE else "unsigned" for name in SUBJECTS}
    assert states(version, trusting(version.key)) == expected


@pytest.mark.parametrize("trust", [TrustFile(), trusting(new_key())], ids=["no key", "another key"])
def test_an_untrusted_key_is_unknown(version, trust):
    expected = {name: "verified" if name in WITHOUT_SIGNATURE else "unknown" for name in SUBJECTS}
    assert states(version, trust) == expected


def test_a_version_that_no_decision_promoted_has_an_unsigned_gate(version):
    version.decision = None
    assert states(version, trusting(version.key))["gate"] == "unsigned"


# Kinds of tampering: each changes the version and names the part that must be broken (or unsigned), with its note.
# Each is a row of the table in docs/security.md, which the last test compares.


def altered_weights(v):
    path = v.ensemble / "fold_1" / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")


def altered_model_json(v):
    path = v.ensemble / "fold_0" / "model.json"
    path.write_text(path.read_text().replace('"epochs": 3', '"epochs": 4'))


def missing_member_file(v):
    (v.ensemble / "fold_2" / "weights.safetensors").unlink()


def added_file(v):
    (v.ensemble / "fold_0" / "run.py").write_text("print()")


def added_fold(v):
    (v.ensemble / "fold_3").mkdir()
    for name in ("weights.safetensors", "model.json"):
        (v.ensemble / "fold_3" / name).write_bytes((v.ensemble / "fold_0" / name).read_bytes())


def exchanged_folds(v):
    first, second = (v.ensemble / f"fold_{n}" / "weights.safetensors" for n in (0, 1))
    one, two = first.read_bytes(), second.read_bytes()
    first.write_bytes(two)
    second.write_bytes(one)


def linked_file(v):
    path = v.ensemble / "fold_0" / "weights.safetensors"
    target = v.root / "elsewhere"
    target.write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(target)


def edited_assignment(v):
    path = v.ensemble / "ensemble.json"
    index = json.loads(path.read_text())
    patient = next(iter(index["assigned"]))
    index["assigned"][patient] = ["fold_0", "fold_1", "fold_2"]
    path.write_text(json.dumps(index))


def weights_index_and_digest(v):
    """As an attacker with write access to S3 and to the tags of MLflow."""
    from mcti.registry import ensemble_files, models

    altered_weights(v)
    path = v.ensemble / "ensemble.json"
    index = json.loads(path.read_text())
    for member in index["members"]:
        index["members"][member] = ensemble_files.file_hashes(v.ensemble / member)
    path.write_text(json.dumps(index))
    v.tags[models.DIGEST] = ensemble_files.digest_of(index)


def tag(name, value):
    def change(v):
        if value is None:
            del v.tags[name]
        else:
            v.tags[name] = value

    return change


def edited_file(folder, name, old, new):
    def change(v):
        path = v.root / folder / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return change


def removed_document(v):
    (v.documents / "sbom.json").unlink()


def added_document(v):
    (v.documents / "approval.json").write_text("{}")


def payload_edit(name, change):
    """Change the statement and keep the signature."""

    def apply(v):
        path = v.signatures / f"{name}.json"
        bundle = json.loads(path.read_text())
        statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
        change(statement)
        bundle["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
        path.write_text(json.dumps(bundle))

    return apply


def bundle_edit(name, change):
    def apply(v):
        path = v.signatures / f"{name}.json"
        bundle = json.loads(path.read_text())
        change(bundle)
        path.write_text(json.dumps(bundle))

    return apply


def added_statement(name, source):
    """A copy of the statement `source` (or `source` itself as text) under another name next to the statements."""

    def apply(v):
        path = v.signatures / f"{source}.json"
        (v.signatures / name).write_bytes(path.read_bytes() if path.is_file() else source.encode())

    return apply


def replaced_document(name, text):
    return lambda v: (v.ensemble / name).write_text(text)


def removed_signature(name):
    return lambda v: (v.signatures / f"{name}.json").unlink()


def exchanged_statements(v):
    first, second = (v.signatures / f"{name}.json" for name in ("features", "folds"))
    one, two = first.read_bytes(), second.read_bytes()
    first.write_bytes(two)
    second.write_bytes(one)


def signature_of_another_version(v):
    v.number = 2
    payloads = v.again().payloads()
    v.number = 3
    v.again()
    v.sign("model", payloads["model"])


def lineage_of_another_version(v):
    v.number = 2
    payloads = v.again().payloads()
    v.number = 3
    v.again()
    v.sign("training", payloads["training"])


def foreign_signature_with_our_key_id(v):
    """Signed by an attacker who names the key of the site."""
    ours = v.read("model").hint
    v.sign("model", v.payloads()["model"], new_key())
    bundle_edit("model", lambda b: b["verificationMaterial"]["publicKey"].update(hint=ours))(v)
    bundle_edit("model", lambda b: b["dsseEnvelope"]["signatures"][0].update(keyid=ours))(v)


def repeated_key(v):
    path = v.signatures / "model.json"
    path.write_text(path.read_text().replace("{", '{"mediaType": "other",', 1))


def altered_signature(v):
    def change(b):
        signature = bytearray(base64.b64decode(b["dsseEnvelope"]["signatures"][0]["sig"]))
        signature[-1] ^= 1
        b["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(bytes(signature)).decode()

    bundle_edit("model", change)(v)


def edited_decision(v):
    """A rejection that was rewritten to a promotion in the ledger, with a new hash."""
    v.decision = v.entry(evidence={"digest": v.tags["mcti.digest"], "params": {"margin": -0.5}})


def decision_without_new_hash(v):
    v.decision = v.decision.model_copy(update={"who": "mallory"})


def decision_about_other_weights(v):
    from mcti.registry.trust import statements

    v.decision = v.entry(evidence={"digest": "e" * 64, "params": {"margin": 0.0}})
    v.sign("gate-5", statements.gate_payload(v.decision, v.address, v.tags["mcti.evaluation_md5"], TIME))


def signed_rejection(v):
    from mcti.registry.trust import statements

    rejected = v.entry(action="reject")
    v.sign("gate-5", statements.gate_payload(rejected, v.address, v.tags["mcti.evaluation_md5"], TIME))


def decision_about_another_evaluation(v):
    from mcti.registry.trust import statements

    v.sign("gate-5", statements.gate_payload(v.decision, v.address, "0" * 32, TIME))


def date_in_future(v):
    v.sign_all(time="2999-01-01T00:00:00Z")


def date_without_zone(v):
    v.sign_all(time="2025-06-01T12:00:00")


def statement_of_another_type(v):
    v.sign("model", v.payloads()["training"])


BROKEN, UNSIGNED, UNKNOWN = "broken", "unsigned", "unknown"
TAMPERING = {
    "weights altered": (altered_weights, "weights", BROKEN, "fold_1/weights.safetensors was altered"),
    "weights altered, signature": (altered_weights, "model", BROKEN, "fold_1/weights.safetensors was altered"),
    "settings in model.json altered": (altered_model_json, "model", BROKEN, "fold_0/model.json was altered"),
    "file of a fold removed": (missing_member_file, "model", BROKEN, "fold_2/weights.safetensors is missing"),
    "file added": (added_file, "model", BROKEN, "fold_0/run.py is not signed"),
    "fold added": (added_fold, "weights", BROKEN, "fold_3/model.json is not in the index"),
    "weights of two folds exchanged": (exchanged_folds, "model", BROKEN, "was altered"),
    "file replaced by a link": (linked_file, "model", BROKEN, "is a symbolic link"),
    "patients assigned to other folds": (edited_assignment, "weights", BROKEN, "the index is not the one"),
    "weights, index and digest tag replaced": (weights_index_and_digest, "model", BROKEN, "was altered"),
    "weights, index and digest tag replaced, training": (weights_index_and_digest, "training", BROKEN, "signed"),
    "digest tag removed": (tag("mcti.digest", None), "weights", BROKEN, "has no tag mcti.digest"),
    "MD5 of a data set altered": (tag("mcti.data.data/cohort", "7" * 32), "features", BROKEN, "data/cohort"),
    "data set added": (tag("mcti.data.data/other", "7" * 32), "training", BROKEN, "data/other"),
    "MD5 of the source data altered": (tag("mcti.data.source", "7" * 32), "features", BROKEN, "source"),
    "encoder altered": (tag("mcti.encoder", "uni"), "features", BROKEN, "encoder"),
    "hash of the folds altered": (tag("mcti.folds", "7" * 64), "folds", BROKEN, "folds"),
    "commit altered": (tag("mcti.commit", "7" * 40), "training", BROKEN, "gitCommit"),
    "dirty commit shown as clean": (tag("mcti.commit", "a" * 40 + "-dirty"), "training", BROKEN, "dirty"),
    "image altered": (tag("mcti.image", "other"), "training", BROKEN, "image"),
    "result of the data contract altered": (tag("mcti.contract", "failed"), "evaluation", BROKEN, "contract"),
    "licence altered": (tag("mcti.licence.data", "proprietary"), "registration", BROKEN, "licence.data"),
    "registering person altered": (tag("mcti.registered_by", "sam"), "registration", BROKEN, "registered_by"),
    "run of another version named": (tag("mcti.run_id", "0" * 32), "registration", BROKEN, "run_id"),
    "metrics altered": (edited_file("evaluation", "metrics.json", "0.5", "0.9"), "evaluation", BROKEN, "metrics.json"),
    "predictions altered": (
        edited_file("evaluation", "predictions.csv", "P-001", "P-00X"), "evaluation files", BROKEN, "MD5"),
    "card altered": (edited_file("card", "card.json", "card", "other"), "registration", BROKEN, "card.json"),
    "ML-BOM altered": (edited_file("card", "mlbom.json", "mlbom", "other"), "registration", BROKEN, "mlbom.json"),
    "SBOM removed": (removed_document, "registration", BROKEN, "sbom.json"),
    "document added": (added_document, "registration", BROKEN, "approval.json"),
    "signature of the model removed": (removed_signature("model"), "model", UNSIGNED, "no signature"),
    "statement removed": (removed_signature("training"), "training", UNSIGNED, "no signature"),
    "signed decision removed": (removed_signature("gate-5"), "gate-5", UNSIGNED, "no signature"),
    "signature altered": (altered_signature, "model", BROKEN, "the signature is not that of key site"),
    "statement altered, signature kept": (
        payload_edit("training", lambda s: s["predicate"]["buildDefinition"]["externalParameters"].update(dirty=True)),
        "training", BROKEN, "the signature is not that of key site"),
    "date of a statement altered": (
        payload_edit("model", lambda s: s["predicate"].update(signed_at="2020-01-01T00:00:00Z")),
        "model", BROKEN, "the signature is not that of key site"),
    "signed by another key under the id of a trusted one": (
        foreign_signature_with_our_key_id, "model", BROKEN, "the signature is not that of key site"),
    "statements exchanged": (exchanged_statements, "features", BROKEN, "signed"),
    "statement of another type": (statement_of_another_type, "model", BROKEN, "the statement has the type"),
    "signature of another version": (signature_of_another_version, "model", BROKEN, "is of models:/lung-os/2"),
    "statement of another version": (lineage_of_another_version, "training", BROKEN, "models:/lung-os/2"),
    "second signature added": (
        bundle_edit("model", lambda b: b["dsseEnvelope"]["signatures"].append(b["dsseEnvelope"]["signatures"][0])),
        "model", BROKEN, "2 signatures"),
    "type of the payload altered": (
        bundle_edit("model", lambda b: b["dsseEnvelope"].update(payloadType="text/plain")),
        "model", BROKEN, "text/plain"),
    "key of the JSON repeated": (repeated_key, "model", BROKEN, "a key is repeated"),
    "entry of the ledger rewritten with a new hash": (edited_decision, "gate-5", BROKEN, "ledger"),
    "entry of the ledger edited": (decision_without_new_hash, "gate-5", BROKEN, "was edited"),
    "decision about other weights": (decision_about_other_weights, "gate-5", BROKEN, "other weights"),
    "rejection used as promotion": (signed_rejection, "gate-5", BROKEN, "FAILED"),
    "decision about another evaluation": (decision_about_another_evaluation, "gate-5", BROKEN, "md5"),
    "ledger rewritten": (rewritten_ledger, "ledger", BROKEN, "entries were lost or rewritten"),
    "ledger and its head rewritten without a key": (
        unsigned_rewritten_ledger, "ledger", UNSIGNED, "no entry is signed"),
    "ledger and its head rewritten with another key": (rewritten_with_foreign_key, "ledger", UNKNOWN, "is not trusted"),
    "ledger and its head rewritten, signatures kept": (
        rewritten_with_old_signatures, "ledger", BROKEN, "the signature is of another entry"),
    "signature of an entry removed": (
        entry_change(3, lambda v, entry: {"signature": None}), "ledger", BROKEN, "entry 4 has no signature"),
    "signature of the last entry removed": (
        entry_change(5, lambda v, entry: {"signature": None}), "ledger", BROKEN, "entry 6 has no signature"),
    "signature of an entry altered": (
        entry_change(2, altered_entry_signature), "ledger", BROKEN, "the signature is not that of key site"),
    "signatures of two entries exchanged": (
        entry_change(2, lambda v, entry: {"signature": v.ledger_entries[3].signature}),
        "ledger", BROKEN, "the signature is of another entry"),
    "entry of the ledger removed": (lambda v: v.ledger_entries.pop(2), "ledger", BROKEN, "entry 3 is missing"),
    "last entry of the ledger removed": (lambda v: v.ledger_entries.pop(), "ledger", BROKEN, "entries were lost"),
    "unsigned entry appended": (appended_entry(lambda v: None), "ledger", BROKEN, "entry 7 has no signature"),
    "entry of an unknown key appended": (appended_entry(lambda v: new_key()), "ledger", UNKNOWN, "is not trusted"),
    "index replaced by another document": (
        replaced_document("ensemble.json", "[]"), "weights", BROKEN, "does not list the files"),
    "index nested too deeply to be read": (
        replaced_document("ensemble.json", "[" * 100_000), "weights", BROKEN, "not a JSON document"),
    "model.json replaced by another document": (
        replaced_document("fold_0/model.json", "5"), "training", BROKEN, "does not describe a trained model"),
    "source of the training replaced": (
        replaced_document("fold_0/model.json", '{"sources": [1]}'), "training", BROKEN,
        "does not describe a trained model"),
    "file added to the statements": (
        added_statement("notes.txt", "reviewed"), "other statements", BROKEN, "notes.txt is no statement"),
    "statement added under another name": (
        added_statement("training-2.json", "training"), "other statements", BROKEN, "training-2.json is no statement"),
    "decision copied for another entry": (
        added_statement("gate-6.json", "gate-5"), "other statements", BROKEN, "gate-6.json is no statement"),
    "key named by the envelope altered": (
        bundle_edit("model", lambda b: b["dsseEnvelope"]["signatures"][0].update(keyid="0" * 64)),
        "model", BROKEN, "the envelope names the key 0000000000000000"),
    "signature dated in the future": (date_in_future, "model", BROKEN, "in the future"),
    "date without time zone": (date_without_zone, "gate-5", BROKEN, "has no zone"),
}  # fmt: skip


@pytest.mark.parametrize("name", TAMPERING)
def test_tampering_is_found(version, name):
    change, subject, state, note = TAMPERING[name]
    change(version)
    checks = {check.subject: check for check in verification.check_all(version.again(), trusting(version.key))}
    assert checks[subject].state == state
    assert note in checks[subject].note


def test_the_table_of_the_documentation_is_the_list_of_the_kinds():
    from pathlib import Path

    page = (Path(__file__).parents[3] / "docs" / "security.md").read_text()
    table = page.split("| kind | part | state | what is changed |\n", 1)[1].split("\n\n", 1)[0].splitlines()[1:]
    rows = [tuple(cell.strip() for cell in row.split("|")[1:4]) for row in table]
    assert sorted(rows) == sorted((name, subject, state) for name, (_, subject, state, _) in TAMPERING.items())
    assert len(rows) >= 30


def test_the_row_of_the_training_names_what_it_learned_from(tmp_path):
    version = Version(tmp_path)
    sources = [{"name": "luad", "digest": "6" * 32}]
    prior = {"name": "pan", "version": "4", "digest": "8" * 64}
    version.facts = dataclasses.replace(version.facts, transfer={"sources": sources, "prior": prior})
    notes = {check.subject: check.note for check in verification.check_lineage(version, trusting(version.key))}
    assert notes["training"].endswith("it learned from source luad, prior pan version 4")
    assert all("learned" not in note for subject, note in notes.items() if subject != "training")
