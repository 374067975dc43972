"""Environment of the stack (addresses, keys, switches): written to `.stack/env`, applied by `activate`."""

import json
import os
import secrets
import shlex
import urllib.error
import urllib.request
from pathlib import Path

from mcti import s3, storage
from mcti.errors import OperationalError
from mcti.local import servers

ENV = "env"
CREDENTIALS = "credentials"
SECRETS = "secrets.json"
PROFILE = "mcti"
REGION = "us-east-1"
ANCHORS = "mcti-anchors"
"""Bucket of the anchors of ledgers (registry/ledger_anchors.py)."""
_OTHER_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ENDPOINT_URL")
QUIET = {
    "DO_NOT_TRACK": "true",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
}


def activate(start: Path, *, force: bool = False) -> Path | None:
    """Configure this process for the nearest stack at or above `start`; the file read, or None without a stack.

    An S3 or MLflow address in the environment takes precedence (unless `force`). Where the S3 of the stack is used,
    keys of other services are removed from the environment, since the stack would refuse them.
    """
    root = nearest(start, f".stack/{ENV}")
    if root is None:
        return None
    env_file = root / ".stack" / ENV
    values = dict(
        _parse(line) for line in env_file.read_text(encoding="utf-8").splitlines() if line.startswith("export")
    )
    keep_s3 = not force and "AWS_ENDPOINT_URL_S3" in os.environ
    if not keep_s3:
        for name in _OTHER_KEYS:
            os.environ.pop(name, None)
    for name, value in values.items():
        if name.startswith("AWS_"):
            if not keep_s3:
                os.environ[name] = value
        elif force and name == "MLFLOW_TRACKING_URI":
            os.environ[name] = value
        else:
            os.environ.setdefault(name, value)
    return env_file


def nearest(start: Path, name: str) -> Path | None:
    """The nearest folder at or above `start` with a readable `name`; stacks of other users are not readable."""
    return next((folder for folder in (start, *start.parents) if os.access(folder / name, os.R_OK)), None)


def write(folder: Path, ports: dict[str, int], credentials: Path | None = None) -> Path:
    """Write `folder`/env (mode 0600), which a shell can source.

    ports           {server: port};  credentials: path of the credentials file, default: that of `folder`
    """
    values = _values(ports, credentials or folder / CREDENTIALS)
    lines = ["# The stack of this folder: `. .stack/env`. Written by `mcti stack up`."]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in sorted(values.items())]
    return write_private(folder / ENV, "\n".join(lines) + "\n")


def environment(folder: Path, ports: dict[str, int]) -> dict[str, str]:
    """The environment of a server of the stack: that of this process, without keys of other services."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MLFLOW_", "_MLFLOW"))
    }
    values = _values(ports, folder / CREDENTIALS)
    values.pop("MLFLOW_TRACKING_URI")  # it is the address of the server itself
    return {**inherited, **values, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


def make_credentials(folder: Path) -> Path:
    """Generate the keys of a stack once, in files with mode 0600; the path of the identities of SeaweedFS."""
    identities = folder / "identities.json"
    if not ((folder / SECRETS).exists() and (folder / CREDENTIALS).exists() and identities.exists()):
        access, secret = secrets.token_hex(10), secrets.token_urlsafe(30)
        pair = f"aws_access_key_id = {access}\naws_secret_access_key = {secret}\n"
        write_private(folder / CREDENTIALS, f"[default]\n{pair}\n[{PROFILE}]\n{pair}")
        keys = ("SIGNING", "SIGNING_READ", "FILER_SIGNING", "FILER_SIGNING_READ")
        write_private(folder / SECRETS, json.dumps({f"WEED_JWT_{key}_KEY": secrets.token_urlsafe(30) for key in keys}))
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        pairs = [{"accessKey": access, "secretKey": secret}]
        write_private(
            identities, json.dumps({"identities": [{"name": "mcti", "credentials": pairs, "actions": actions}]})
        )
    return identities


def write_private(path: Path, text: str) -> Path:
    """Write `text` atomically to a file that has mode 0600 from its creation."""
    with storage.replacing(path) as draft:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as stream:  # noqa: PTH123  (a descriptor, not a path)
            stream.write(text)
    return path


_PROBE = "s3://mcti-data/stack/ready"


def s3_ready(ports: dict[str, int]) -> bool:
    """Whether S3 answers signed requests and returns the bytes of an object.

    The S3 server of SeaweedFS answers before its volumes are registered; each object is an InternalError until then.
    """
    if not servers.accepts_connections(ports["s3"]):
        return False
    try:
        s3.ensure_bucket("mcti-data")
        if not s3.exists(_PROBE):
            s3.put(_PROBE, b"ready")
        return s3.get(_PROBE)[0] == b"ready"
    except OperationalError:
        return False


def mlflow_ready(ports: dict[str, int]) -> bool:
    """Whether the health check of MLflow succeeds."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{ports['mlflow']}/health", timeout=2) as response:  # nosec B310
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _values(ports: dict[str, int], credentials: Path) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{ports['s3']}",
        "AWS_SHARED_CREDENTIALS_FILE": str(credentials),
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{ports['mlflow']}",
        "MCTI_LEDGER_ANCHORS": f"s3://{ANCHORS}",
        **QUIET,
    }


def _parse(line: str) -> tuple[str, str]:
    name, _, value = line.removeprefix("export ").partition("=")
    return name, "".join(shlex.split(value))
