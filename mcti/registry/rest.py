"""Requests to an MLflow server, without MLflow's client: its import takes longer than most commands.

Credentials, TLS, retries and time limits come from the environment variables of MLflow's client, with its defaults.
"""

import base64
import configparser
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from mcti.errors import OperationalError
from mcti.waiting import log_while_waiting

if TYPE_CHECKING:
    from urllib3.util import Retry

N = TypeVar("N", int, float)
FULL_CLIENT_ONLY = (
    "MLFLOW_TRACKING_AUTH",
    "MLFLOW_TRACKING_AWS_SIGV4",
    "MLFLOW_WORKSPACE",
    "MLFLOW_REGISTRY_URI",
)
"""Settings that only MLflow's own client supports: plugins for authentication, workspaces, a separate registry."""
_KEEPALIVE = {
    "TCP_KEEPIDLE": ("MLFLOW_HTTP_TCP_KEEPALIVE_IDLE", 30),
    "TCP_KEEPINTVL": ("MLFLOW_HTTP_TCP_KEEPALIVE_INTERVAL", 10),
    "TCP_KEEPCNT": ("MLFLOW_HTTP_TCP_KEEPALIVE_COUNT", 3),
}
"""Options of a connection: variables and defaults of MLflow's client, in seconds, seconds, and number of probes."""
_TRANSIENT = (408, 429, 500, 502, 503, 504)  # the responses that MLflow's client repeats, for every method
_CODES = {400: "BAD_REQUEST", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "ENDPOINT_NOT_FOUND"}


class ApiError(Exception):
    """A request that MLflow refused, or that failed; error_code: MLflow's name, such as RESOURCE_DOES_NOT_EXIST."""

    def __init__(self, message: str, error_code: str = "INTERNAL_ERROR") -> None:
        super().__init__(message)
        self.message, self.error_code = message, error_code


class Server:
    """The MLflow server at `uri`, an http:// or https:// address without credentials.

    timeout, retries    seconds and number; None: as the variables of MLflow's client state
    """

    def __init__(self, uri: str, *, timeout: float | None = None, retries: int | None = None) -> None:
        import requests

        self.uri = uri.rstrip("/")
        self._session = requests.Session()
        self._timeout = timeout or _number("MLFLOW_HTTP_REQUEST_TIMEOUT", int, 120)
        self._retry = _retries(retries)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, _adapter(self._retry))

    def call(self, method: str, endpoint: str, body: dict[str, Any]) -> dict[str, Any]:
        """The JSON object that MLflow answers to a call of `endpoint`, such as `runs/get`.

        body  fields of the call; those that are None are omitted

        Raises ApiError when the server refuses the call, or does not respond.
        """
        fields = {name: value for name, value in body.items() if value is not None}
        content = {"params": fields} if method == "GET" else {"json": fields}
        response = self.send(method, f"/api/2.0/mlflow/{endpoint}", **content)
        answer = _json_object(response) if response.text.strip() else {}
        if answer is None:
            raise ApiError(f"the answer to {endpoint} is not a JSON object: {response.text[:200]!r}")
        return answer

    def send(self, method: str, path: str, **content: Any) -> Any:
        """The response to one request, retries included; `content` as of `requests.request`.

        Raises ApiError for every status but 200 and 204, and when the server does not respond.
        """
        url = f"{self.uri}{path}"
        content["headers"] = {**_authorization(), **content.get("headers", {})}
        with self.waiting(url):
            response = self._session.request(
                method, url, timeout=self._timeout, allow_redirects=_redirects(), **tls(), **content
            )
        if response.status_code not in (200, 204):
            with response:
                raise _refused(response, path)
        return response

    @contextmanager
    def waiting(self, url: str) -> Iterator[None]:
        """Log lines while the body waits for this server.

        Raises ApiError with `url` when the connection fails.
        """
        from requests import RequestException

        with log_while_waiting(f"MLflow ({urlsplit(self.uri).netloc})", longest_wait(self._retry, self._timeout)):
            try:
                yield
            except RequestException as error:
                raise ApiError(f"API request to {url} failed with exception {error}") from error


def supported(uri: str) -> bool:
    """Whether the server at `uri` can be used without MLflow's own client, with the settings in the environment."""
    return uri.startswith(("http://", "https://")) and not any(os.environ.get(name) for name in FULL_CLIENT_ONLY)


def _authorization() -> dict[str, str]:
    """The header of MLflow's client: user and password, otherwise a token, otherwise none."""
    user, password = _user()
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    if user and password:
        return {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}
    return {"Authorization": f"Bearer {token}"} if token else {}


def _user() -> tuple[str, str]:
    """User and password from the environment, otherwise from ~/.mlflow/credentials."""
    names = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
    file = configparser.ConfigParser()
    file.read(Path.home() / ".mlflow" / "credentials")
    stored: Mapping[str, str] = file["mlflow"] if file.has_section("mlflow") else {}
    user, password = (os.environ.get(name) or stored.get(name.lower(), "") for name in names)
    return user, password


def user_name() -> str:
    """The MLflow user that this process is configured with; "" without one."""
    return _user()[0]


def tls() -> dict[str, Any]:
    """The arguments `verify` and `cert` of `requests`.

    Raises OperationalError when the settings contradict each other.
    """
    authority, unverified = os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH"), _flag("MLFLOW_TRACKING_INSECURE_TLS")
    if authority and unverified:
        what = "MLFLOW_TRACKING_SERVER_CERT_PATH and MLFLOW_TRACKING_INSECURE_TLS are both set"
        raise OperationalError(what, "the environment", "remove one of them")
    return {
        "verify": authority or not unverified,
        "cert": os.environ.get("MLFLOW_TRACKING_CLIENT_CERT_PATH") or None,
    }


def _redirects() -> bool:
    return _flag("MLFLOW_ALLOW_HTTP_REDIRECTS", default="true")


def _flag(name: str, default: str = "false") -> bool:
    return os.environ.get(name, default).lower() in ("true", "1")


def _retries(count: int | None) -> "Retry":
    from urllib3.util import Retry

    count = _number("MLFLOW_HTTP_REQUEST_MAX_RETRIES", int, 7) if count is None else count
    return Retry(
        total=count, connect=count, read=count, redirect=count, status=count, status_forcelist=_TRANSIENT,
        allowed_methods=None, backoff_factor=_number("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", int, 2),
        backoff_jitter=_number("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", float, 1.0),
        respect_retry_after_header=_flag("MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER", default="true"),
    )  # fmt: skip


def _adapter(retries: "Retry") -> Any:
    """An adapter whose idle connections are probed: gateways drop idle ones, and a request on it gets no answer."""
    import socket

    from requests.adapters import DEFAULT_POOLSIZE, HTTPAdapter
    from urllib3.connection import HTTPConnection

    options = list(HTTPConnection.default_socket_options)
    if _flag("MLFLOW_HTTP_TCP_KEEPALIVE", default="true"):
        options.append((socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1))
        for name, (variable, default) in _KEEPALIVE.items():
            if hasattr(socket, name):  # macOS has no TCP_KEEPIDLE
                options.append((socket.IPPROTO_TCP, getattr(socket, name), _number(variable, int, default)))

    adapter = HTTPAdapter(max_retries=retries)
    adapter.init_poolmanager(DEFAULT_POOLSIZE, DEFAULT_POOLSIZE, socket_options=options)
    return adapter


def _number(name: str, number_type: Callable[[str], N], default: N) -> N:
    text = os.environ.get(name)
    try:
        return number_type(text) if text else default
    except ValueError:
        raise OperationalError(f"{text!r} is not a number", name, "write a number, or remove the variable") from None


def longest_wait(retries: Any, timeout: float | tuple[float, float]) -> float:
    """Seconds after which a request without a response fails: the sum of all attempts and the pauses between them.

    retries  urllib3's Retry;  timeout  seconds per attempt, or (connect, read)
    """
    per_attempt = sum(timeout) if isinstance(timeout, tuple) else timeout
    retry_count = int(retries.total or 0)
    # urllib3 does not pause before the first retry.
    pauses = (min(retries.backoff_factor * 2**number, retries.backoff_max) for number in range(1, retry_count))
    return float((retry_count + 1) * per_attempt + sum(pauses))


def _refused(response: Any, path: str) -> ApiError:
    answer = _json_object(response)
    if answer is not None:
        code = str(answer.get("error_code") or "INTERNAL_ERROR")
        return ApiError(f"{code}: {answer.get('message', answer)}", code)
    what = f"API request to endpoint {path} failed with error code {response.status_code}"
    code = _CODES.get(response.status_code, "INTERNAL_ERROR")
    return ApiError(f"{what}: {' '.join(response.text.split())[:200]}", code)


def _json_object(response: Any) -> dict[str, Any] | None:
    try:
        answer = response.json()
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None
