"""Temporary failures of services: real S3 and MLflow behind a proxy with faults. Times are scaled down."""

import os
import threading
import time
from contextlib import ExitStack

import pytest

from mcti import storage, versions
from mcti.errors import OperationalError
from mcti.registry import tracking
from mcti.storage import tree_md5
from tests.fault_proxy import in_front_of

pytestmark = [pytest.mark.slow, pytest.mark.stack]
REMOTE = "s3://mcti-data/faults-test"


@pytest.fixture
def s3(servers_of, monkeypatch):
    """The faults of the proxy between this process and S3, with the retries of a task on a cluster."""
    with in_front_of(os.environ["AWS_ENDPOINT_URL_S3"]) as (address, faults):
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", address)
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "12")
        yield faults


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "features"
    folder.mkdir()
    for number in range(6):
        (folder / f"{number}.h5").write_bytes(bytes([number]) * 1000)
    return folder


def test_every_third_request_refused_changes_nothing(s3, folder):
    s3.refuse_every = 3
    results = versions.publish(folder, REMOTE + "/third")
    with storage.local_copy(results.address) as copy:
        assert tree_md5(copy) == tree_md5(folder)
    assert s3.requests > 20, "requests went through the proxy"


def test_a_slow_service_changes_nothing(s3, folder):
    s3.delay_seconds = 0.2
    results = versions.publish(folder, REMOTE + "/slow")
    assert versions.verify(results.address) == []


def test_a_temporary_outage_of_s3_is_waited_for(s3, folder):
    s3.down_until = time.monotonic() + 4
    results = versions.publish(folder, REMOTE + "/down")
    assert time.monotonic() > s3.down_until
    assert versions.verify(results.address) == []


def test_a_permanent_outage_of_s3_is_one_clear_error_and_no_version(s3, folder, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    s3.down_until = time.monotonic() + 600
    with pytest.raises(OperationalError, match="S3 answered"):
        versions.publish(folder, REMOTE + "/gone")
    s3.down_until = 0.0
    assert not [a for a in storage.addresses(REMOTE + "/gone") if a.endswith(".dir")]


def test_a_temporary_outage_of_mlflow_is_waited_for(servers_of, monkeypatch):
    server = os.environ["MLFLOW_TRACKING_URI"]
    with in_front_of(server) as (address, _):
        port = int(address.rpartition(":")[2])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")  # no server listens on this port now
    with pytest.raises(OperationalError, match="MLflow does not answer"), tracking.service():
        pass
    monkeypatch.setenv("MCTI_PATIENCE_SECONDS", "30")
    with ExitStack() as later:
        back = threading.Timer(2, lambda: later.enter_context(in_front_of(server, port)))
        back.start()
        with tracking.service() as client:
            assert client.search_experiments()
        back.join()
