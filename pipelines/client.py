"""The client of a Kubeflow Pipelines server: who we are, how long we wait, and its refusals as one clear error.

Over the official SDK. Who we are comes from the environment alone, so that no secret stands on a command line:
KFP_TOKEN (bearer token) or KFP_COOKIES (session of a login page such as Dex), KFP_CA_CERT (file, own authority),
KFP_CLIENT_CERT and KFP_CLIENT_KEY (files, mutual TLS).
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

PROBE_SECONDS = 10
REQUEST_SECONDS = 30  # a compiled pipeline is some hundred kB that the server also checks
_PORT_FORWARD = "check --host, and the port-forward: kubectl port-forward -n kubeflow svc/ml-pipeline 8888"
_LOGIN = "set KFP_TOKEN, KFP_COOKIES or KFP_CLIENT_CERT for a user who may do this"


@dataclass(frozen=True)
class Server:
    """What a server says of itself before it asks who we are.

    version     its release, such as 2.17.0; "" where its build does not say
    multi_user  whether every user has a namespace (Profile); otherwise all runs start in the server's own
    """

    version: str
    multi_user: bool

    @property
    def minor(self) -> str:
        """`2.17` of 2.17.0; "" where it is not known."""
        found = re.match(r"v?(\d+\.\d+)(\.|$)", self.version)
        return found[1] if found else ""


class Client(kfp.Client):
    """The SDK's client, with client certificates, one try and a time limit on every request."""

    _server: Server | None = None

    def _load_config(self, *arguments: Any, **named: Any) -> Any:
        config = super()._load_config(*arguments, **named)
        config.cert_file = os.environ.get("KFP_CLIENT_CERT")
        config.key_file = os.environ.get("KFP_CLIENT_KEY")
        config.retries = urllib3.Retry(0, redirect=3)
        return config

    def get_kfp_healthz(self, sleep_duration: int = 0) -> Any:  # noqa: ARG002  (the SDK's signature)
        """One question, one answer: the SDK asks five times in half a minute, also who has no right to ask."""
        return kfp_server_api.V2beta1GetHealthzResponse(multi_user=self.about().multi_user)

    def about(self) -> Server:
        """What the server says of itself; asked once."""
        if self._server is None:
            api = self._healthz_api.api_client
            api.rest_client = _Patient(api.rest_client)
            self._server = self._probe()
        return self._server

    def read(self, path: str, seconds: int = PROBE_SECONDS) -> str:
        """The text at a path of the server that the SDK has no function for.

        Raises
            ApiException: the server refused it.
        """
        api = self._healthz_api.api_client
        headers = dict(api.default_headers) | ({"Cookie": api.cookie} if api.cookie else {})
        token = api.configuration.get_api_key_with_prefix("authorization")
        headers |= {"Authorization": token} if token else {}
        answer = api.rest_client.request(
            "GET", api.configuration.host + path, headers=headers, _request_timeout=seconds, _preload_content=False
        )
        return bytes(answer.data).decode(errors="replace")

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
    """What the host answered instead."""


class _Patient:
    """A REST client whose requests end after a while: the SDK sets no time limit of its own."""

    def __init__(self, rest_client: Any) -> None:
        self._rest_client = rest_client

    def request(self, *arguments: Any, **named: Any) -> Any:
        """As the SDK's own."""
        return self._rest_client.request(*arguments, **_limited(named, PROBE_SECONDS))

    def __getattr__(self, name: str) -> Any:
        """GET, POST, …"""
        method, seconds = getattr(self._rest_client, name), REQUEST_SECONDS if name == "POST" else PROBE_SECONDS
        return lambda *arguments, **named: method(*arguments, **_limited(named, seconds))


def _limited(named: dict[str, Any], seconds: int) -> dict[str, Any]:
    return named | {"_request_timeout": named.get("_request_timeout") or seconds}


@contextlib.contextmanager
def service(host: str) -> Iterator[Client]:
    """A client of the server at `host`, which has answered; what goes wrong with it becomes one clear error.

    Raises
        OperationalError: it does not answer within seconds, is no Kubeflow Pipelines, refuses us, or fails.
        DataError: it does not have what it is asked for.
    """
    try:
        # The SDK prints addresses for people; our standard output may be one JSON document.
        with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
            warnings.simplefilter("ignore")
            yield _connected(host)
    except ApiException as error:
        raise refusal(error, host) from error
    except urllib3.exceptions.HTTPError as error:
        raise _no_answer(error, host) from error


def _connected(host: str) -> Client:
    with _is_kubeflow(host):
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
def _is_kubeflow(host: str) -> Iterator[None]:
    hint = f"name the address of ml-pipeline; behind a login page, {_LOGIN}"
    try:
        yield
    except _NotKubeflow as error:
        raise OperationalError(f"not Kubeflow Pipelines: it answers with {error}", host, hint) from error
    except ApiException as error:
        if error.status in {404, 405, 501}:
            what = f"not Kubeflow Pipelines 2.x: no /apis/v2beta1/healthz ({error.status})"
            raise OperationalError(what, host, hint) from error
        raise


def need_version(server: Server, wanted: str, host: str) -> None:
    """Refuse a server of another minor version than the one that `cluster.kfp_version` names.

    Raises
        OperationalError: it is another one; a server that does not say which it is passes.
    """
    if server.minor and server.minor != wanted:
        hint = f"upgrade it to {wanted}, or try the pipelines on it and set cluster.kfp_version: '{server.minor}'"
        raise OperationalError(f"Kubeflow Pipelines is {server.version}, not {wanted}", host, hint)


def need_namespace(server: Server, namespace: str | None, host: str) -> None:
    """Refuse a namespace where there is none to choose, and none where one must be chosen.

    Raises
        OperationalError: the server is in the other mode.
    """
    if namespace and not server.multi_user:
        hint = "leave --namespace out: its runs start in the namespace of ml-pipeline itself"
        raise OperationalError(f"no namespace {namespace} to choose: this server has no users", host, hint)
    if server.multi_user and not namespace:
        raise OperationalError("no namespace: this server has one a user", host, "name yours: --namespace NAME")


def refusal(error: ApiException, host: str) -> MctiError:
    """What the server answered, as one of our errors."""
    reason = _message(error)
    if error.status in {401, 403}:
        hint = f"{_expired()}{_LOGIN}; in multi-user mode check --namespace"
        return OperationalError(f"Kubeflow Pipelines refused the request ({error.status}){reason}", host, hint)
    if error.status == 404:
        return DataError(f"no such run or experiment{reason}", host, "check the id: mcti pipeline submit printed it")
    if error.status == 0:
        hint = "check http:// or https://, and KFP_CA_CERT"
        return OperationalError(f"the TLS connection failed{reason}", host, hint)
    what = f"Kubeflow Pipelines answered {error.status} {error.reason or ''}{reason}"
    return OperationalError(what, host, "see its log: kubectl logs -n kubeflow deployment/ml-pipeline")


def _no_answer(error: urllib3.exceptions.HTTPError, host: str) -> OperationalError:
    cause = getattr(error, "reason", None) or error
    if "SSL" in f"{type(cause).__name__}{cause}":
        hint = "check http:// or https://, KFP_CA_CERT (its authority) and KFP_CLIENT_CERT (ours)"
        return OperationalError(f"Kubeflow Pipelines does not answer (TLS: {cause})", host, hint)
    return OperationalError(f"Kubeflow Pipelines does not answer ({type(cause).__name__})", host, _PORT_FORWARD)


def _message(error: ApiException) -> str:
    """The server's own words, cut to one line; nothing where they are a page."""
    try:
        tree = json.loads(error.body or "")
        text = str(tree.get("message") or tree.get("error_message") or tree.get("error") or "")
    except (ValueError, AttributeError):
        text = str(error.reason or "") if error.status == 0 else ""
    line = " ".join(text.split())[:300]
    return f": {line}" if line else ""


def _expired() -> str:
    """Whether KFP_TOKEN is a JSON web token whose time is over; "" where it is not, or cannot be told."""
    parts = os.environ.get("KFP_TOKEN", "").split(".")
    if len(parts) != 3:
        return ""
    try:
        ends = float(json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))["exp"])
    except (ValueError, KeyError, TypeError, binascii.Error):
        return ""
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(ends))
    return f"KFP_TOKEN expired on {when}: get a new one; " if ends < time.time() else ""
