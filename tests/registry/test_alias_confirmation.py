"""Every consumer of an alias compares it with the ledger, on a real MLflow and S3."""

import logging
import re
from pathlib import Path

import pytest

import mcti
from mcti import s3, storage, versions
from mcti.errors import DataError, OperationalError
from mcti.params import IngestParams, TrainParams, TrustParams
from mcti.registry import (
    evaluations,
    ledger,
    models,
    monitoring_history,
    priors,
    promotion,
    recalibrated_versions,
    tracking,
)
from mcti.registry.gates import GateEvaluation
from mcti.registry.trust import policy
from mcti.steps import dossier, info, lineage, retraining, verify
from mcti.steps.promote.step import repair
from mcti.steps.test import development
from tests.registry.factories import Run
from tests.steps.trusted_site import registered

EVALUATION = GateEvaluation(outcome="promote", reason="test", difference=None, gates=())
ROOT = Path(mcti.__file__).parent
NAME = "confirmed"
EMPTY_FOLDER = "d751713988987e9331980363e24189ce.dir"  # MD5 of the manifest "[]"


@pytest.fixture(autouse=True)
def no_waits(monkeypatch):
    """Nothing moves an alias meanwhile, except in the test of it."""
    monkeypatch.setattr(models, "PROMOTION_WAITS", ())


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return [Run(tmp_path_factory.mktemp("a run"), seed=seed) for seed in (0, 1, 2)]


def with_champion(name, runs, folder):
    """Register three versions of a model and promote 1, then 2."""
    for run in runs:
        registered(run, name, folder)
    for number in (1, 2):
        with tracking.service() as client:
            entries = promotion.verified_entries(client, name)
            promotion.decide(client, entries, models.version_by_number(client, name, number), EVALUATION, {})


@pytest.fixture(scope="module")
def names():
    return []


@pytest.fixture
def promoted(servers_of, runs, names, tmp_path):
    """The name of a model with three versions, of which 2 is the champion; its aliases and head are restored."""
    if not names:
        with_champion(NAME, runs, tmp_path)
        names.append(NAME)
    with tracking.service() as client:
        head = ledger.head(client, NAME)
    yield NAME
    change(NAME, "champion", 2, head)
    change(NAME, "previous", 1)


def confirmed(name, alias="champion"):
    with tracking.service() as client:
        version = models.confirmed(client, name, alias)
    return None if version is None else int(version.version)


def change(name, alias="", version=None, head=None):
    """As a user of MLflow who may write: move or remove an alias, and set or remove the head of the ledger."""
    from mlflow import MlflowClient

    with tracking.service():
        client = MlflowClient()
        if alias and version is None:
            client.delete_registered_model_alias(name, alias)
        elif alias:
            client.set_registered_model_alias(name, alias, str(version))
        if head == "":
            client.delete_registered_model_tag(name, ledger.HEAD)
        elif head is not None:
            client.set_registered_model_tag(name, ledger.HEAD, head)


def recalibrated(address, folder):
    record = {"parent": "d", "cohort": "c", "cohort_md5": "0" * 32, "patients": [], "events": 1, "intercept": 0.0}
    storage.write_json(folder / "ensemble.json", {"members": {}, "recalibration": record | {"slope": 1.0}})
    recalibrated_versions.create(address, folder, "digest")


def detected(address, folder):
    remote = "s3://mcti-data/confirmed"
    s3.put(f"{remote}/files/md5/{EMPTY_FOLDER[:2]}/{EMPTY_FOLDER[2:]}", b"[]")
    versions.set_latest_version(remote, "tiny", EMPTY_FOLDER)
    retraining.detect(
        models.parse_address(address)[0], IngestParams(name="tiny"), remote, "r", 1.0, folder / "detected.json"
    )


def compared(address, folder):
    with evaluations.local_files(address, ["predictions.csv"], [], folder):
        pass


CONSUMERS = {
    "explain, monitor, test, search": models.fetch,
    "info": lambda address, folder: info.info(address, TrainParams()),
    "predict, serve": lambda address, folder: policy.fetch(address, folder, TrustParams()),
    "predict, serve, signature": lambda address, folder: policy.fetch(
        address, folder, TrustParams(require="signature")
    ),
    "compare": compared,
    "train.prior": priors.fetch_prior,
    "train.prior, settings": lambda address, folder: priors.version_of_prior(address),
    "monitor": monitoring_history.find,
    "development of test": lambda address, folder: development.read(address, None, folder, None, folder),
    "recalibration": recalibrated,
    "retraining": detected,
    "dossier": lambda address, folder: dossier.dossier(address, folder / "d.html"),
    "lineage": lambda address, folder: lineage.lineage(address),
    "bundle": lambda address, folder: verify.bundle(address, folder / "b.tar"),
}
MOVED = r"alias champion was version 3, in the ledger version 2: it moved meanwhile, or manually"


@pytest.mark.slow
@pytest.mark.stack
@pytest.mark.parametrize("consumer", CONSUMERS)
def test_every_consumer_refuses_an_alias_that_was_moved(promoted, tmp_path, consumer):
    change(promoted, "champion", 3)
    with pytest.raises(DataError, match=MOVED):
        CONSUMERS[consumer](f"models:/{promoted}@champion", tmp_path)


def test_no_other_module_reads_an_alias_without_the_ledger():
    """Those that move aliases compare them with the whole ledger; `mcti verify` reports a difference as a check."""
    readers = {
        (path.relative_to(ROOT).as_posix(), name)
        for path in ROOT.rglob("*.py")
        for name in re.findall(r"\b(\w*version_by_alias|unconfirmed_version_at)\(", path.read_text("utf-8"))
    }
    assert readers == {
        ("registry/models.py", "version_by_alias"),
        ("registry/models.py", "get_model_version_by_alias"),
        ("registry/models.py", "unconfirmed_version_at"),
        ("registry/rest_client.py", "get_model_version_by_alias"),
        ("registry/promotion.py", "version_by_alias"),
        ("steps/promote/step.py", "version_by_alias"),
        ("steps/verify.py", "unconfirmed_version_at"),
    }


@pytest.mark.slow
@pytest.mark.stack
def test_an_alias_that_the_ledger_confirms_is_read(promoted):
    assert (confirmed(promoted), confirmed(promoted, "previous"), confirmed(promoted, "challenger")) == (2, 1, 3)
    with tracking.service() as client:
        assert models.version_at(client, f"models:/{promoted}@champion").version == "2"


@pytest.mark.slow
@pytest.mark.stack
def test_a_model_that_was_never_registered_has_no_champion(promoted):
    with tracking.service() as client:
        assert models.confirmed(client, "never-registered", "champion") is None


TAMPERING = {
    "champion moved": ({"alias": "champion", "version": 3}, "alias champion was version 3, in the ledger version 2"),
    "champion moved back": (
        {"alias": "champion", "version": 1},
        "alias champion was version 1, in the ledger version 2",
    ),
    "champion removed": ({"alias": "champion"}, "alias champion was not set, in the ledger version 2"),
    "champion moved, head removed": (
        {"alias": "champion", "version": 3, "head": ""},
        "alias champion was version 3, in the ledger version 2",
    ),
    "champion moved, head of an earlier entry": (
        {"alias": "champion", "version": 1, "head": "1:" + "0" * 64},
        "alias champion was version 1, in the ledger version 2",
    ),
    "head of a later entry": ({"head": "9:" + "0" * 64}, "entry 9 of the ledger, .* was lost"),
    "hash of the head altered": ({"head": "2:" + "0" * 64}, "stores another hash of entry 2"),
    "head replaced by another text": ({"head": "last"}, "the tag mcti.ledger_head .* does not name an entry"),
}


@pytest.mark.slow
@pytest.mark.stack
def test_a_reader_after_an_interrupted_promotion_learns_the_command_that_completes_it(promoted):
    first = ledger.read(promoted)[0]
    change(promoted, "champion", 1, head=f"1:{first.hash}")
    cause = r"the command of entry 2 \(promote\) was interrupted or is in progress, or it was moved manually"
    with pytest.raises(DataError, match=f"{cause}.*`mcti promote --name {promoted} --repair`"):
        confirmed(promoted)
    repair(promoted)
    assert confirmed(promoted) == 2


@pytest.mark.slow
@pytest.mark.stack
@pytest.mark.parametrize(("changes", "message"), TAMPERING.values(), ids=TAMPERING)
def test_a_changed_alias_or_head_is_found(promoted, changes, message):
    change(promoted, **changes)
    with pytest.raises(DataError, match=message):
        confirmed(promoted)


@pytest.mark.slow
@pytest.mark.stack
def test_a_promotion_between_its_entry_and_its_aliases_is_awaited(promoted, monkeypatch):
    change(promoted, "champion", 1)
    monkeypatch.setattr(models, "PROMOTION_WAITS", (0.1, 0.4))
    monkeypatch.setattr(models.time, "sleep", lambda seconds: seconds < 0.4 or change(promoted, "champion", 2))
    assert confirmed(promoted) == 2


@pytest.mark.slow
@pytest.mark.stack
def test_a_moved_previous_is_found_and_repaired(promoted):
    change(promoted, "previous", 3)
    assert confirmed(promoted) == 2
    with pytest.raises(DataError, match="alias previous was version 3, in the ledger version 1"):
        confirmed(promoted, "previous")
    repair(promoted)
    assert confirmed(promoted, "previous") == 1


@pytest.mark.slow
@pytest.mark.stack
def test_an_entry_whose_contents_are_not_those_of_its_hash_is_found(promoted, request):
    entry = ledger.read(promoted)[-1]
    address = f"{ledger.folder(promoted)}00000002.json"
    s3.put(address, ledger.to_bytes(entry.model_copy(update={"champion": 3})))
    request.addfinalizer(lambda: s3.put(address, ledger.to_bytes(entry)))
    change(promoted, "champion", 3)
    with pytest.raises(DataError, match="entry 2 was edited"):
        confirmed(promoted)


@pytest.mark.slow
@pytest.mark.stack
def test_a_model_without_a_ledger_is_read_as_mlflow_has_it(servers_of, runs, tmp_path, monkeypatch):
    registered(runs[0], "no-ledger", tmp_path)
    change("no-ledger", "champion", 1)
    assert confirmed("no-ledger") == 1
    monkeypatch.setenv("MCTI_LEDGER", "s3://no-such-bucket")
    assert confirmed("no-ledger") == 1


@pytest.mark.slow
@pytest.mark.stack
def test_without_keys_for_s3_the_alias_is_a_warning_and_without_an_answer_an_error(promoted, monkeypatch, caplog):
    with monkeypatch.context() as patch:
        for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_PROFILE", "AWS_ACCESS_KEY_ID"):
            patch.delenv(name, raising=False)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
        patch.setenv("AWS_CONFIG_FILE", "/nonexistent")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        with caplog.at_level(logging.WARNING):
            assert confirmed(promoted) == 2
        assert "alias champion of model" in caplog.text
        assert "is not confirmed by the ledger: there are no keys for S3" in caplog.text
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(OperationalError, match="S3 does not answer"):
        confirmed(promoted)
