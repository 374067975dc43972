"""What a process must know of the stack: addresses, keys, switches; written to `.stack/env`, read by `activate`."""

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
_OTHER_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ENDPOINT_URL")
QUIET = {
    "DO_NOT_TRACK": "true",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
}


def activate(start: Path, *, force: bool = False) -> Path | None:
    """Point this process at the nearest stack at or above `start`; the file read, or None when there is none.

    An S3 or MLflow address already in the environment stays (unless `force`): it was chosen on purpose. Where the
    stack's S3 is taken, keys of another service are dropped from the environment, since they would be refused.
    """
    place = nearest(start, f".stack/{ENV}")
    if place is None:
        return None
    found = place / ".stack" / ENV
    values = dict(_parse(line) for line in found.read_text(encoding="utf-8").splitlines() if line.startswith("export"))
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
    return found


def nearest(start: Path, name: str) -> Path | None:
    """The nearest folder at or above `start` with a `name` that we may read: the stack of another user is not ours."""
    return next((folder for folder in (start, *start.parents) if os.access(folder / name, os.R_OK)), None)


def write(folder: Path, ports: dict[str, int], credentials: Path | None = None) -> Path:
    """Write `folder`/env (mode 0600), to be sourced by a shell."""
    values = _values(ports, credentials or folder / CREDENTIALS)
    lines = ["# The stack of this folder: `. .stack/env`. Written by `mcti stack up`."]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in sorted(values.items())]
    return write_private(folder / ENV, "\n".join(lines) + "\n")


def environment(folder: Path, ports: dict[str, int]) -> dict[str, str]:
    """The environment of a server or tool of the stack: ours, without keys of other services."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MLFLOW_", "_MLFLOW"))}
    values = _values(ports, folder / CREDENTIALS)
    values.pop("MLFLOW_TRACKING_URI")  # the server is what it names
    return {**ours, **values, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


def make_credentials(folder: Path) -> Path:
    """Keys made on the spot, once a stack, in files only the owner can read; the path of SeaweedFS's identities."""
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
    """`text` to a file of mode 0600 from its first byte on, whole or not at all."""
    with storage.replacing(path) as draft:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as stream:  # noqa: PTH123  (a descriptor, not a path)
            stream.write(text)
    return path


def s3_ready(ports: dict[str, int]) -> bool:
    """Whether S3 answers a signed request of this process."""
    if not servers.accepts_connections(ports["s3"]):
        return False
    try:
        s3.ensure_bucket("mcti-data")
    except OperationalError:
        return False
    return True


def mlflow_ready(ports: dict[str, int]) -> bool:
    """Whether MLflow says that it is healthy."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{ports['mlflow']}/health", timeout=2) as answer:  # nosec B310
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _values(ports: dict[str, int], credentials: Path) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{ports['s3']}",
        "AWS_SHARED_CREDENTIALS_FILE": str(credentials),
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{ports['mlflow']}",
        **QUIET,
    }


def _parse(line: str) -> tuple[str, str]:
    name, _, value = line.removeprefix("export ").partition("=")
    return name, "".join(shlex.split(value))
