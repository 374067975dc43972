"""register, promote, verify, bundle and the policy on a real MLflow and S3."""

import json
import os
import subprocess

import pytest
import yaml

from mcti import s3
from mcti.cli import main
from mcti.errors import DataError, OperationalError, Untrusted
from mcti.params import PredictParams, TrustParams
from mcti.registry import ledger, models, tracking
from mcti.registry.trust import keys, policy
from mcti.steps.promote.step import promote, repair
from mcti.steps.verify import bundle, verify
from tests.registry.factories import Run
from tests.registry.trust.factories import write_site
from tests.steps import trusted_site
from tests.steps.trusted_site import PARAMS, promoted, registered

pytestmark = [pytest.mark.slow, pytest.mark.stack]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return Run(tmp_path_factory.mktemp("a run"))


@pytest.fixture
def site(tmp_path, monkeypatch):
    return trusted_site.activate(tmp_path, monkeypatch)


def exit_code(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return ended.value.code


def states(result):
    return {check.subject: check.state for check in result.checks}


def test_a_version_registered_and_promoted_with_a_key_is_verified(run, servers_of, site, tmp_path):
    result = registered(run, "signed", tmp_path)
    assert len(result.signer) == 64
    assert states(verify("models:/signed@challenger", site))["gate"] == "unsigned"
    promoted("signed", site)
    verified = verify("models:/signed@champion", site)
    assert set(states(verified).values()) == {"verified"}
    assert verified.exit_code == 0
    assert len(verified.checks) == 10
    assert "BEGIN" not in json.dumps(verified.model_dump(mode="json"))


def test_the_private_key_is_in_no_artifact(run, servers_of, site, tmp_path):
    import mlflow

    result = registered(run, "secret", tmp_path)
    addresses = [f"runs:/{result.run_id}/{name}" for name in ("trust", "card", "evaluation")] + ["models:/secret/1"]
    with tracking.service():
        for address in addresses:
            mlflow.artifacts.download_artifacts(artifact_uri=address, dst_path=str(tmp_path / "all"))
    secret = (tmp_path / "key.pem").read_text().splitlines()[1]
    files = [path for path in (tmp_path / "all").rglob("*") if path.is_file()]
    assert len(files) > 20
    assert not [path for path in files if secret in path.read_text("latin-1")]


def test_a_repeated_registration_signs_what_had_no_signature(run, servers_of, site, tmp_path, monkeypatch):
    monkeypatch.delenv(keys.KEY)
    assert registered(run, "later", tmp_path).signer == ""
    unsigned = verify("models:/later/1", site)
    assert states(unsigned)["model"] == "unsigned"
    assert unsigned.exit_code == 12
    monkeypatch.setenv(keys.KEY, str(tmp_path / "key.pem"))
    registered(run, "later", tmp_path)
    assert states(verify("models:/later/1", site))["registration"] == "verified"


def test_removed_tags_and_altered_artifacts_are_found(run, servers_of, site, tmp_path):
    result = registered(run, "harmed", tmp_path)
    with tracking.service() as client:
        client.set_model_version_tag("harmed", "1", "mcti.encoder", "other")
        client.log_dict(result.run_id, {"forged": True}, "card/card.json")
        client.delete_model_version_tag("harmed", "1", models.DIGEST)
    result = verify("models:/harmed/1", site)
    by_state = {state: [name for name, s in states(result).items() if s == state] for state in ("broken", "verified")}
    assert {"weights", "features", "registration", "evaluation"} <= set(by_state["broken"])
    assert {"model", "folds"} <= set(by_state["verified"])
    assert result.exit_code == 3


def test_an_edited_entry_of_the_ledger_breaks_decision_and_ledger(run, servers_of, site, tmp_path):
    registered(run, "edited-entry", tmp_path)
    promoted("edited-entry", site)
    address = f"{ledger.folder('edited-entry')}00000001.json"
    entry = ledger.read("edited-entry")[0]
    forged = entry.model_copy(update={"who": "mallory"}).with_hash()
    s3.put(address, ledger.to_bytes(forged))
    by_part = states(verify("models:/edited-entry/1", site))
    assert (by_part["gate-1"], by_part["ledger"], by_part["model"]) == ("broken", "broken", "verified")


def test_promote_and_predict_refuse_an_unsigned_version(run, servers_of, site, tmp_path, monkeypatch):
    from mcti.steps.predict.step import predict

    monkeypatch.delenv(keys.KEY)
    registered(run, "unsigned", tmp_path)
    with pytest.raises(Untrusted, match="model: unsigned"):
        promote("unsigned", PARAMS, trust=site)
    assert ledger.read("unsigned") == []
    monkeypatch.setenv(policy.VARIABLE, site.model_dump_json())  # as in the task of a pipeline
    with pytest.raises(Untrusted, match="model: unsigned"):
        promote("unsigned", PARAMS)
    with pytest.raises(Untrusted, match="model: unsigned"):
        predict("models:/unsigned@challenger", "no cohort", None, PredictParams(), tmp_path / "p.csv")


def test_a_promoted_version_is_served_and_an_unsigned_one_is_not(run, servers_of, site, tmp_path, monkeypatch):
    registered(run, "served", tmp_path)
    promoted("served", site)
    assert (policy.fetch("models:/served@champion", tmp_path / "a", site) / "ensemble.json").is_file()
    with tracking.service() as client:
        client.set_model_version_tag("served", "1", "mcti.contract", "failed")
    with pytest.raises(DataError, match="evaluation: broken"):
        policy.fetch("models:/served@champion", tmp_path / "b", site)


def test_a_bundle_verifies_without_any_service_and_on_the_command_line(run, servers_of, site, tmp_path, capsys):
    registered(run, "exported", tmp_path)
    promoted("exported", site)
    written = bundle("models:/exported@champion", tmp_path / "exported.tar")
    assert (written.name, written.version) == ("exported", 1)
    for name in [name for name in os.environ if name.startswith(("AWS_", "MLFLOW_", "MCTI_"))]:
        del os.environ[name]  # `servers_of` restores them
    os.environ["MLFLOW_TRACKING_URI"] = "http://192.0.2.1:1"  # reserved for documentation: no service
    arguments = ["verify", "models:/exported@champion", "--offline", str(tmp_path / "exported.tar")]
    trusted = ["--set", f"trust.keys={tmp_path / 'trust.yaml'}"]
    assert exit_code(*arguments, *trusted, "--json") == 0
    assert {check["state"] for check in json.loads(capsys.readouterr().out)["checks"]} == {"verified"}
    assert exit_code(*arguments) == 12
    assert "unknown" in capsys.readouterr().out
    assert exit_code("verify", "models:/other@champion", *arguments[2:]) == 3
    assert "the bundle is of models:/exported/1" in capsys.readouterr().err


def test_openssl_verifies_the_signature_with_the_public_key_alone(run, servers_of, site, tmp_path):
    """A stranger needs no mcti: the signed bytes and the signature are in the bundle."""
    import base64

    from mcti.registry.trust import envelope

    registered(run, "stranger", tmp_path)
    bundle("models:/stranger@challenger", tmp_path / "x.tar")
    subprocess.run(["tar", "-xf", str(tmp_path / "x.tar"), "-C", str(tmp_path)], check=True)
    tree = json.loads((tmp_path / "trust" / "model.json").read_text())["dsseEnvelope"]
    (tmp_path / "signed").write_bytes(envelope.pae(base64.b64decode(tree["payload"])))
    (tmp_path / "signature").write_bytes(base64.b64decode(tree["signatures"][0]["sig"]))
    subprocess.run(["openssl", "ec", "-in", str(tmp_path / "key.pem"), "-pubout", "-out", str(tmp_path / "p.pem")],
                   check=True, capture_output=True)  # fmt: skip
    command = ["openssl", "dgst", "-sha256", "-verify", str(tmp_path / "p.pem"), "-signature"]
    subprocess.run([*command, str(tmp_path / "signature"), str(tmp_path / "signed")], check=True, capture_output=True)


def test_serve_accepts_a_promoted_version_and_refuses_one_that_is_not(run, servers_of, site, tmp_path):
    from tests.registry.http_client import BIN, expected, post, records, running

    registered(run, "at-site", tmp_path)
    policy_of_site = ["--set", "trust.require=lineage", "--set", f"trust.keys={site.keys}"]
    words = [str(BIN / "mcti"), "serve", "--model", "models:/at-site@challenger", *policy_of_site]
    done = subprocess.run([*words, "--port", "0"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 12, done.stderr
    assert "gate: unsigned" in done.stderr, "no decision has promoted it"
    promoted("at-site", site)
    with running(tmp_path / "serve.log", *words) as address:
        status, response = post(address, {"dataframe_records": records(run)})
    assert status == 200
    ensemble = policy.fetch("models:/at-site@champion", tmp_path / "again", site)
    assert response["predictions"] == expected(run, ensemble)


def test_where_signing_fails_no_decision_is_recorded_and_no_alias_moves(run, servers_of, site, tmp_path, monkeypatch):
    registered(run, "no-kms", tmp_path)
    (tmp_path / "key.pub").write_text(yaml.safe_load((tmp_path / "trust.yaml").read_text())["keys"][0]["public_key"])
    with monkeypatch.context() as patch:
        patch.delenv(keys.KEY)
        patch.setenv(keys.COMMAND, "false")
        patch.setenv(keys.PUBLIC_KEY, str(tmp_path / "key.pub"))
        with pytest.raises(OperationalError, match="exit code 1"):
            promote("no-kms", PARAMS, trust=site)
    with tracking.service() as client:
        assert models.version_by_alias(client, "no-kms", models.CHAMPION) is None
    assert ledger.read("no-kms") == []
    promoted("no-kms", site)
    assert verify("models:/no-kms@champion", site).exit_code == 0


def end_after_the_entry(name, site, monkeypatch):
    """A promotion of the challenger that is interrupted between its entry and the aliases."""
    put = s3.put

    def ended_after(address, *arguments, **options):
        put(address, *arguments, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(s3, "put", ended_after)
        with pytest.raises(KeyboardInterrupt):
            promote(name, PARAMS, trust=site)


def test_a_promotion_that_ends_after_its_entry_has_its_signature(run, servers_of, site, tmp_path, monkeypatch):
    registered(run, "ended", tmp_path)
    end_after_the_entry("ended", site, monkeypatch)
    assert len(ledger.read("ended")) == 1
    repair("ended")
    verified = verify("models:/ended@champion", site)
    assert set(states(verified).values()) == {"verified"}


def test_the_next_promotion_completes_an_interrupted_one_only_if_a_trusted_key_signed_it(
    run, servers_of, site, tmp_path, monkeypatch
):
    registered(run, "interrupted", tmp_path)
    end_after_the_entry("interrupted", site, monkeypatch)
    cause = r"alias champion is not set, in the ledger version 1: the command of entry 1 \(promote\) was interrupted"
    (tmp_path / "other").mkdir()
    for untrusting in (TrustParams(), TrustParams(keys=str(write_site(tmp_path / "other")[1]))):
        with pytest.raises(DataError, match=f"{cause}.*`mcti promote --name interrupted --repair`"):
            promote("interrupted", PARAMS, trust=untrusting)
    with pytest.raises(DataError, match=cause):
        promote("interrupted", PARAMS, trust=site, dry_run=True)
    assert promote("interrupted", PARAMS, trust=site).reason == "version 1 is already the champion"
    assert len(ledger.read("interrupted")) == 1
    assert verify("models:/interrupted@champion", site).exit_code == 0


def test_an_alias_that_was_moved_manually_is_not_moved_by_the_next_promotion(run, servers_of, site, tmp_path):
    registered(run, "by-hand", tmp_path)
    promoted("by-hand", site)
    with tracking.service() as client:
        client.delete_registered_model_alias("by-hand", "champion")
    with pytest.raises(DataError, match="alias champion is not set, in the ledger version 1: it moved meanwhile"):
        promote("by-hand", PARAMS, trust=site)
