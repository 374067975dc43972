"""When a retraining goes on and when not, on a real registry and S3."""

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
    """One more version of the sources, declared the newest."""
    folder.mkdir(exist_ok=True)
    (folder / "clinical.csv").write_text(text, encoding="utf-8")
    md5 = versions.publish(folder, REMOTE).md5
    versions.set_latest_version(REMOTE, INGEST.name, md5)
    return md5


@pytest.fixture
def champion(servers_of, tmp_path):
    """A champion trained on the newest version of the sources; the MD5 of that version."""
    md5 = publish(tmp_path / "raw", "patient_id\n")
    run = Run(tmp_path / "a run", seed=21)
    wanted = RegisterParams(name=NAME, experiment="tests")
    version = register(run.models, run.evaluation, run.validation, wanted, tmp_path / "v.json", origin=Origin(data=md5))
    with tracking.service() as client:
        client.set_registered_model_alias(NAME, models.CHAMPION, str(version.version))
    return md5


def look(tmp_path, run: str):
    return detect(NAME, INGEST, REMOTE, run, 48, tmp_path / "report.json")


def test_a_new_version_is_taken_by_one_run_and_the_other_yields(champion, tmp_path):
    md5 = publish(tmp_path / "raw", "patient_id\nP-1\n")
    first, second = look(tmp_path, "run-1"), look(tmp_path, "run-2")
    assert (first.retrain, second.retrain) == (True, False)
    assert second.reason == f"run run-1 is retraining {NAME}: this one yields"
    assert first.ingest.clinical == f"dvc+{REMOTE}/{md5}/clinical.csv"
    assert look(tmp_path, "run-1").go, "a task that is tried again has its own lease"
    assert not finish(NAME, REMOTE, "run-2"), "the lease is not theirs to give back"
    assert finish(NAME, REMOTE, "run-1")
    assert look(tmp_path, "run-2").go
    assert finish(NAME, REMOTE, "run-2")


def test_a_challenger_that_was_turned_down_is_not_trained_again(champion, tmp_path):
    md5 = publish(tmp_path / "raw", "patient_id\nP-2\n")
    run = Run(tmp_path / "another run", seed=22)
    wanted = RegisterParams(name=NAME, experiment="tests")
    register(run.models, run.evaluation, run.validation, wanted, tmp_path / "v.json", origin=Origin(data=md5))
    detected = look(tmp_path, "run-3")
    assert not detected.go
    assert detected.reason.startswith("nothing new")


def test_a_model_without_a_champion_is_an_error(champion, tmp_path):
    with pytest.raises(DataError, match="has no champion"):
        detect("never-trained", INGEST, REMOTE, "run-4", 48, tmp_path / "report.json")


def test_a_lease_left_by_a_killed_run_ends_by_itself(servers_of):
    address = f"{REMOTE}/leases/old.json"
    left = lease.Lease(holder="killed", since=time.time() - 3 * 3600)
    s3.put(address, storage.to_json(left.model_dump()).encode())
    assert lease.acquire(address, "run-5", 4).holder == "killed"
    assert lease.acquire(address, "run-5", 2).holder == "run-5"
    assert lease.acquire(address, "run-6", 2).holder == "run-5"
    assert lease.release(address, "run-5")
    assert not lease.release(address, "run-5")
