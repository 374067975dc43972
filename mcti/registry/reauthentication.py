"""Re-authentication of a signatory: the password of an MLflow user, checked by the server with basic authentication.

The password is typed on the terminal, or read from a file or an environment variable. It goes into one request to
the server at MLFLOW_TRACKING_URI and is neither stored nor logged.
"""

import getpass
import os
import secrets
import sys
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mcti.errors import OperationalError, Untrusted, UsageError
from mcti.registry import rest

PASSWORD, PASSWORD_FILE = "MCTI_SIGNATURE_PASSWORD", "MCTI_SIGNATURE_PASSWORD_FILE"
_SECONDS = 30  # time limit of a request
_ENDPOINT = "/api/2.0/mlflow/users/get"
_HINT = "start MLflow with `--app-name basic-auth` (docs/registry.md)"


def confirm(uri: str, user: str, password: str) -> str:
    """Check user and password with the MLflow server at `uri`; its host.

    Raises
    UsageError when the name cannot be that of a user, or `uri` is no http:// or https:// address.
    Untrusted when the server does not accept the password.
    OperationalError when the server does not respond, has no users, or accepts any password.
    """
    if not user or ":" in user or not user.isprintable():
        raise UsageError(f"{user!r} is not the name of an MLflow user", "--user", "name the MLflow user who signs")
    if not uri.startswith(("http://", "https://")):
        raise UsageError(
            "only an MLflow server can check a password", "MLFLOW_TRACKING_URI", "set its http(s):// address"
        )
    status, known = _ask(uri, user, password)
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        raise Untrusted(f"MLflow does not accept this password of {user}", uri, "nothing was signed; try again")
    if status != HTTPStatus.OK or known != user:
        raise OperationalError(f"MLflow has no users (status {status}): no user can sign", uri, _HINT)
    if _ask(uri, user, secrets.token_urlsafe(24))[0] != HTTPStatus.UNAUTHORIZED:
        raise OperationalError("MLflow accepts any password: no user can sign", uri, _HINT)
    return urlsplit(uri).netloc.rpartition("@")[2]


def read_password(user: str) -> str:
    """The password of `user`, from PASSWORD_FILE or PASSWORD, otherwise from the terminal.

    Raises UsageError when there is none, both variables are set, or the file cannot be read.
    """
    file, variable = os.environ.get(PASSWORD_FILE), os.environ.get(PASSWORD)
    if file and variable:
        raise UsageError("two passwords are configured", f"{PASSWORD_FILE}, {PASSWORD}", "set one of the two")
    if file:
        password = _read_file(Path(file))
    elif variable:
        password = variable
    elif sys.stdin.isatty():
        password = getpass.getpass(f"MLflow password of {user}: ")
    else:
        hint = f"run the command on a terminal, or set {PASSWORD_FILE} or {PASSWORD}"
        raise UsageError("the signatory must give the password again", "mcti approve", hint)
    if not password:
        raise UsageError("the password is empty", "mcti approve", "give the password of the MLflow user who signs")
    return password


def _read_file(path: Path) -> str:
    where = f"{PASSWORD_FILE}={path}"
    try:
        text, mode = path.read_text(encoding="utf-8"), path.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the file cannot be read ({error})", where, "name a text file") from error
    if mode & 0o077:
        raise UsageError("other users can read the password", where, f"chmod 600 {path}")
    return text.rstrip("\r\n")


def _ask(uri: str, user: str, password: str) -> tuple[int, str]:
    """Status of the server's answer, and the user that it names. A redirect is not followed: it would get the password.

    Raises OperationalError when the server does not respond.
    """
    import requests

    credentials: Any = (user.encode(), password.encode())
    try:
        response = requests.get(
            f"{uri.rstrip('/')}{_ENDPOINT}",
            params={"username": user},
            auth=credentials,
            timeout=_SECONDS,
            allow_redirects=False,
            **rest.tls(),
        )
    except requests.RequestException as error:
        raise OperationalError(
            f"MLflow does not answer ({type(error).__name__})", uri, "check MLFLOW_TRACKING_URI"
        ) from None
    try:
        answer = response.json()
    except ValueError:
        return response.status_code, ""
    known = answer.get("user", {}) if isinstance(answer, dict) else {}
    return response.status_code, str(known.get("username", "")) if isinstance(known, dict) else ""
