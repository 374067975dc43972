"""The check of a password with a server, and where the password is read from."""

import base64
import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mcti.errors import OperationalError, Untrusted, UsageError
from mcti.registry import reauthentication

PASSWORD = "pässwörd: 1234"


class Handler(BaseHTTPRequestHandler):
    """Basic authentication of one user. server.behaviour: mlflow | anybody | no users | page | moved | other user."""

    def do_GET(self):
        self.server.credentials.append(self.headers["Authorization"])
        expected = "Basic " + base64.b64encode(f"anna:{PASSWORD}".encode()).decode()
        status = 200 if self.server.behaviour == "anybody" or self.headers["Authorization"] == expected else 401
        status = {"no users": 404, "moved": 302}.get(self.server.behaviour, status)
        self.send_response(status)
        if status == 302:
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/elsewhere")
        self.end_headers()
        user = {"user": {"id": 2, "username": "ben" if self.server.behaviour == "other user" else "anna"}}
        self.wfile.write(b"<html>" if self.server.behaviour == "page" else json.dumps(user).encode())

    def log_message(self, *_):
        """No output."""


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.behaviour, server.credentials = "mlflow", []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    server.uri = f"http://127.0.0.1:{server.server_port}"
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_password_of_the_user_is_accepted_and_the_server_named(server):
    assert reauthentication.confirm(server.uri, "anna", PASSWORD) == f"127.0.0.1:{server.server_port}"


@pytest.mark.parametrize(("user", "password"), [("anna", "wrong"), ("ben", PASSWORD)])
def test_a_wrong_password_is_refused_and_not_repeated(server, user, password):
    with pytest.raises(Untrusted, match=f"MLflow does not accept this password of {user}") as refused:
        reauthentication.confirm(server.uri, user, password)
    assert password not in str(refused.value)
    assert len(server.credentials) == 1


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        ("anybody", "accepts any password"),
        ("no users", "has no users"),
        ("page", "has no users"),
        ("other user", "has no users"),
        ("moved", "has no users"),
    ],
)
def test_a_server_that_cannot_check_a_password_signs_nothing(server, behaviour, message):
    server.behaviour = behaviour
    with pytest.raises(OperationalError, match=message):
        reauthentication.confirm(server.uri, "anna", PASSWORD)
    assert len(server.credentials) == (2 if behaviour == "anybody" else 1), "a redirect must not get the password"


def test_a_server_that_does_not_answer_is_an_error_without_the_password():
    with pytest.raises(OperationalError, match="does not answer") as refused:
        reauthentication.confirm("http://127.0.0.1:1", "anna", PASSWORD)
    assert PASSWORD not in str(refused.value)


@pytest.mark.parametrize("user", ["", "a:b", "a\nb"])
def test_an_invalid_name_is_refused(user):
    with pytest.raises(UsageError, match="is not the name of an MLflow user"):
        reauthentication.confirm("http://127.0.0.1:1", user, PASSWORD)


def test_a_database_cannot_check_a_password():
    with pytest.raises(UsageError, match="only an MLflow server"):
        reauthentication.confirm("sqlite:///m.db", "anna", PASSWORD)


@pytest.fixture
def no_variables(monkeypatch):
    for name in (reauthentication.PASSWORD, reauthentication.PASSWORD_FILE):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("no_variables")
class TestPassword:
    def test_it_is_read_from_the_variable(self, monkeypatch):
        monkeypatch.setenv(reauthentication.PASSWORD, PASSWORD)
        assert reauthentication.read_password("anna") == PASSWORD

    def test_it_is_read_from_the_file_without_its_line_break(self, monkeypatch, tmp_path):
        file = tmp_path / "password"
        file.write_text(f"{PASSWORD}\n", "utf-8")
        file.chmod(0o600)
        monkeypatch.setenv(reauthentication.PASSWORD_FILE, str(file))
        assert reauthentication.read_password("anna") == PASSWORD
        file.chmod(0o640)
        with pytest.raises(UsageError, match="other users can read the password"):
            reauthentication.read_password("anna")
        file.unlink()
        with pytest.raises(UsageError, match="the file cannot be read"):
            reauthentication.read_password("anna")
        monkeypatch.setenv(reauthentication.PASSWORD, PASSWORD)
        with pytest.raises(UsageError, match="two passwords are configured"):
            reauthentication.read_password("anna")

    def test_it_is_asked_for_on_a_terminal(self, monkeypatch):
        prompts = []
        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        monkeypatch.setattr("getpass.getpass", lambda prompt: prompts.append(prompt) or PASSWORD)
        assert reauthentication.read_password("anna") == PASSWORD
        assert prompts == ["MLflow password of anna: "]

    def test_without_a_terminal_it_is_an_error(self, monkeypatch):
        monkeypatch.setattr("sys.stdin", io.StringIO())
        with pytest.raises(UsageError, match="the signatory must give the password again"):
            reauthentication.read_password("anna")

    def test_an_empty_password_is_refused(self, monkeypatch, tmp_path):
        file = tmp_path / "password"
        file.write_text("\n")
        file.chmod(0o600)
        monkeypatch.setenv(reauthentication.PASSWORD_FILE, str(file))
        with pytest.raises(UsageError, match="the password is empty"):
            reauthentication.read_password("anna")
