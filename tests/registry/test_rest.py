"""Requests to a recording server: credentials, TLS and retries as MLflow's client reads them from the environment."""

import base64
import json
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from urllib3.connection import HTTPConnection

from mcti.errors import OperationalError
from mcti.registry import rest
from mcti.registry.rest import ApiError, Server


@contextmanager
def recording(*answers):
    """(address, requests) of a server that gives each (status, body) once, the last one for ever."""
    requests, left = [], list(answers)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            requests.append((self.command, self.path, dict(self.headers), body))
            status, text = left.pop(0) if len(left) > 1 else left[0]
            self.send_response(status)
            self.send_header("Content-Length", len(text))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *arguments):
            """No log line per request."""

    for verb in ("GET", "POST", "PATCH", "DELETE"):
        setattr(Handler, f"do_{verb}", Handler.answer)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", requests
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "0")
    monkeypatch.setenv("HOME", str(tmp_path))  # no credentials of the user


def header(monkeypatch, **environment):
    """The Authorization header of one request."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with recording((200, "{}")) as (address, requests):
        Server(address).call("GET", "runs/get", {"run_id": "1"})
    return requests[0][2].get("Authorization")


def test_a_request_without_credentials_has_no_header(monkeypatch):
    assert header(monkeypatch) is None


def test_user_and_password_come_before_a_token(monkeypatch):
    pair = {"MLFLOW_TRACKING_USERNAME": "anna", "MLFLOW_TRACKING_PASSWORD": "pä:ss"}
    authorization = header(monkeypatch, MLFLOW_TRACKING_TOKEN="t", **pair)
    assert authorization.startswith("Basic ")
    assert base64.b64decode(authorization.removeprefix("Basic ")).decode() == "anna:pä:ss"


def test_a_token(monkeypatch):
    assert header(monkeypatch, MLFLOW_TRACKING_TOKEN="abc") == "Bearer abc"


def test_the_credentials_file_of_mlflow(monkeypatch, tmp_path):
    (tmp_path / ".mlflow").mkdir()
    text = "[mlflow]\nmlflow_tracking_username = anna\nmlflow_tracking_password = secret\n"
    (tmp_path / ".mlflow" / "credentials").write_text(text)
    assert base64.b64decode(header(monkeypatch).removeprefix("Basic ")) == b"anna:secret"


def test_a_call_sends_parameters_or_json_without_fields_that_are_none():
    with recording((200, '{"a": 1}')) as (address, requests):
        server = Server(f"{address}/behind/")  # a server behind a proxy has a path
        assert server.call("GET", "runs/get", {"run_id": "a b", "other": None}) == {"a": 1}
        server.call("POST", "runs/set-tag", {"key": "k", "value": "ü", "run_name": None})
    assert requests[0][:2] == ("GET", "/behind/api/2.0/mlflow/runs/get?run_id=a+b")
    assert requests[1][:2] == ("POST", "/behind/api/2.0/mlflow/runs/set-tag")
    assert json.loads(requests[1][3]) == {"key": "k", "value": "ü"}


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_transient_answer_is_repeated_for_every_method(status):
    with recording((status, "busy"), (status, "busy"), (200, '{"ok": true}')) as (address, requests):
        assert Server(address).call("POST", "runs/create", {}) == {"ok": True}
    assert len(requests) == 3


def test_a_server_that_stays_unavailable_is_an_error_after_all_tries(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    with recording((503, "busy")) as (address, requests), pytest.raises(ApiError, match="503") as caught:
        Server(address).call("GET", "runs/get", {})
    assert len(requests) == 3
    assert caught.value.error_code == "INTERNAL_ERROR"


@pytest.mark.parametrize(
    ("status", "text", "code"),
    [
        (404, '{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no run 1"}', "RESOURCE_DOES_NOT_EXIST"),
        (400, '{"error_code": "INVALID_PARAMETER_VALUE", "message": "no"}', "INVALID_PARAMETER_VALUE"),
        (401, "You are not authenticated.\nSee the documentation", "UNAUTHENTICATED"),
        (403, "Permission denied", "PERMISSION_DENIED"),
        (404, "<html>a proxy</html>", "ENDPOINT_NOT_FOUND"),
    ],
)
def test_a_refusal_has_the_code_of_the_server(status, text, code):
    with recording((status, text)) as (address, requests), pytest.raises(ApiError) as caught:
        Server(address).call("GET", "runs/get", {})
    assert caught.value.error_code == code
    assert "\n" not in caught.value.message
    assert len(requests) == 1


def test_an_answer_that_is_not_json_is_an_error():
    with recording((200, "<html>a login page</html>")) as (address, _), pytest.raises(ApiError, match="not a JSON"):
        Server(address).call("GET", "runs/get", {})


def test_tls_settings(monkeypatch, tmp_path):
    assert rest.tls() == {"verify": True, "cert": None}
    monkeypatch.setenv("MLFLOW_TRACKING_CLIENT_CERT_PATH", "client.pem")
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", "authority.pem")
    assert rest.tls() == {"verify": "authority.pem", "cert": "client.pem"}
    monkeypatch.setenv("MLFLOW_TRACKING_INSECURE_TLS", "true")
    with pytest.raises(OperationalError, match="are both set"):
        rest.tls()
    monkeypatch.delenv("MLFLOW_TRACKING_SERVER_CERT_PATH")
    assert rest.tls()["verify"] is False


@pytest.mark.parametrize("name", ["MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"])
def test_a_limit_that_is_no_number_is_one_clear_error(monkeypatch, name):
    monkeypatch.setenv(name, "many")
    with pytest.raises(OperationalError, match=f"'many' is not a number in {name}"):
        Server("http://127.0.0.1:1")


def test_the_defaults_are_those_of_mlflow(monkeypatch):
    """As MLflow 3.17.2 declares them."""
    from mlflow import environment_variables as mlflow
    from mlflow.utils.request_utils import _TRANSIENT_FAILURE_RESPONSE_CODES

    for name in ("BACKOFF_FACTOR", "BACKOFF_JITTER", "TIMEOUT", "MAX_RETRIES"):
        monkeypatch.delenv(f"MLFLOW_HTTP_REQUEST_{name}", raising=False)
    server = Server("http://127.0.0.1:1")
    assert server._timeout == mlflow.MLFLOW_HTTP_REQUEST_TIMEOUT.default
    assert server._retry.total == mlflow.MLFLOW_HTTP_REQUEST_MAX_RETRIES.default
    assert server._retry.backoff_factor == mlflow.MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR.default
    assert server._retry.backoff_jitter == mlflow.MLFLOW_HTTP_REQUEST_BACKOFF_JITTER.default
    assert set(server._retry.status_forcelist) == set(_TRANSIENT_FAILURE_RESPONSE_CODES)


@pytest.mark.parametrize("name", rest.FULL_CLIENT_ONLY)
def test_settings_for_which_mlflow_s_own_client_is_used(monkeypatch, name):
    assert rest.supported("http://mlflow:5000")
    monkeypatch.setenv(name, "true")
    assert not rest.supported("http://mlflow:5000")


@pytest.mark.parametrize("uri", ["sqlite:///mlflow.db", "databricks", "file:///tmp/mlruns", "/tmp/mlruns"])
def test_addresses_for_which_mlflow_s_own_client_is_used(uri):
    assert not rest.supported(uri)


@pytest.mark.parametrize(("variables", "idle"), [({}, 30), ({"MLFLOW_HTTP_TCP_KEEPALIVE_IDLE": "7"}, 7)])
def test_an_idle_connection_is_probed(monkeypatch, variables, idle):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    options = socket_options(monkeypatch)
    assert options == (1, idle, 10, 3)


def test_probes_can_be_switched_off(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_TCP_KEEPALIVE", "false")
    assert socket_options(monkeypatch)[0] == 0


def socket_options(monkeypatch):
    """Keep-alive of a connection: on, seconds until the first probe, seconds between probes, number of probes."""
    measured, connect = [], HTTPConnection.connect

    def connected(self):
        connect(self)
        names = (socket.SOL_SOCKET, socket.SO_KEEPALIVE), *((socket.IPPROTO_TCP, getattr(socket, f"TCP_KEEP{name}"))
                 for name in ("IDLE", "INTVL", "CNT"))  # fmt: skip
        measured.append(tuple(self.sock.getsockopt(*name) for name in names))

    monkeypatch.setattr(HTTPConnection, "connect", connected)
    with recording((200, "{}")) as (address, _):
        Server(address).call("GET", "runs/get", {"run_id": "1"})
    return measured[0]
