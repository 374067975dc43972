"""Signed statements of electronic signatures, and their part in the verification of a version."""

import pytest

from mcti.params import TrustParams
from mcti.registry import electronic_signatures
from mcti.registry.trust import approval_statement, policy, verification
from mcti.registry.trust.bundle import Bundle, write
from tests.registry.trust.factories import Version, new_key, trusting


class Signed(Version):
    """A version with the electronic signature of Anna, which its decision counted."""

    def __post_init__(self):
        super().__post_init__()
        self.approval = electronic_signatures.record(self._tagged(), "anna", "mlflow:5000", "approved")
        self.tags[self.approval.tag] = self.approval.model_dump_json()
        self.sign(approval_statement.name(self.approval), approval_statement.payload(self.approval))
        numbers = {"approved": ["anna"], "signatures": [self.approval.model_dump(mode="json")]}
        gates = [{"name": "approval", "verdict": "pass", "reason": "", "numbers": numbers}]
        self.decision = self.entry(evidence={**self.decision.evidence, "gates": gates})
        self.sign_all()

    def _tagged(self):
        class Tagged:
            name, version, tags = self.name, self.number, self.tags

        return Tagged


@pytest.fixture
def version(tmp_path):
    return Signed(tmp_path)


def approval(version, trust):
    """The check of the approval, after every other check has passed."""
    version.again().__dict__.pop("approvals", None)
    checks = verification.check_all(version, trust)
    (signed,) = [check for check in checks if check.subject.startswith("approval")]
    return signed


def test_a_signed_approval_is_verified_with_who_when_and_meaning(version):
    check = approval(version, trusting(version.key))
    assert (check.state, check.signer) == ("verified", "site")
    assert check.note.startswith("anna signed 20")
    assert check.note.endswith("UTC: approved (user of mlflow:5000)")


def edited(version):
    """The meaning in the tag, with a consistent hash: the statement was signed for another record."""
    record = version.approval.model_copy(update={"meaning": "reviewed only"}).with_hash()
    version.tags[version.approval.tag] = record.model_dump_json()
    version.decision = version.entry(evidence={"digest": version.tags["mcti.digest"], "params": {"margin": 0.0}})
    version.sign_all()
    version.write(approval_statement.name(record), version.read(approval_statement.name(version.approval)))


def edited_without_hash(version):
    record = version.approval.model_dump(mode="json") | {"who": "eve"}
    version.tags[version.approval.tag] = str(record).replace("'", '"')
    version.decision = version.entry(evidence={"digest": version.tags["mcti.digest"], "params": {"margin": 0.0}})
    version.sign_all()


def removed(version):
    del version.tags[version.approval.tag]


def unreadable(version):
    version.tags[version.approval.tag] = "yes"
    version.decision = version.entry(evidence={"digest": version.tags["mcti.digest"], "params": {"margin": 0.0}})
    version.sign_all()


def of_another_version(version):
    record = version.approval.model_copy(update={"address": "models:/lung-os/2"}).with_hash()
    version.tags[record.tag] = version.tags.pop(version.approval.tag)
    version.tags[record.tag] = record.model_dump_json()
    version.decision = version.entry(evidence={"digest": version.tags["mcti.digest"], "params": {"margin": 0.0}})
    version.sign_all()


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (edited, "meaning is 'reviewed only', signed was 'approved'"),
        (edited_without_hash, "eve: the record was edited"),
        (removed, "anna: the decision counted it, and its tag was removed"),
        (unreadable, "not the record of a signature"),
        (of_another_version, "it is about models:/lung-os/2"),
    ],
)
def test_an_altered_approval_is_broken(version, change, note):
    change(version)
    check = approval(version, trusting(version.key))
    assert check.state == "broken"
    assert note in check.note


def test_without_a_statement_it_is_unsigned_and_by_another_key_unknown(version):
    other = new_key()
    name = approval_statement.name(version.approval)
    version.sign(name, approval_statement.payload(version.approval), other)
    assert approval(version, trusting(version.key)).state == "unknown"
    (version.signatures / f"{name}.json").unlink()
    assert approval(version, trusting(version.key)).state == "unsigned"


def test_a_key_without_the_role_may_not_sign_approvals(version):
    check = approval(version, trusting(version.key, roles=["model", "lineage", "gate"]))
    assert check.state == "broken"
    assert "it has no role approval" in check.note


def test_a_signature_on_an_earlier_evaluation_is_not_part_of_the_verification(version):
    record = version.approval.model_copy(update={"evaluation": "e" * 32}).with_hash()
    version.tags[record.tag] = record.model_dump_json()
    assert approval(version, trusting(version.key)).state == "verified"


def test_a_bundle_has_the_approvals_that_its_decision_counted(version, tmp_path):
    write(version, tmp_path / "x.tar")
    bundle = Bundle(tmp_path / "x.tar", tmp_path / "scratch")
    checks = {check.subject: check.state for check in verification.check_all(bundle, trusting(version.key))}
    assert checks[approval_statement.name(version.approval)] == "verified"


def test_with_a_policy_only_approvals_of_a_trusted_key_count(version, tmp_path, monkeypatch):
    trust = trusting(version.key)
    monkeypatch.setattr(policy, "RegisteredVersion", lambda *_: version)
    monkeypatch.setattr(policy.trust_file, "load", lambda _: trust)
    strict = TrustParams(require="signature", keys="trust.yaml")
    tagged = version._tagged()
    assert policy.trusted_approvals(None, tagged, tmp_path, strict) == [version.approval]
    (version.signatures / f"{approval_statement.name(version.approval)}.json").unlink()
    assert policy.trusted_approvals(None, tagged, tmp_path, strict) == []
    assert policy.trusted_approvals(None, tagged, tmp_path, TrustParams()) == [version.approval]
