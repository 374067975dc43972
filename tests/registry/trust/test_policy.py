"""What a site requires of a bundle or a folder before it is used; tests/steps/test_verify.py: of a version."""

import pytest

from mcti.errors import DataError, Untrusted, UsageError
from mcti.params import TrustParams
from mcti.registry import ensemble_files
from mcti.registry.trust import bundle, policy
from mcti.registry.trust.verification import Check
from tests.registry.trust.factories import Version, new_key, public_pem


@pytest.fixture
def version(tmp_path):
    return Version(tmp_path / "version")


def params(tmp_path, require, key, roles="[model, lineage, gate]"):
    lines = "".join(f"    {line}\n" for line in public_pem(key).decode().splitlines())
    (tmp_path / "trust.yaml").write_text(f"keys:\n- id: site\n  roles: {roles}\n  public_key: |\n{lines}")
    return TrustParams(require=require, keys=str(tmp_path / "trust.yaml"))


def fetch(version, tmp_path, params):
    bundle.write(version.again(), tmp_path / "x.tar")
    return policy.fetch(str(tmp_path / "x.tar"), tmp_path / "scratch", params)


@pytest.mark.parametrize("require", ["none", "signature", "lineage"])
def test_a_signed_bundle_satisfies_every_policy(version, tmp_path, require):
    folder = fetch(version, tmp_path, params(tmp_path, require, version.key))
    assert ensemble_files.load(folder).digest == version.tags["mcti.digest"]


def test_a_bundle_with_altered_weights_satisfies_no_policy(version, tmp_path):
    path = version.ensemble / "fold_1" / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(DataError, match=r"weights: broken: fold_1/weights\.safetensors was altered"):
        fetch(version, tmp_path, TrustParams())


@pytest.mark.parametrize("removed", ["model", "training", "gate-5"])
def test_lineage_requires_every_statement_and_signature_only_that_of_the_model(version, tmp_path, removed):
    (version.signatures / f"{removed}.json").unlink()
    with pytest.raises(Untrusted, match=f"{removed}: unsigned"):
        fetch(version, tmp_path, params(tmp_path, "lineage", version.key))
    requires_signature = params(tmp_path, "signature", version.key)
    if removed == "model":
        with pytest.raises(Untrusted, match="model: unsigned"):
            fetch(version, tmp_path, requires_signature)
    else:
        assert fetch(version, tmp_path, requires_signature).is_dir()


def test_an_untrusted_key_is_refused_with_its_own_exit_code(version, tmp_path):
    with pytest.raises(Untrusted, match="model: unknown") as caught:
        fetch(version, tmp_path, params(tmp_path, "signature", new_key()))
    assert caught.value.exit_code == 12


def test_a_key_without_the_role_is_refused(version, tmp_path):
    with pytest.raises(DataError, match="it has no role gate"):
        fetch(version, tmp_path, params(tmp_path, "lineage", version.key, "[model, lineage]"))


def test_a_folder_satisfies_only_the_policy_none(version, tmp_path):
    assert policy.fetch(str(version.ensemble), tmp_path, TrustParams()) == version.ensemble
    with pytest.raises(Untrusted, match="a folder has no signature"):
        policy.fetch(str(version.ensemble), tmp_path, TrustParams(require="signature"))


def test_a_broken_check_is_reported_before_an_unsigned_one():
    checks = [Check(subject="a", state="unsigned"), Check(subject="b", state="broken", note="x")]
    with pytest.raises(DataError, match="b: broken: x"):
        policy.raise_unless_verified(checks, "there")


def test_the_tasks_of_a_pipeline_have_the_policy_of_its_settings(monkeypatch):
    trust = TrustParams(require="lineage", keys="s3://trust/keys.yaml")
    assert policy.task_environment(TrustParams()) == {}
    for name, value in policy.task_environment(trust).items():
        monkeypatch.setenv(name, value)
    assert policy.from_environment() == trust
    monkeypatch.setenv(policy.VARIABLE, '{"require": "everything"}')
    with pytest.raises(UsageError):
        policy.from_environment()
    monkeypatch.delenv(policy.VARIABLE)
    assert policy.from_environment() == TrustParams()
