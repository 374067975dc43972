"""DVC as a program: where its remote is, what it tracks, how a killed run is picked up again."""

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
    """Write `.dvc/config.local` (git-ignored) so that plain `dvc push` and `dvc pull` reach the stack in `stack`.

    A folder without `.dvc` has nothing to version and is left alone.
    """
    dvc = root / ".dvc"
    if not dvc.is_dir():
        return
    endpoint = _exported(stack / settings.ENV, "AWS_ENDPOINT_URL_S3")
    config = configparser.ConfigParser()
    config[f"'remote \"{REMOTE}\"'"] = {
        "endpointurl": endpoint,
        "credentialpath": str(stack / settings.CREDENTIALS),
        # A named profile, since DVC would let keys in the environment win over an unnamed one.
        "profile": settings.PROFILE,
        "region": settings.REGION,
    }
    # DVC remembers by a remote's URL alone which versions lie in it, in a folder that all projects of a machine share:
    # of two stacks, the second would be told that everything is there already, and get nothing.
    config["core"] = {"site_cache_dir": str(dvc / "tmp" / "site")}
    if not (root / ".git").exists():
        config["core"]["no_scm"] = "true"
    path = dvc / "config.local"
    with storage.replacing(path) as draft, draft.open("w", encoding="utf-8") as stream:
        config.write(stream)


def run(root: Path, *arguments: str, quiet: bool = False, marks: Mapping[str, str] | None = None) -> str:
    """Run `dvc ARGUMENTS` in `root`; its messages go to stderr, or into the result when `quiet`.

    `marks` go into the environment of DVC and its stages, by which they are found when their caller was killed.

    Raises
        OperationalError: DVC is missing or fails; its reason is in the error, or above it on stderr.
    """
    program = Path(sys.executable).with_name("dvc")
    if not program.exists():
        raise OperationalError("the program dvc is missing", str(program.parent), "install mcti[local] (make install)")
    clear_stale_locks(root)
    path = f"{program.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=root,
        env={**os.environ, **settings.QUIET, **(marks or {}), "PATH": path},
        stdout=subprocess.PIPE if quiet else sys.stderr.fileno(),
        stderr=subprocess.STDOUT if quiet else None,
        text=True,
        check=False,
    )
    if done.returncode:
        raise _failure(arguments, done.returncode, done.stdout or "")
    return done.stdout or ""


def clear_stale_locks(root: Path) -> None:
    """Drop what a killed DVC left in `.dvc/tmp/rwlock`: entries of processes that are gone or are not DVC now.

    DVC itself trusts any living pid, so a pid used again would block the folder for good. The file is replaced whole
    when it was cut short by the kill.
    """
    path = root / ".dvc" / "tmp" / "rwlock"
    if not path.is_file():
        return
    try:
        table = json.loads(path.read_text(encoding="utf-8") or "{}")
    except ValueError:
        table = {}
    writers = {place: info for place, info in table.get("write", {}).items() if _is_dvc(info["pid"])}
    readers = {
        place: kept
        for place, infos in table.get("read", {}).items()
        if (kept := [info for info in infos if _is_dvc(info["pid"])])
    }
    storage.write_text(path, json.dumps({"write": writers, "read": readers}))


def _is_dvc(pid: int) -> bool:
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and any("dvc" in word for word in process.cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def _failure(arguments: tuple[str, ...], code: int, output: str) -> OperationalError:
    ended = f"was killed by signal {-code}" if code < 0 else "failed"
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    reason = next((line for line in reversed(lines) if "ERROR" in line), lines[-1] if lines else "")
    hint = "mend that and run the same command again: finished work is kept"
    return OperationalError(f"`dvc {' '.join(arguments)}` {ended}", reason, hint if reason else f"see above; {hint}")


def _exported(env: Path, name: str) -> str:
    for line in env.read_text(encoding="utf-8").splitlines():
        if line.startswith(f"export {name}="):
            return line.partition("=")[2].strip("'\"")
    raise OperationalError(f"{name} is missing", str(env), "write it anew with `mcti stack up`")
