"""The commands on the ledger, on a real MLflow and S3: signed entries, an older ledger without signatures, export."""

import csv
import json

import boto3
import pytest
import yaml
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives import serialization

from mcti import s3
from mcti.cli import main
from mcti.errors import DataError, Untrusted, UsageError
from mcti.params import TrustParams
from mcti.registry import ledger, ledger_anchors, models, promotion, tracking
from mcti.registry.gates import GateEvaluation
from mcti.registry.trust import keys
from mcti.steps.ledger import champion_at, export_ledger, last_anchor, show_ledger, sign_ledger, verify_ledger
from mcti.steps.promote.step import promote, repair, rollback
from mcti.steps.verify import verify
from tests.registry.factories import Run
from tests.registry.trust.factories import new_key, public_pem, sign_entry
from tests.steps import trusted_site
from tests.steps.trusted_site import PARAMS, promoted, registered

pytestmark = [pytest.mark.slow, pytest.mark.stack]
EVALUATION = GateEvaluation(outcome="promote", reason="test", difference=None, gates=())


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return [Run(tmp_path_factory.mktemp("a run"), seed=seed) for seed in (0, 1)]


@pytest.fixture
def site(tmp_path, monkeypatch, servers_of):
    return trusted_site.activate(tmp_path, monkeypatch)


def decided(name, version):
    """A promotion without gates, as by an earlier version of mcti: its entry has no signature."""
    with tracking.service() as client:
        entries = promotion.verified_entries(client, name)
        return promotion.decide(client, entries, models.version_by_number(client, name, version), EVALUATION, {})


def exit_code(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return ended.value.code


def test_promotion_and_rollback_are_signed_and_the_ledger_is_verified(runs, site, tmp_path):
    for run in runs:
        registered(run, "entries", tmp_path)
    decided_first = promote("entries", PARAMS, version=1, trust=site)
    assert decided_first.ledger_entry == 1
    with tracking.service() as client:
        entries = promotion.verified_entries(client, "entries")
        version = models.version_by_number(client, "entries", 2)
        with pytest.raises(UsageError, match="entry 1 is signed, and no signing key is configured"):
            promotion.decide(client, entries, version, EVALUATION, {})
    assert len(ledger.read("entries")) == 1
    result = verify_ledger("entries", site)
    assert (result.signature.state, result.signature.signer) == ("verified", "site")
    assert result.lines()[0].endswith("[verified by site]")


def test_a_rollback_needs_the_role_ledger_and_writes_nothing_without_it(runs, site, tmp_path):
    for run in runs:
        registered(run, "roles", tmp_path)
    for version in (1, 2):
        decided("roles", version)
    trust_file = tmp_path / "trust.yaml"
    complete = trust_file.read_text()
    tree = yaml.safe_load(complete)
    tree["keys"][0]["roles"].remove("ledger")
    trust_file.write_text(yaml.safe_dump(tree))
    with pytest.raises(Untrusted, match=r"this rollback would not be accepted: .*no role ledger.*nothing was written"):
        rollback("roles", trust=site)
    assert len(ledger.read("roles")) == 2
    trust_file.write_text(complete)
    assert rollback("roles", trust=site).champion == 1
    assert verify_ledger("roles", site).signatures[-1].state == "verified"


def test_a_ledger_without_signatures_is_read_reported_and_pinned(runs, site, tmp_path, monkeypatch):
    for run in runs:
        registered(run, "older", tmp_path)
    decided("older", 1)
    result = verify_ledger("older", TrustParams())
    assert result.signature.state == "unsigned"
    assert "signatures: unsigned" in result.lines()[-1]
    with pytest.raises(Untrusted, match=r"unsigned.*`mcti ledger sign` pins"):
        verify_ledger("older", site)
    with pytest.raises(Untrusted, match=r"ledger: unsigned: .*`mcti ledger sign`"):
        promote("older", PARAMS, version=2, trust=site)
    with monkeypatch.context() as patch:
        patch.delenv(keys.KEY)
        with pytest.raises(UsageError, match="no signing key is configured"):
            sign_ledger("older", "reviewed", site)
    with pytest.raises(UsageError, match="no reason is given"):
        sign_ledger("older", " ", site)
    signed = sign_ledger("older", "reviewed by anna", site)
    assert (signed.ledger_entry, signed.pinned) == (2, {"unsigned": 1})
    verified = verify_ledger("older", site)
    assert verified.signature.note == "1 entries before entry 2 have no verified signature; entry 2 pins them"
    assert verified.entries[-1].champion == 1
    assert {check.subject: check.state for check in verify("models:/older/1", site).checks}["ledger"] == "verified"


def test_an_empty_ledger_is_not_signed(runs, site, tmp_path):
    registered(runs[0], "empty", tmp_path)
    with pytest.raises(DataError, match="the ledger has no entry"):
        sign_ledger("empty", "reviewed", site)


def test_the_champion_at_a_time_and_the_export_for_auditors(runs, site, tmp_path, capsys):
    for run in runs:
        registered(run, "history", tmp_path)
    first, second = decided("history", 1), decided("history", 2)
    at = champion_at("history", second.time, site)
    assert (at.champion, at.previous, at.entry, at.since) == (2, 1, 2, second.time)
    assert champion_at("history", "2001-01-01", site).champion is None
    today = champion_at("history", first.time[:10], site)
    assert [line.split()[1] for line in today.changes] == ["1", "2"]
    assert exit_code("ledger", "show", "--name", "history", "--at", second.time, "--json") == 0
    assert json.loads(capsys.readouterr().out)["champion"] == 2
    assert exit_code("ledger", "show", "--name", "history", "--at", "soon") == 2
    assert exit_code("ledger", "export", "--name", "history", "--out", str(tmp_path / "l.csv")) == 0
    with (tmp_path / "l.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["number"], row["champion"], row["signature"]) for row in rows] == [
        ("1", "1", "unsigned"), ("2", "2", "unsigned")]  # fmt: skip


def test_a_ledger_with_faults_is_exported_and_the_exit_code_is_3(runs, site, tmp_path):
    registered(runs[0], "faulty", tmp_path)
    decided("faulty", 1)
    with tracking.service() as client:
        client.set_registered_model_tag("faulty", "mcti.ledger_head", f"1:{'0' * 64}")
    result = export_ledger("faulty", tmp_path / "l.csv", site)
    assert result.exit_code == 3
    assert "lost or rewritten" in result.faults[0]
    assert result.lines() == ["faulty: 1 rows, 1 faults; signatures: unsigned", f"FAULT {result.faults[0]}"]
    assert (tmp_path / "l.csv").read_text().count("\n") == 2


def rewrite(name, key_file):
    """As the holder of the key and of all accounts: every entry with another reason, consistent, signed, and stored."""
    key = serialization.load_pem_private_key(key_file.read_bytes(), None)
    before, rewritten = "0" * 64, []
    for entry in ledger.read(name):
        changed = entry.model_copy(update={"before": before, "evidence": {"reason": "another"}}).with_hash()
        rewritten.append(sign_entry(changed, key))
        before = changed.hash
        s3.put(f"{ledger.folder(name)}{changed.number:08d}.json", ledger.to_bytes(rewritten[-1]))
    with tracking.service() as client:
        client.set_registered_model_tag(name, "mcti.ledger_head", f"{len(rewritten)}:{before}")


def test_a_whole_ledger_that_the_holder_of_the_key_rewrote_is_found_by_its_anchors(runs, site, tmp_path, monkeypatch):
    registered(runs[0], "anchored", tmp_path)
    promoted("anchored", site)
    printed = last_anchor("anchored").text.splitlines()[-1]
    result = verify_ledger("anchored", site, anchor=printed)
    assert (result.anchors.number, result.anchors.locked) == (1, True)
    assert exit_code("ledger", "verify", "--name", "anchored", "--anchor", printed) == 0
    rewrite("anchored", tmp_path / "key.pem")
    with pytest.raises(DataError, match=r"the ledger was rewritten: the anchor in s3://mcti-anchors/anchored/"):
        verify_ledger("anchored", site)
    assert states(verify("models:/anchored/1", site))["ledger"] == "broken"
    (address,) = s3.addresses(ledger_anchors.folder("anchored"))
    bucket, key = s3.split_address(address)
    (version,) = boto3.client("s3").list_object_versions(Bucket=bucket, Prefix=key)["Versions"]
    with pytest.raises(ClientError, match="AccessDenied"):
        s3.client().delete_object(Bucket=bucket, Key=key, VersionId=version["VersionId"])
    s3.remove(address)  # a deletion only adds a mark
    assert s3.addresses(ledger_anchors.folder("anchored")) == []
    with pytest.raises(DataError, match="the ledger was rewritten"):
        promote("anchored", PARAMS, version=1, trust=site)
    monkeypatch.delenv(ledger_anchors.VARIABLE)  # a site without a bucket for anchors
    assert verify_ledger("anchored", site).faults == ()
    with pytest.raises(DataError, match="the ledger was rewritten: the anchor in --anchor"):
        verify_ledger("anchored", site, anchor=printed)
    by_part = states(verify("models:/anchored/1", site, anchor=printed))
    assert (by_part["ledger"], by_part["anchor"]) == ("verified", "broken")


def test_a_missing_anchor_is_stored_by_the_repair(runs, site, tmp_path, monkeypatch):
    registered(runs[0], "late", tmp_path)
    with monkeypatch.context() as patch:
        patch.delenv(ledger_anchors.VARIABLE)
        decided("late", 1)
    assert show_ledger("late", site).anchors.number == 0
    repair("late")
    assert show_ledger("late", site).anchors.number == 1


def states(result):
    return {check.subject: check.state for check in result.checks}


def test_an_entry_of_an_unknown_key_is_reported_and_refused_by_policy(runs, site, tmp_path):
    registered(runs[0], "foreign", tmp_path)
    promoted("foreign", site)
    other = new_key()
    text = "".join(f"    {line}\n" for line in public_pem(other).decode().splitlines())
    (tmp_path / "other.yaml").write_text(f"keys:\n- id: other\n  roles: [gate]\n  public_key: |\n{text}")
    elsewhere = TrustParams(require="lineage", keys=str(tmp_path / "other.yaml"))
    assert show_ledger("foreign", elsewhere).signature.state == "unknown"
    with pytest.raises(Untrusted, match="is not trusted"):
        verify_ledger("foreign", elsewhere)
    assert verify_ledger("foreign", TrustParams()).signature.state == "unknown"
