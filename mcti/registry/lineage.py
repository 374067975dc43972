"""Where a model comes from: the commit of the code and the MD5s of the data."""

import os
import subprocess
from pathlib import Path

import mcti

UNKNOWN = "unknown"


def commit() -> str:
    """The commit of the code that runs, `…-dirty` when files of the package differ from it.

    MCTI_COMMIT says it where there is no checkout (an image); without either it is `unknown`.
    """
    named = os.environ.get("MCTI_COMMIT")
    if named:
        return named
    package = Path(mcti.__file__).resolve().parent
    head = _git(package, "rev-parse", "HEAD")
    if head is None:
        return UNKNOWN
    return head + ("-dirty" if _git(package, "status", "--porcelain", "--untracked-files=no", ".") else "")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
