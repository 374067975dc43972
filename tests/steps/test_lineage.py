"""The chain from a version to its source data on a real MLflow and S3, and the faults that break it."""

import contextlib
from pathlib import Path

import pytest

from mcti import pinned, s3, storage, versions
from mcti.errors import DataError, NotEnoughEvidence, Rejected, UsageError
from mcti.params import PromoteParams, RegisterParams
from mcti.registry import lineage as origins
from mcti.registry import models, tracking
from mcti.registry.evidence import Evidence
from mcti.registry.lineage import Origin
from mcti.steps.lineage import descendants, lineage
from mcti.steps.promote.step import promote
from mcti.steps.register import register
from tests.registry.factories import Run

pytestmark = [pytest.mark.slow, pytest.mark.stack]
REMOTE = "s3://mcti-data/lineage-test"
IMAGE = "registry.example/mcti-python@sha256:" + "0" * 64


@pytest.fixture
def version(servers_of, tmp_path, monkeypatch):
    """A version of a pipeline run on source data in the remote; (address, MD5 of the source data)."""
    sources = tmp_path / "raw"
    sources.mkdir()
    (sources / "clinical.csv").write_text("patient_id\n", encoding="utf-8")
    md5 = versions.publish(sources, REMOTE).md5
    run = Run(tmp_path / "a run", seed=11)
    origin = Origin(run="run-7", pipeline="mcti-training@sha256:" + "1" * 64, data=md5)
    monkeypatch.setenv("MCTI_IMAGE", IMAGE)
    params = RegisterParams(name="chained", experiment="tests")
    registered = register(run.models, run.evaluation, run.validation, params, tmp_path / "x.json", origin=origin)
    return f"models:/chained/{registered.version}", md5


def test_the_chain_of_a_version_is_listed_and_every_hash_verified(version):
    address, md5 = version
    links = {link.what: link for link in lineage(address, REMOTE).links}
    assert {name for name, link in links.items() if link.state == "verified"} >= {
        "weights", "evaluation", "data source",
    }  # fmt: skip
    # Read, not recomputed; the ledger has no entry yet.
    assert {links[name].state for name in ("MLflow run", "KFP run", "image", "pipeline", "data bags")} == {"recorded"}
    assert links["ledger"].state == "unknown"
    assert links["commit"].state in {"recorded", "dirty", "unknown"}
    assert links["data source"].value == md5
    assert links["KFP run"].value == "run-7"
    assert links["image"].value == IMAGE
    assert links["pipeline"].value.startswith("mcti-training@sha256:1")
    assert lineage(address).links[2].state == "recorded", "without a remote the source data are not read"


def test_features_are_verified_where_the_remote_has_them(version, tmp_path):
    address, _ = version
    features = tmp_path / "features"
    features.mkdir()
    (features / "s.h5").write_bytes(b"features")
    md5 = versions.publish(features, REMOTE).md5
    with tracking.service() as client:
        number = address.rpartition("/")[2]
        client.set_model_version_tag("chained", number, "mcti.data.data/features", md5)
        client.set_model_version_tag("chained", number, "mcti.data.data/cohort", "0" * 32 + ".dir")
    links = {link.what: link for link in lineage(address, REMOTE).links}
    assert links["data data/features"].state == "verified"
    assert (links["data data/cohort"].state, "dvc push" in links["data data/cohort"].note) == ("recorded", True)
    assert {link.state for link in lineage(address).links if link.what.startswith("data ")} == {"recorded"}
    (entry,) = pinned.manifest_entries(pinned.parse(f"dvc+{REMOTE}/{md5}"), storage.read_bytes).values()
    s3.put(pinned.object_address(REMOTE, entry), b"altered")
    with pytest.raises(DataError, match=r"data data/features: .*s\.h5"):
        lineage(address, REMOTE)


def test_a_model_of_a_dirty_tree_is_marked(servers_of, tmp_path, monkeypatch):
    run = Run(tmp_path / "a run", seed=12)
    monkeypatch.setattr(origins, "commit", lambda: "a" * 40 + "-dirty")
    monkeypatch.setattr(origins, "changed_files", lambda: ["params.yaml"])
    params = RegisterParams(name="dirty", experiment="tests")
    registered = register(run.models, run.evaluation, run.validation, params, tmp_path / "x.json")
    (link,) = [link for link in lineage(f"models:/dirty/{registered.version}").links if link.what == "commit"]
    assert (link.state, link.value, link.note) == ("dirty", "a" * 40 + "-dirty", "these files differed: params.yaml")


def test_versions_are_listed_by_their_run_data_and_image(version):
    address, md5 = version
    for source in ("kfp-run:run-7", f"data:{md5}", f"image:{IMAGE}"):
        assert address in descendants(source).versions
    assert descendants("kfp-run:run-8").versions == ()
    with pytest.raises(UsageError, match="is not a source"):
        descendants("weather:rain")


def test_versions_are_found_by_every_digest_of_their_data(version):
    address, md5 = version
    number, folder = address.rpartition("/")[2], "e" * 32
    with tracking.service() as client:
        for name, value in (("data/features", f"{folder}.dir"), ("transfer/prior", "f" * 32)):
            client.set_model_version_tag("chained", number, f"mcti.data.{name}", value)
        client.set_model_version_tag("chained", number, "mcti.recalibrated_on", "d" * 32)
        tags = client.get_model_version("chained", number).tags
    digests = [value for tag, value in tags.items() if tag.startswith("mcti.data.")]
    assert {md5, f"{folder}.dir"} < set(digests)
    for digest in (*digests, folder, "f" * 64, tags["mcti.folds"], "d" * 32, md5.removesuffix(".dir")):
        assert address in descendants(f"data:{digest}").versions, digest
    for digest in ("a" * 32, "a" * 64, tags["mcti.digest"], "e" * 31):
        assert descendants(f"data:{digest}").versions == (), digest


def test_a_source_altered_in_the_remote_breaks_the_chain(version):
    address, _ = version
    target = pinned.object_address(REMOTE, pinned.md5_hex(b"patient_id\n"))
    s3.put(target, b"patient_id\nP-1\n")
    try:
        with pytest.raises(DataError, match=r"data source: clinical\.csv: the bytes have MD5"):
            lineage(address, REMOTE)
    finally:
        s3.put(target, b"patient_id\n")


def test_an_evaluation_altered_in_the_store_breaks_the_chain(version, tmp_path):
    address, _ = version
    with tracking.service() as client:
        run_id = client.get_model_version("chained", address.rpartition("/")[2]).tags["mcti.run_id"]
        path = Path(client.download_artifacts(run_id, "evaluation/metrics.json", str(tmp_path)))
        whole = path.read_text(encoding="utf-8")
        path.write_text(whole.replace("0", "9", 1), encoding="utf-8")
        client.log_artifact(run_id, str(path), "evaluation")
    try:
        with pytest.raises(DataError, match="evaluation: the MD5 of its files is"):
            lineage(address)
    finally:
        path.write_text(whole, encoding="utf-8")
        with tracking.service() as client:
            client.log_artifact(run_id, str(path), "evaluation")


def test_an_evaluation_registered_before_its_hash_included_the_baselines_is_no_altered_file(servers_of, tmp_path):
    run = Run(tmp_path / "a run", seed=14)
    run.add_primary_baseline(risk=-run.time)
    params = RegisterParams(name="earlier", experiment="tests")
    number = register(run.models, run.evaluation, run.validation, params, tmp_path / "x.json").version
    address = f"models:/earlier/{number}"
    assert next(link for link in lineage(address).links if link.what == "evaluation").state == "verified"
    (run.evaluation / "baselines.csv").unlink()
    earlier = Evidence.read(run.models, run.evaluation, run.validation).md5
    with tracking.service() as client:
        client.set_model_version_tag("earlier", str(number), models.EVALUATION, earlier)
    with pytest.raises(DataError, match=r"earlier version of mcti and does not include baselines\.csv") as caught:
        lineage(address)
    assert caught.value.hint == "register the model again"


def test_weights_without_a_recorded_digest_are_not_verified(version):
    """Without the tag of the version a user with write access to the bucket could exchange them."""
    address, _ = version
    with tracking.service() as client:
        client.delete_model_version_tag("chained", address.rpartition("/")[2], models.DIGEST)
    with pytest.raises(DataError, match=r"weights: the version has no tag mcti\.digest"):
        lineage(address)


def test_an_alias_that_was_moved_manually_breaks_the_chain(version):
    address, _ = version
    with contextlib.suppress(Rejected, NotEnoughEvidence):
        promote("chained", PromoteParams(min_events=1, bootstrap=100))
    with tracking.service() as client:
        client.set_registered_model_alias("chained", "previous", address.rpartition("/")[2])
    with pytest.raises(DataError, match="ledger: alias previous"):
        lineage(address)


@pytest.mark.parametrize("address", ["models:/x", "models:/x@a@b", "x"])
def test_an_invalid_address_is_refused(address):
    with pytest.raises(UsageError, match="is not the address of a version"):
        lineage(address)
