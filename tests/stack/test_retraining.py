"""The conditions of a retraining, on a real registry and S3."""

import time

import pytest

from mcti import s3, storage, versions
from mcti.errors import DataError
from mcti.params import IngestParams, RegisterParams
from mcti.registry import lease, models, tracking
from mcti.registry.lineage import Origin
from mcti.steps.register import register
from mcti.steps.retraining import detect, finish
from tests.registry.factories import Run

pytestmark = [pytest.mark.slow, pytest.mark.stack]
REMOTE = "s3://mcti-data/retraining-test"
NAME = "retrained"
INGEST = IngestParams(name="retrained-cohort")


def publish(folder, text: str) -> str:
    """A new version of the source data, declared the newest."""
    folder.mkdir(exist_ok=True)
    (folder / "clinical.csv").write_text(text, encoding="utf-8")
    md5 = versions.publish(folder, REMOTE).md5
    versions.set_latest_version(REMOTE, INGEST.name, md5)
    return md5


@pytest.fixture
def champion(servers_of, tmp_path):
    """A champion trained on the newest version of the source data; the MD5 of that version."""
    md5 = publish(tmp_path / "raw", "patient_id\n")
    run = Run(tmp_path / "a run", seed=21)
    params = RegisterParams(name=NAME, experiment="tests")
    registered = register(
        run.models, run.evaluation, run.validation, params, tmp_path / "v.json", origin=Origin(data=md5)
    )
    with tracking.service() as client:
        client.set_registered_model_alias(NAME, models.CHAMPION, str(registered.version))
    return md5


def detect_for(tmp_path, run: str):
    return detect(NAME, INGEST, REMOTE, run, 48, tmp_path / "report.json")


def test_a_new_data_version_is_acquired_by_one_run_and_the_other_ends(champion, tmp_path):
    md5 = publish(tmp_path / "raw", "patient_id\nP-1\n")
    first, second = detect_for(tmp_path, "run-1"), detect_for(tmp_path, "run-2")
    assert (first.retrain, second.retrain) == (True, False)
    assert second.reason == f"run run-1 is retraining {NAME}: this run ends"
    assert first.ingest.clinical == f"dvc+{REMOTE}/{md5}/clinical.csv"
    assert detect_for(tmp_path, "run-1").retrain, "a retried task acquires its own lease again"
    assert not finish(NAME, REMOTE, "run-2"), "another run cannot release the lease"
    assert finish(NAME, REMOTE, "run-1")
    assert detect_for(tmp_path, "run-2").retrain
    assert finish(NAME, REMOTE, "run-2")


def test_the_data_of_a_rejected_challenger_are_not_trained_on_again(champion, tmp_path):
    md5 = publish(tmp_path / "raw", "patient_id\nP-2\n")
    run = Run(tmp_path / "another run", seed=22)
    params = RegisterParams(name=NAME, experiment="tests")
    register(run.models, run.evaluation, run.validation, params, tmp_path / "v.json", origin=Origin(data=md5))
    detected = detect_for(tmp_path, "run-3")
    assert not detected.retrain
    assert detected.reason.startswith("nothing new")


def test_a_model_without_a_champion_is_an_error(champion, tmp_path):
    with pytest.raises(DataError, match="has no champion"):
        detect("never-trained", INGEST, REMOTE, "run-4", 48, tmp_path / "report.json")


def test_the_lease_of_a_killed_run_expires(servers_of):
    address = f"{REMOTE}/leases/old.json"
    abandoned = lease.Lease(holder="killed", since=time.time() - 3 * 3600)
    s3.put(address, storage.to_json(abandoned.model_dump()).encode())
    assert lease.acquire(address, "run-5", 4).holder == "killed"
    assert lease.acquire(address, "run-5", 2).holder == "run-5"
    assert lease.acquire(address, "run-6", 2).holder == "run-5"
    assert lease.release(address, "run-5")
    assert not lease.release(address, "run-5")
