"""The client of a Kubeflow Pipelines server: credentials, time limits, and one clear error for every refusal.

It extends the official SDK. The credentials come from the environment only, so that no command line contains a
secret: KFP_TOKEN (bearer token) or KFP_COOKIES (session of a login page such as Dex), KFP_CA_CERT (file, certificate
authority of the server), KFP_CLIENT_CERT and KFP_CLIENT_KEY (files, mutual TLS).
"""

import base64
import binascii
import contextlib
import json
import os
import re
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import kfp
import kfp_server_api
import urllib3
from kfp_server_api.exceptions import ApiException

from mcti.errors import DataError, MctiError, OperationalError
from mcti.pipelines.text import one_line

PROBE_SECONDS = 10
REQUEST_SECONDS = 30  # a compiled pipeline is some hundred kB that the server also checks
_PORT_FORWARD = "check --host, and the port-forward: kubectl port-forward -n kubeflow svc/ml-pipeline 8888"
_LOGIN = "set KFP_TOKEN, KFP_COOKIES or KFP_CLIENT_CERT for a user who may do this"


@dataclass(frozen=True)
class Server:
    """What a server reports without authentication.

    version     its release, such as 2.17.0; "" where its build does not report one
    multi_user  whether every user has a namespace (Profile); otherwise all runs start in the server's own namespace
    """

    version: str
    multi_user: bool

    @property
    def minor(self) -> str:
        """`2.17` of 2.17.0; "" where it is not known."""
        match = re.match(r"v?(\d+\.\d+)(\.|$)", self.version)
        return match[1] if match else ""


class Client(kfp.Client):  # type: ignore[misc]  # kfp has no types
    """The SDK's client with client certificates, without retries and with a time limit on every request."""

    _server: Server | None = None

    def _load_config(self, *arguments: Any, **named: Any) -> Any:
        config = super()._load_config(*arguments, **named)
        config.cert_file = os.environ.get("KFP_CLIENT_CERT")
        config.key_file = os.environ.get("KFP_CLIENT_KEY")
        config.retries = urllib3.Retry(0, redirect=3)
        return config

    def get_kfp_healthz(self, sleep_duration: int = 0) -> Any:  # noqa: ARG002  (the SDK's signature)
        """The health of the server from one request: the SDK sends five in half a minute, also after a 403."""
        return kfp_server_api.V2beta1GetHealthzResponse(multi_user=self.about().multi_user)

    def about(self) -> Server:
        """What the server reports about itself; requested once."""
        if self._server is None:
            api = self._healthz_api.api_client
            api.rest_client = _TimeLimitedRestClient(api.rest_client)
            self._server = self._probe()
        return self._server

    def read(self, path: str, seconds: int = PROBE_SECONDS) -> str:
        """The response body for a path that the SDK has no function for.

        Raises
            ApiException: the server refused the request.
        """
        api = self._healthz_api.api_client
        headers = dict(api.default_headers) | ({"Cookie": api.cookie} if api.cookie else {})
        token = api.configuration.get_api_key_with_prefix("authorization")
        headers |= {"Authorization": token} if token else {}
        response = api.rest_client.request(
            "GET", api.configuration.host + path, headers=headers, _request_timeout=seconds, _preload_content=False
        )
        return bytes(response.data).decode(errors="replace")

    def _probe(self) -> Server:
        text = self.read("/apis/v2beta1/healthz", PROBE_SECONDS)
        try:
            tree = json.loads(text)
        except ValueError:
            raise _NotKubeflow("a web page" if "<html" in text[:2000].lower() else "no JSON") from None
        if not isinstance(tree, dict) or not isinstance(tree.get("multi_user"), bool):
            raise _NotKubeflow("JSON of another service")
        version = str(tree.get("tag_name") or "")
        return Server("" if version == "unknown" else version, tree["multi_user"])


class _NotKubeflow(Exception):
    """The host is no Kubeflow Pipelines server; the argument describes its response."""


class _TimeLimitedRestClient:
    """A REST client with a time limit on every request: the SDK sets none."""

    def __init__(self, rest_client: Any) -> None:
        self._rest_client = rest_client

    def request(self, *arguments: Any, **named: Any) -> Any:
        """As the method of the SDK."""
        return self._rest_client.request(*arguments, **_with_timeout(named, PROBE_SECONDS))

    def __getattr__(self, name: str) -> Any:
        """GET, POST, …"""
        method, seconds = getattr(self._rest_client, name), REQUEST_SECONDS if name == "POST" else PROBE_SECONDS
        return lambda *arguments, **named: method(*arguments, **_with_timeout(named, seconds))


def _with_timeout(named: dict[str, Any], seconds: int) -> dict[str, Any]:
    return named | {"_request_timeout": named.get("_request_timeout") or seconds}


@contextlib.contextmanager
def service(host: str) -> Iterator[Client]:
    """A client of the reachable server at `host`; every failure inside becomes one clear error.

    Raises
        OperationalError: the server does not respond in time, is no Kubeflow Pipelines, refuses the request, or fails.
        DataError: the run, experiment or schedule does not exist.
    """
    try:
        # The SDK prints addresses; stdout may be one JSON document.
        with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
            warnings.simplefilter("ignore")
            yield _connect(host)
    except ApiException as error:
        raise translate_api_error(error, host) from error
    except urllib3.exceptions.HTTPError as error:
        raise _connection_error(error, host) from error


def _connect(host: str) -> Client:
    with _require_kubeflow(host):
        try:
            client = Client(
                host=host,
                existing_token=os.environ.get("KFP_TOKEN"),
                cookies=os.environ.get("KFP_COOKIES"),
                ssl_ca_cert=os.environ.get("KFP_CA_CERT"),
            )
            client.about()
        except OSError as error:
            hint = "check KFP_CA_CERT, KFP_CLIENT_CERT and KFP_CLIENT_KEY"
            raise OperationalError(f"a certificate cannot be used ({error})", host, hint) from error
        return client


@contextlib.contextmanager
def _require_kubeflow(host: str) -> Iterator[None]:
    hint = f"use the address of the Service ml-pipeline; behind a login page, {_LOGIN}"
    try:
        yield
    except _NotKubeflow as error:
        raise OperationalError(f"not Kubeflow Pipelines: the response is {error}", host, hint) from error
    except ApiException as error:
        if error.status in {404, 405, 501}:
            what = f"not Kubeflow Pipelines 2.x: no /apis/v2beta1/healthz ({error.status})"
            raise OperationalError(what, host, hint) from error
        raise


def require_version(server: Server, required: str, host: str) -> None:
    """Refuse a server whose minor version differs from `cluster.kfp_version`.

    A server that does not report its version is accepted.

    Raises
        OperationalError: the minor version differs.
    """
    if server.minor and server.minor != required:
        hint = f"upgrade it to {required}, or try the pipelines on it and set cluster.kfp_version: '{server.minor}'"
        raise OperationalError(f"Kubeflow Pipelines is {server.version}, not {required}", host, hint)


def require_namespace(server: Server, namespace: str | None, host: str) -> None:
    """Refuse a namespace in single-user mode, and a missing one in multi-user mode.

    Raises
        OperationalError: `namespace` does not fit the mode of the server.
    """
    if namespace and not server.multi_user:
        hint = "omit --namespace: runs start in the namespace of ml-pipeline"
        raise OperationalError(f"--namespace {namespace} does not apply: the server is in single-user mode", host, hint)
    if server.multi_user and not namespace:
        hint = "name the one of your profile: --namespace NAME"
        raise OperationalError("no namespace: the server is in multi-user mode", host, hint)


def translate_api_error(error: ApiException, host: str) -> MctiError:
    """The error of the API server as an MctiError with a hint."""
    reason = _message(error)
    if error.status in {401, 403}:
        hint = f"{_token_expiry()}{_LOGIN}; in multi-user mode check --namespace"
        return OperationalError(f"Kubeflow Pipelines refused the request ({error.status}){reason}", host, hint)
    if error.status == 404:
        hint = "check the id that mcti pipeline submit printed"
        return DataError(f"no such run or experiment{reason}", host, hint)
    if error.status == 0:
        hint = "check http:// or https://, and KFP_CA_CERT"
        return OperationalError(f"the TLS connection failed{reason}", host, hint)
    what = f"Kubeflow Pipelines answered {error.status} {error.reason or ''}{reason}"
    return OperationalError(what, host, "see its log: kubectl logs -n kubeflow deployment/ml-pipeline")


def _connection_error(error: urllib3.exceptions.HTTPError, host: str) -> OperationalError:
    cause = getattr(error, "reason", None) or error
    if "SSL" in f"{type(cause).__name__}{cause}":
        hint = "check http:// or https://, KFP_CA_CERT (authority of the server) and KFP_CLIENT_CERT (this client)"
        return OperationalError(f"Kubeflow Pipelines does not answer (TLS: {cause})", host, hint)
    return OperationalError(f"Kubeflow Pipelines does not answer ({type(cause).__name__})", host, _PORT_FORWARD)


def _message(error: ApiException) -> str:
    """The message of the server as `: TEXT`; empty where the response is a web page."""
    try:
        tree = json.loads(error.body or "")
        text = str(tree.get("message") or tree.get("error_message") or tree.get("error") or "")
    except (ValueError, AttributeError):
        text = str(error.reason or "") if error.status == 0 else ""
    line = one_line(text)
    return f": {line}" if line else ""


def _token_expiry() -> str:
    """A sentence about KFP_TOKEN where it is an expired JSON web token; else empty."""
    parts = os.environ.get("KFP_TOKEN", "").split(".")
    if len(parts) != 3:
        return ""
    try:
        ends = float(json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))["exp"])
    except (ValueError, KeyError, TypeError, binascii.Error):
        return ""
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(ends))
    return f"KFP_TOKEN expired on {when}: get a new one; " if ends < time.time() else ""
