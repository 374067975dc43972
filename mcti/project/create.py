"""A new project folder: a git repository with the files of the project; files that exist are kept."""

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from mcti import storage
from mcti.errors import OperationalError
from mcti.project import files
from mcti.project.files import Writer, WrittenFiles


def create(folder: Path, name: str, params: str, own_files: Mapping[str, str | Writer] | None = None) -> WrittenFiles:
    """Write a project into `folder`, which is created where it is missing; no file is overwritten.

    name        registered model
    params      text of params.yaml
    own_files   {path: text or writer} of further files, such as converted tables

    Raises OperationalError when git is missing, or the folder cannot be written.
    """
    program = shutil.which("git")
    if program is None:
        raise OperationalError("the program git is missing", "PATH", "install git (Debian: apt-get install git)")
    with storage.translating_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if not _is_in_repository(program, folder):
        _git(program, folder, "init", "--quiet")
    return files.write(folder, {**(own_files or {}), "params.yaml": params, **files.common_files(name)})


def is_empty(folder: Path) -> bool:
    """Whether a folder has no files but hidden ones and environments of Python."""
    entries = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return all((path / "pyvenv.cfg").is_file() for path in entries)


def _is_in_repository(program: str, folder: Path) -> bool:
    command = [program, "rev-parse", "--show-toplevel"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    # A project below another repository gets its own: DVC needs the root of its repository.
    return done.returncode == 0 and Path(done.stdout.strip()).resolve() == folder.resolve()


def _git(program: str, folder: Path, *arguments: str) -> None:
    done = subprocess.run([program, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        what = f"`git {' '.join(arguments)}` failed ({done.stderr.strip()})"
        raise OperationalError(what, str(folder), "correct this and run the same command again")
