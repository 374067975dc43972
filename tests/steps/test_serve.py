"""mcti serve under the policy of a site: a process of its own, and requests to it. No registry is reachable."""

import json
import os
import subprocess
import tarfile

import pytest

from mcti.registry.trust import bundle
from tests.registry.http_client import BIN, expected, post, records, running
from tests.registry.trust.factories import Version, trusting, write_site

pytestmark = [pytest.mark.slow]
NO_SERVICE = {"MLFLOW_TRACKING_URI": "http://192.0.2.1:1", "OMP_NUM_THREADS": "1"}  # reserved for documentation


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    return Version(tmp_path_factory.mktemp("version"))


@pytest.fixture(scope="module")
def exported(version):
    """(the bundle, the trust file of a site that trusts its key)."""
    bundle.write(version, version.root / "version.tar")
    trust = version.root / "trust.yaml"
    trust.write_text(json.dumps(trusting(version.key).model_dump(mode="json", exclude_none=True)))  # JSON is YAML
    return version.root / "version.tar", trust


def command(model, keys, require="lineage"):
    words = ("serve", "--model", model, "--set", f"trust.require={require}", "--set", f"trust.keys={keys}")
    return [str(BIN / "mcti"), *map(str, words)]


def refusal(model, keys, require="lineage"):
    """(exit code, message) of a server that must not start."""
    words = [*command(model, keys, require), "--port", "0"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, env=os.environ | NO_SERVICE)
    assert "serving" not in done.stdout + done.stderr
    return done.returncode, done.stderr


def test_a_verified_bundle_is_served_with_the_bits_of_the_batch(version, exported, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NO_SERVICE["MLFLOW_TRACKING_URI"])
    with running(tmp_path / "log", *command(*exported)) as address:
        status, response = post(address, {"dataframe_records": records(version.run)})
        assert status == 200
        assert response["predictions"] == expected(version.run, version.ensemble)
        status, response = post(address, {"dataframe_records": [{"patient_id": "x", "genes": {"NOPE": 1.0}}]})
        assert status == 400
        assert "missing" in response["message"]


def test_a_bundle_signed_by_an_unknown_key_is_not_served(exported, tmp_path):
    _, other = write_site(tmp_path)
    code, message = refusal(exported[0], other)
    assert code == 12
    assert "model: unknown" in message


def test_an_altered_bundle_is_not_served_under_any_policy(version, exported, tmp_path):
    file, altered = exported[0], tmp_path / "altered.tar"
    with tarfile.open(file) as archive:
        archive.extractall(tmp_path / "x", filter="data")
    weights = tmp_path / "x" / "model" / "fold_1" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with tarfile.open(altered, "w") as archive:
        for path in sorted(p for p in (tmp_path / "x").rglob("*") if p.is_file()):
            archive.add(path, path.relative_to(tmp_path / "x").as_posix())
    for require in ("none", "signature", "lineage"):
        code, message = refusal(altered, exported[1], require)
        assert code == 3, message
        assert "fold_1/weights.safetensors was altered" in message


def test_a_folder_is_not_served_where_a_signature_is_required(version, exported):
    code, message = refusal(version.ensemble, exported[1], "signature")
    assert code == 12
    assert "a folder has no signature" in message
