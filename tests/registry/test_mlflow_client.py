"""MLflow's client on a real server that keeps its files in a real S3."""

import os
import socket
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

from mcti.registry import mlflow_client, tracking

MULTIPART = ("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD")


@pytest.fixture
def without_s3(servers_of, monkeypatch):
    """This process cannot reach S3 and has no keys, like a pod whose NetworkPolicy permits MLflow only."""
    port, attempts = urlsplit(os.environ["AWS_ENDPOINT_URL_S3"]).port, []
    connect = socket.socket.connect

    def refused(self, address):
        if address[1:] and address[1] == port:
            attempts.append(address)
            raise AssertionError("this process may not reach S3")  # an OSError would be retried for minutes
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", refused)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    return attempts


@pytest.mark.slow
@pytest.mark.stack
def test_files_are_transferred_through_the_server_only(without_s3, tmp_path, monkeypatch):
    for name in MULTIPART:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # a request to S3 fails the test at once
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE", str(5 << 20))  # of MLflow: 500 MB
    weights = tmp_path / "weights.bin"
    weights.write_bytes(os.urandom(6 << 20))
    with tracking.service() as client, tracking.run("proxied", "files", {}) as run_id:
        tracking.log_files({weights: "model"})
        copy = mlflow_client.download(f"runs:/{run_id}/model/weights.bin", tmp_path / "copy")
        root = client.get_run(run_id).info.artifact_uri
    assert root.startswith("mlflow-artifacts:/")
    assert copy.read_bytes() == weights.read_bytes()
    assert without_s3 == []


def test_a_value_in_the_environment_is_kept(monkeypatch):
    monkeypatch.setenv(MULTIPART[0], "true")
    monkeypatch.delenv(MULTIPART[1], raising=False)
    mlflow_client.prepare()
    assert [os.environ[name] for name in MULTIPART] == ["true", "false"]


def test_every_session_of_mlflow_announces_long_waits():
    """As MLflow 3.17.2 creates its sessions; another release may use another class."""
    mlflow_client.prepare()
    from mlflow.utils import request_utils

    session = request_utils._get_request_session(1, 1, 0.0, (500,), True, True)
    assert type(session.get_adapter("http://127.0.0.1")).__name__ == "AnnouncingAdapter"
    assert type(session.get_adapter("https://127.0.0.1")).__name__ == "AnnouncingAdapter"


def test_a_second_preparation_has_no_effect():
    mlflow_client.prepare()
    from mlflow.utils import request_utils

    first = request_utils.TCPKeepAliveHTTPAdapter
    mlflow_client.prepare()
    assert request_utils.TCPKeepAliveHTTPAdapter is first


def test_no_module_imports_mlflow_before_its_client_is_set_up():
    modules = "mcti.registry.models, mcti.registry.evidence, mcti.steps.promote.step"
    code = f"import sys, {modules}; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
