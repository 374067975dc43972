"""The files of a project, and writing them without overwriting any."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from tempfile import TemporaryDirectory

import mcti
from mcti import storage
from mcti.project.constraints import constraints

VERSION_FILE = "data/mcti_version.txt"
"""What `mcti --version` prints; every stage depends on it, so that another version runs the stages again."""
_HEAD = """# The stages from params.yaml and source tables to a registered model. `mcti init` wrote this file: edit it.
# The stage `version` writes the version of the installed mcti, on which the other stages depend: after an upgrade they
# run again. `persist`: an interrupted run resumes from the files it has written.
"""
_VERSION_STAGE = f"""stages:
  version:
    desc: Write the version of the installed mcti, on which the other stages depend
    cmd: mkdir -p data && ${{mcti}} --version > {VERSION_FILE}
    always_changed: true
    outs:
      - {VERSION_FILE}

"""
_IGNORED = """.venv
.stack/
__pycache__/
build/
wheels/
# DVC stores these. Not `/data/*`: DVC reads that as the folder itself, and would then see no raw.dvc in it.
/data/?*
!/data/raw.dvc
/models/
/reports/*
"""


@dataclass(frozen=True)
class WrittenFiles:
    """Paths below the project folder: files that were written, and existing ones that were kept.

    unchanged   existing files with the same content;  edited  existing files with another content
    """

    written: tuple[str, ...]
    unchanged: tuple[str, ...]
    edited: tuple[str, ...]


Writer = Callable[[Path], None]
"""Writes the file of this path."""


def write(folder: Path, files: Mapping[str, str | Writer]) -> WrittenFiles:
    """Write `files` ({path: text or writer}) below `folder`; a file that exists is never overwritten.

    Raises OperationalError when a file cannot be written.
    """
    written, unchanged, edited = [], [], []
    with storage.translating_os_errors(folder):
        for name, content in files.items():
            path = folder / name
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                with storage.replacing(path) as draft:
                    _write(draft, content)
                written.append(name)
            elif _has_content(path, content):
                unchanged.append(name)
            else:
                edited.append(name)
    return WrittenFiles(tuple(written), tuple(unchanged), tuple(edited))


def _write(path: Path, content: str | Writer) -> None:
    if isinstance(content, str):
        path.write_text(content, encoding="utf-8")
    else:
        content(path)


def _has_content(path: Path, content: str | Writer) -> bool:
    with TemporaryDirectory(prefix="mcti-init-") as scratch:
        expected = Path(scratch, path.name)
        _write(expected, content)
        return path.is_file() and path.read_bytes() == expected.read_bytes()


def common_files(name: str) -> dict[str, str]:
    """{path: text} of the files that every project has; its settings, params.yaml, are not among them.

    name    registered model of the project
    """
    root = resources.files("mcti.project").joinpath("files")
    files = {path: _template(source).replace("@NAME@", name) for path, source in _TEMPLATES.items()} | {
        "dvc.yaml": stages(root.joinpath("dvc.yaml").read_text(encoding="utf-8")),
        "requirements.txt": f"mcti[local]=={mcti.__version__}\n",
        "constraints.txt": constraints(),
        ".gitignore": _IGNORED,
        ".dvcignore": "__pycache__\n*.pyc\n.*.draft\n.*.old\n",
        ".dvc/config": _DVC_CONFIG,
        ".dvc/.gitignore": "/config.local\n/tmp\n/cache\n",
    }
    for folder, target in (("plots", ".dvc/plots"), ("vega", ".dvc/vega"), ("kubernetes", "deploy/mcti")):
        files |= _tree(root.joinpath(folder), target)
    return files


def demo_params() -> str:
    """params.yaml of the demo."""
    path = resources.files("mcti.project").joinpath("files", "demo_params.yaml")
    return path.read_text(encoding="utf-8").replace(' (README, "Your own cohort")', " (mcti init)")


_TEMPLATES = {
    "README.md": "README.md",
    "Makefile": "Makefile",
    ".github/workflows/check.yaml": "check.yaml",
    "deploy/kustomization.yaml": "kustomization.yaml",
}
"""Path in the project -> file in mcti/project/templates."""


def _template(name: str) -> str:
    return resources.files("mcti.project").joinpath("templates", name).read_text(encoding="utf-8")


_DVC_CONFIG = """[core]
    analytics = false
    autostage = false
    remote = storage
['remote "storage"']
    url = s3://mcti-data/dvc
[plots]
    html_template = vega/page.html
"""


def stages(text: str) -> str:
    """dvc.yaml of a project from that of the checkout: stages depend on the installed version, not on sources."""
    lines, has_version = [], False
    for line in text.partition("vars:\n")[2].splitlines(keepends=True):
        if re.match(r"  \w", line):  # the next stage
            has_version = False
        is_source = line.startswith("      - mcti/")
        if not is_source:
            lines.append(line)
        elif not has_version:
            lines.append(f"      - {VERSION_FILE}\n")
        has_version = has_version or is_source
    return _HEAD + "vars:\n" + "".join(lines).replace("stages:\n", _VERSION_STAGE, 1)


def _tree(folder: Traversable, target: str) -> dict[str, str]:
    """{path: text} of all files below a folder of the package."""
    files: dict[str, str] = {}
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        path = f"{target}/{entry.name}"
        files |= _tree(entry, path) if entry.is_dir() else {path: entry.read_text(encoding="utf-8")}
    return files
