"""Checks of the services that settings and environment name: S3, MLflow, PostgreSQL, and their clocks."""

import email.utils
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib import metadata
from urllib.parse import urlsplit

from mcti import s3
from mcti.diagnosis.check import Check
from mcti.errors import OperationalError, service_hint
from mcti.params import Settings

SECONDS = 8.0
"""Limit of one request, without a retry."""
FAULTY_SKEW, NOTABLE_SKEW = 300.0, 30.0
"""Seconds: S3 refuses a skew of 15 min, tokens expire within minutes; the Date header has 1 s of resolution."""
_HOST_AND_PORT = re.compile(r"[\w.-]+:\d+(/|$)")
_S3_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")


def uses_s3(settings: Settings) -> bool:
    """Whether settings or environment name an S3 server or a bucket; keys alone do not."""
    return bool(_buckets(settings)) or any(os.environ.get(name) for name in _S3_VARIABLES)


def _buckets(settings: Settings) -> dict[str, str]:
    """Bucket -> the setting or variable that names it."""
    named = {"cluster.remote": settings.cluster.remote, "MCTI_LEDGER": os.environ.get("MCTI_LEDGER")}
    return {
        s3.split_address(address)[0]: source
        for source, address in named.items()
        if address and address.startswith("s3://")
    }


def check_s3(settings: Settings) -> Iterator[Check]:
    """One signed request per bucket that is named, else the list of buckets; nothing is written."""
    if not uses_s3(settings):
        detail = f"none of {', '.join(_S3_VARIABLES)}, cluster.remote and MCTI_LEDGER is set"
        yield Check(name="S3", state="not configured", detail=detail)
        return
    if fault := _s3_address_fault():
        yield Check(name="S3", state="failed", detail=fault, hint=f"correct the address in {_S3_VARIABLES[0]}")
        return
    for bucket, source in (_buckets(settings) or {"": ""}).items():
        yield _check_bucket(bucket, source)


def _check_bucket(bucket: str, source: str) -> Check:
    name = f"S3 bucket {bucket}" if bucket else "S3"
    try:
        server = s3.probe(bucket, SECONDS)
    except s3.NotFound:
        hint = f"create the bucket, or correct {source}"
        return Check(name=name, state="missing", detail="no such bucket", hint=hint)
    except OperationalError as error:
        return Check(name=name, state="failed", detail=error.what, hint=error.hint)
    return Check(name=name, state="OK", detail=f"{s3.endpoint()}, {server or 'server without a name'}, keys accepted")


def check_mlflow() -> Check:
    """The version of the MLflow server, and whether it accepts a request with these credentials."""
    from mcti.registry import rest

    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri:
        return Check(name="MLflow", state="not configured", detail="MLFLOW_TRACKING_URI is not set: no run is recorded")
    if fault := address_fault(uri):
        return Check(name="MLflow", state="failed", detail=fault, hint="correct MLFLOW_TRACKING_URI")
    if not rest.supported(uri):
        detail = "an address or a plugin of MLflow's own client, not checked"
        return Check(name="MLflow", state="unknown", detail=detail)
    server = rest.Server(uri, timeout=SECONDS, retries=0)
    try:
        version = server.send("GET", "/version").text.strip()
        server.call("POST", "experiments/search", {"max_results": 1})
    except rest.ApiError as error:
        return Check(name="MLflow", state="failed", detail=_first_sentence(error), hint=_mlflow_hint(error))
    return _check_mlflow_version(uri, version)


def _mlflow_hint(error: Exception) -> str:
    refused = getattr(error, "error_code", "") in ("UNAUTHENTICATED", "PERMISSION_DENIED")
    names = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
    return f"check {names}" if refused else service_hint("MLFLOW_TRACKING_URI")


def _check_mlflow_version(uri: str, version: str) -> Check:
    client, detail = metadata.version("mlflow-skinny"), f"{uri}, version {version[:40]}"
    if version.split(".")[:2] == client.split(".")[:2]:
        return Check(name="MLflow", state="OK", detail=detail)
    hint = f"the client is {client}: install the server in the same minor version"
    return Check(name="MLflow", state="warning", detail=detail, hint=hint)


def check_kubeflow_address() -> Check | None:
    """A malformed address of Kubeflow Pipelines; None where its server can be requested, or none is named."""
    address = os.environ.get("KF_PIPELINES_ENDPOINT", "")
    fault = address_fault(address if "://" in address or not address else f"http://{address}")
    if not fault:
        return None
    hint = "correct KF_PIPELINES_ENDPOINT: http://HOST:PORT"
    return Check(name="Kubeflow Pipelines", state="failed", detail=fault, hint=hint)


def check_postgresql(storage: str | None) -> Check:
    """The PostgreSQL server of search.storage, and whether tables may be created in it."""
    from mcti.training.shared_study import is_shared

    if not storage or not is_shared(storage):
        detail = "search.storage names none: the study of a search is in SQLite"
        return Check(name="PostgreSQL", state="not configured", detail=detail)
    import psycopg
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(storage).set(drivername="postgresql")
    except (ValueError, ArgumentError):  # the message may contain the password
        hint = "write postgresql://USER@HOST:PORT/DATABASE in search.storage"
        return Check(name="PostgreSQL", state="failed", detail="the address is invalid", hint=hint)
    address = f"{url.host or 'local socket'}:{url.port or 5432}/{url.database or ''}"
    try:
        with psycopg.connect(url.render_as_string(hide_password=False), connect_timeout=int(SECONDS)) as connection:
            version = connection.info.parameter_status("server_version")
            row = connection.execute("SELECT has_schema_privilege(current_schema(), 'CREATE')").fetchone()
    except psycopg.Error as error:
        hint = "start the server, or check search.storage, PGPASSWORD and ~/.pgpass"
        detail = f"{address}: {_first_sentence(error)}".replace(str(url.password or "\n"), "***")
        return Check(name="PostgreSQL", state="failed", detail=detail, hint=hint)
    if not (row and row[0]):
        hint = "GRANT CREATE ON SCHEMA public, which the first search of a database needs"
        return Check(name="PostgreSQL", state="warning", detail=f"{address}: no right to create tables", hint=hint)
    return Check(name="PostgreSQL", state="OK", detail=f"{address}, version {version}")


def check_clock(settings: Settings) -> list[Check]:
    """The clock of this machine against the Date header of every HTTP server that is configured."""
    addresses = {name: address for name, address in _http_servers(settings).items() if address}
    if not addresses:
        return [Check(name="clock", state="unknown", detail="no server to compare the clock with")]
    return [_check_skew(f"clock, {name}", address) for name, address in addresses.items()]


def _http_servers(settings: Settings) -> dict[str, str]:
    named = {
        "S3": s3.endpoint() if uses_s3(settings) and not _s3_address_fault() else "",
        "MLflow": os.environ.get("MLFLOW_TRACKING_URI", ""),
        "Kubeflow Pipelines": os.environ.get("KF_PIPELINES_ENDPOINT", ""),
    }
    return {name: _origin(address) for name, address in named.items() if not address_fault(address)}


def _s3_address_fault() -> str:
    address = next((os.environ[name] for name in _S3_VARIABLES if os.environ.get(name)), "")
    return (
        "the address does not start with http:// or https://"
        if address and "://" not in address
        else (address_fault(address))
    )


def address_fault(address: str) -> str:
    """What is wrong with the form of an HTTP address; empty: nothing, or it is no HTTP address."""
    if _HOST_AND_PORT.match(address):
        return f"the address has no scheme: write http://{address}, or https://"
    if not address.startswith(("http://", "https://")):
        return ""
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError as error:
        return f"the address is invalid ({error})"
    return "" if parts.hostname else "the address has no host"


def _origin(address: str) -> str:
    """Scheme and host of an HTTP address, without user information; "" for any other address."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/" if parts.scheme in ("http", "https") else ""


def _check_skew(name: str, address: str) -> Check:
    skew = measure_skew(address)
    if skew is None:
        return Check(name=name, state="unknown", detail=f"{address} returned no time")
    detail = f"{abs(skew):.0f} s {'behind' if skew > 0 else 'ahead of'} {address}" if abs(skew) >= 1 else "within 1 s"
    hint = "synchronise the clock of this machine (timedatectl set-ntp true), or that of the server"
    if abs(skew) < NOTABLE_SKEW:
        return Check(name=name, state="OK", detail=detail)
    return Check(name=name, state="failed" if abs(skew) >= FAULTY_SKEW else "warning", detail=detail, hint=hint)


def measure_skew(address: str) -> float | None:
    """Seconds by which the server's clock is ahead of this machine's; None where it does not answer with a time.

    The header counts whole seconds: half a second is added, and the middle of request and response is compared.
    """
    before = time.time()
    date = _date_header(address)
    middle = (before + time.time()) / 2
    try:
        return email.utils.parsedate_to_datetime(date).timestamp() + 0.5 - middle
    except ValueError:
        return None


def _date_header(address: str) -> str:
    """The Date header of any response, also of a refusal; "" without a response."""
    try:
        with urllib.request.urlopen(address, timeout=SECONDS) as response:  # noqa: S310  # nosec B310  (see _origin)
            return str(response.headers.get("Date", ""))
    except urllib.error.HTTPError as error:
        return str(error.headers.get("Date", ""))
    except OSError:
        return ""


def _first_sentence(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
