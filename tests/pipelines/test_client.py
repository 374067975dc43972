"""Hosts that are not Kubeflow Pipelines, expired tokens, other versions: one error line each, with a hint."""

import base64
import json
import socket
import time

import pytest

from mcti.cli.app import app
from mcti.cli.command_context import run_app
from mcti.errors import OperationalError
from mcti.pipelines import client, schedule, status, submit
from tests.pipelines import fake_api
from tests.pipelines.conftest import DATA

PAGE = (b"<!doctype html><HTML><body>Sign in</body></HTML>", "text/html", 200)
OTHERS = {
    "page": (PAGE, "the response is a web page"),
    "missing": ((b"<html>404</html>", "text/html", 404), r"no /apis/v2beta1/healthz \(404\)"),
    "other": ((b'{"status": "UP"}', "application/json", 200), "the response is JSON of another service"),
    "list": ((b"[1, 2]", "application/json", 200), "the response is JSON of another service"),
    "text": ((b"OK", "text/plain", 200), "the response is no JSON"),
}


def commands(settings, address):
    return {
        "submit": lambda: submit.submit(settings, DATA, address, None),
        "schedule": lambda: schedule.schedule(settings, DATA, address, None),
        "status": lambda: status.status("run-0", address),
    }


@pytest.mark.parametrize("name", ["submit", "schedule", "status"])
@pytest.mark.parametrize("other", OTHERS)
def test_a_host_that_is_no_kubeflow_pipelines_is_named(server, settings, name, other):
    address, state = server
    state.instead, words = OTHERS[other]
    with pytest.raises(OperationalError, match=f"not Kubeflow Pipelines.*{words}.*{address}.*ml-pipeline.*KFP_TOKEN"):
        commands(settings, address)[name]()


@pytest.mark.parametrize("name", ["submit", "schedule", "status"])
def test_a_server_without_a_response_is_an_error(settings, monkeypatch, name, tmp_path):
    """It accepts the connection and sends no response."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(client, "PROBE_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(OperationalError, match=r"does not answer \(ReadTimeoutError\).*port-forward"):
            commands(settings, address)[name]()


def test_a_server_that_stops_responding_after_the_first_request_is_an_error(server, settings, monkeypatch):
    address, state = server
    monkeypatch.setattr(client, "PROBE_SECONDS", 1)

    def request():
        with client.service(address) as service:
            state.sleep = 3
            service.get_run("run-0")

    with pytest.raises(OperationalError, match="does not answer"):
        request()


@pytest.mark.parametrize("name", ["submit", "schedule"])
@pytest.mark.parametrize("version", ["2.16.1", "3.0.0-rc.1"])
def test_another_minor_version_is_refused_with_the_setting_that_allows_it(server, settings, name, version):
    address, state = server
    state.version = version
    minor = ".".join(version.split(".")[:2])
    with pytest.raises(OperationalError, match=f"is {version}, not 2.17.*set cluster.kfp_version: '{minor}'"):
        commands(settings, address)[name]()
    assert (state.runs, state.recurring) == ({}, {})


@pytest.mark.parametrize(
    ("version", "required"),
    [("2.17.0", "2.17"), ("v2.17.3", "2.17"), ("unknown", "2.17"), ("", "2.17"), ("2.18.1", "2.18")],
)
def test_the_required_version_and_an_unreported_one_are_accepted(server, version, required):
    address, state = server
    state.version = version
    with client.service(address) as service:
        client.require_version(service.about(), required, address)


@pytest.mark.parametrize("name", ["submit", "schedule"])
def test_a_namespace_is_required_in_multi_user_mode_only(server, settings, name):
    address, state = server
    call = {"submit": submit.submit, "schedule": schedule.schedule}[name]
    with pytest.raises(OperationalError, match=r"--namespace nowhere does not apply.*omit --namespace"):
        call(settings, DATA, address, "nowhere")
    state.multi_user = True
    with pytest.raises(OperationalError, match="name the one of your profile: --namespace NAME"):
        call(settings, DATA, address, None)
    with client.service(address) as service:
        client.require_namespace(service.about(), "alice", address)


def test_a_refusal_has_the_message_of_the_server_and_the_expiry_of_the_token(server, settings, monkeypatch):
    address, state = server

    def token(ends):
        parts = [json.dumps(part).encode() for part in ({"alg": "none"}, {"exp": ends})]
        return ".".join([*(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts), "signature"])

    body = json.dumps({"message": "User alice is not authorized to list experiments in namespace bob"}).encode()
    monkeypatch.setenv("KFP_TOKEN", token(time.time() - 3600))
    state.instead = (body, "application/json", 403)
    with pytest.raises(OperationalError, match=r"User alice is not authorized.*KFP_TOKEN expired on 2.*KFP_COOKIES"):
        submit.submit(settings, DATA, address, None)
    monkeypatch.setenv("KFP_TOKEN", token(time.time() + 3600))
    with pytest.raises(OperationalError, match="refused the request") as caught:
        submit.submit(settings, DATA, address, None)
    assert "expired" not in str(caught.value)


@pytest.mark.parametrize("words", [("status", "run-0"), ("logs", "run-0", "train"), ("doctor",)])
def test_each_error_is_one_line_and_exit_code_4(server, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    address, state = server
    state.instead = PAGE
    assert run_app(app, ["pipeline", *words, "--host", address]) == 4
    output = capsys.readouterr()
    lines = [line for line in (output.out + output.err).splitlines() if "not Kubeflow Pipelines" in line]
    assert len(lines) == 1
    assert "Traceback" not in output.err


def test_a_wrong_scheme_is_named(settings, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with fake_api.serving() as (address, _):
        for host in (address.replace("http:", "https:"), address.removeprefix("http://")):
            with pytest.raises(OperationalError, match="check http:// or https://"):
                submit.submit(settings, DATA, host, None)
