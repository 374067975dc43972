"""DVC as a child process: configuration of its remote, and recovery after a killed run."""

import configparser
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil

from mcti import storage
from mcti.errors import OperationalError
from mcti.local import settings

REMOTE = "storage"


def configure_remote(root: Path, stack: Path) -> None:
    """Write `.dvc/config.local` (git-ignored) so that `dvc push` and `dvc pull` use the stack in the folder `stack`.

    A folder without `.dvc` is not changed.

    Raises OperationalError when the file `env` of the stack has no S3 endpoint.
    """
    dvc = root / ".dvc"
    if not dvc.is_dir():
        return
    endpoint = _read_export(stack / settings.ENV, "AWS_ENDPOINT_URL_S3")
    config = configparser.ConfigParser()
    config[f"'remote \"{REMOTE}\"'"] = {
        "endpointurl": endpoint,
        "credentialpath": str(stack / settings.CREDENTIALS),
        # A named profile: without one, DVC prefers keys of the environment.
        "profile": settings.PROFILE,
        "region": settings.REGION,
    }
    # DVC caches which versions a remote has, keyed by the URL of the remote, in a folder that all projects of a machine
    # share. With a second stack it would assume that all versions are already in its remote, and upload nothing.
    config["core"] = {"site_cache_dir": str(dvc / "tmp" / "site")}
    if not (root / ".git").exists():
        config["core"]["no_scm"] = "true"
    path = dvc / "config.local"
    with storage.replacing(path) as draft, draft.open("w", encoding="utf-8") as stream:
        config.write(stream)


def run(root: Path, *arguments: str, quiet: bool = False, environment: Mapping[str, str] | None = None) -> str:
    """Run `dvc ARGUMENTS` in `root`; its messages go to stderr, or are returned when `quiet`.

    environment     further variables for DVC and its stages, such as a marker by which they are identified later

    Raises OperationalError when DVC is missing or fails; the reason is in the error, or on stderr.
    """
    program = Path(sys.executable).with_name("dvc")
    if not program.exists():
        raise OperationalError("the program dvc is missing", str(program.parent), "install mcti[local] (make install)")
    clear_stale_locks(root)
    path = f"{program.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=root,
        env={**os.environ, **settings.QUIET, **(environment or {}), "PATH": path},
        stdout=subprocess.PIPE if quiet else sys.stderr.fileno(),
        stderr=subprocess.STDOUT if quiet else None,
        text=True,
        check=False,
    )
    if done.returncode:
        raise _failure(arguments, done.returncode, done.stdout or "")
    return done.stdout or ""


def push(root: Path, environment: Mapping[str, str] | None = None) -> bool:
    """Run `dvc push`, unless the remote records a push of these versions; whether DVC was run.

    The record is an object of the remote, written after the push: a new or emptied remote has none. Versions: those of
    `dvc.lock` and of the `.dvc` files in `data`.

    Raises OperationalError as `run`, and when the remote is not available.
    """
    record = storage.join(_remote(root), "pushed", f"{_digest_of_versions(root)}.json")
    if storage.exists(record):
        return False
    run(root, "push", quiet=True, environment=environment)
    storage.write_json(record, {"files": [path.name for path in _version_files(root)]})
    return True


def _remote(root: Path) -> str:
    config = configparser.ConfigParser()
    config.read(root / ".dvc" / "config", encoding="utf-8")
    return config[f"'remote \"{REMOTE}\"'"]["url"].rstrip("/")


def _version_files(root: Path) -> list[Path]:
    return [root / "dvc.lock", *sorted((root / "data").glob("*.dvc"))]


def _digest_of_versions(root: Path) -> str:
    return storage.text_md5("".join(storage.md5(path) for path in _version_files(root)))


def clear_stale_locks(root: Path) -> None:
    """Remove entries of `.dvc/tmp/rwlock` whose process has ended or is not DVC.

    DVC accepts every running pid, so that a pid reused by another process would block the folder permanently. A file
    that was truncated by the kill is replaced.
    """
    lock_file = root / ".dvc" / "tmp" / "rwlock"
    if not lock_file.is_file():
        return
    try:
        table = json.loads(lock_file.read_text(encoding="utf-8") or "{}")
    except ValueError:
        table = {}
    writers = {path: entry for path, entry in table.get("write", {}).items() if _is_dvc(entry["pid"])}
    readers = {
        path: running
        for path, entries in table.get("read", {}).items()
        if (running := [entry for entry in entries if _is_dvc(entry["pid"])])
    }
    storage.write_text(lock_file, json.dumps({"write": writers, "read": readers}))


def _is_dvc(pid: int) -> bool:
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and any("dvc" in word for word in process.cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def _failure(arguments: tuple[str, ...], code: int, output: str) -> OperationalError:
    result = f"was killed by signal {-code}" if code < 0 else "failed"
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    reason = next((line for line in reversed(lines) if "ERROR" in line), lines[-1] if lines else "")
    hint = "correct this and run the same command again: finished work is kept"
    return OperationalError(
        f"`dvc {' '.join(arguments)}` {result}", reason, hint if reason else f"see the output above; {hint}"
    )


def _read_export(env: Path, name: str) -> str:
    for line in env.read_text(encoding="utf-8").splitlines():
        if line.startswith(f"export {name}="):
            return line.partition("=")[2].strip("'\"")
    raise OperationalError(f"{name} is missing", str(env), "run `mcti stack up` again")
