"""The command blocks of the documents: what runs, and what is compared with the parsers only.

A block of commands starts with ```bash. It is run by a test (`ELSEWHERE`, or tests/stack/test_pages.py); a block with a
`title`, which states what it needs and which test covers it, is not. Every command of both kinds must be understood by
the parser of its program (`fault`). tests/infra/test_runbook.py covers the blocks of infra/runbook.md.
"""

import contextlib
import io
import itertools
import json
import re
import shlex
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
GENERATED = ("api.md", "cli.md", "params.md", "results.md")
"""docs/render.py and benchmarks/tcga_study.py write these pages."""
_WRITTEN = [page for page in (ROOT / "docs").rglob("*.md") if page.name not in GENERATED]
PAGES = {page.relative_to(ROOT).as_posix(): page for page in (*ROOT.glob("*.md"), *sorted(_WRITTEN))}
"""Path from the root -> page."""
ELSEWHERE = {
    "docs/tutorial/demo.md": "tests/stack/test_whole_way.py",
    "docs/tutorial/own-tables.md": "tests/stack/test_without_slides.py",
    "docs/tutorial/own-features.md": "tests/stack/test_without_slides.py",
    "docs/tutorial/cluster.md": "tests/stack/test_without_slides.py",
    "docs/tutorial/promotion.md": "tests/stack/test_without_slides.py",
    "docs/how-to/external-cohort.md": "tests/stack/test_without_slides.py",
    "docs/how-to/monitoring.md": "tests/stack/test_without_slides.py",
    "docs/how-to/new-patients.md": "tests/stack/test_without_slides.py",
}
"""Pages whose blocks belong to one project, and the test that runs them there."""
LANGUAGES = ("bash", "yaml", "text", "csv", "json", "python")
SHELL = ("git", "mkdir", "cd", "python3", "pip", ".")
_FENCE = re.compile(
    r'^(?P<indent> *)```(\w*)(?: title="([^"]+)")?([^\n]*)\n(.*?)^(?P=indent)```$', re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    """One fenced block; title: what it needs, empty when a test runs it."""

    page: str
    language: str
    title: str
    rest: str
    text: str


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    fences = [match.groups("")[1:] for match in _FENCE.finditer(page.read_text(encoding="utf-8"))]
    return [Block(page.name, *words, textwrap.dedent(text)) for *words, text in fences]


def to_run(page: Path) -> list[str]:
    """The scripts of a page that a test runs, in order."""
    return [block.text for block in blocks(page) if block.language == "bash" and not block.title]


def settings(page: Path) -> str:
    """The YAML blocks of a page that are settings."""
    return "".join(block.text for block in blocks(page) if block.language == "yaml" and not block.title)


def run(scripts: list[str], folder: Path, environment: dict[str, str]) -> str:
    """Run scripts in a folder, each in a shell that ends at the first error. Returns their output.

    Raises  AssertionError when a command fails.
    """
    identity = {
        f"GIT_{role}_{key}": f"{role.lower()}@example.org"
        for role in ("AUTHOR", "COMMITTER")
        for key in ("NAME", "EMAIL")
    }
    output = ""
    for script in scripts:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script], cwd=folder, capture_output=True, text=True,
            check=False, env=environment | identity,
        )  # fmt: skip
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        output += done.stdout
    return output


def commands(script: str) -> list[list[str]]:
    """The words of each command of a script, without comments."""
    lines = script.replace("\\\n", " ").splitlines()
    return [words for line in lines for part in line.split("&&") if (words := shlex.split(part, comments=True))]


def fault(words: list[str]) -> str:
    """Why the program would refuse these words; empty when its parser understands them."""
    program, *rest = words
    checks = {"mcti": _mcti, "dvc": _dvc, "make": _make, "kubectl": _kubectl, "kfp": _kfp, "docker": _docker}
    checks["curl"] = _curl
    if program in checks:
        return checks[program](rest)
    if "/" in program:
        exists = (ROOT / program).is_file() or (Path(sys.executable).parent / Path(program).name).exists()
        return "" if exists else f"no file {program}"
    return "" if program in SHELL else f"no parser for {program}"


def _mcti(rest: list[str]) -> str:
    from typer.main import get_command

    from mcti.cli.app import app

    return _click(get_command(app), rest)


def _kfp(rest: list[str]) -> str:
    from kfp.cli import cli

    return _click(cli.cli, rest)


def _docker(rest: list[str]) -> str:
    """The command of mcti that a container runs."""
    return _mcti(rest[rest.index("mcti") + 1 :]) if "mcti" in rest else "no command of mcti"


def _curl(rest: list[str]) -> str:
    """The body must be JSON."""
    try:
        json.loads(rest[rest.index("-d") + 1])
    except ValueError as error:  # also without -d
        return str(error)
    return ""


def _click(command: Any, rest: list[str]) -> str:
    """Why the parser of a command or group refuses these words."""
    words = list(rest)
    while hasattr(command, "commands"):
        while words and words[0].startswith("--"):  # an option of the group, with its value
            del words[:2]
        if not words or words[0] not in command.commands:
            return f"no command {' '.join(rest)}"
        command = command.commands[words.pop(0)]
    try:
        command.make_context(command.name, words)
    except Exception as error:  # the parser raises its own error, and pydantic's for a value
        return str(error)
    return ""


def _dvc(rest: list[str]) -> str:
    from dvc.cli.parser import get_main_parser

    message = io.StringIO()
    with contextlib.redirect_stderr(message), contextlib.redirect_stdout(message):
        try:
            get_main_parser().parse_args(rest)
        except (SystemExit, Exception) as error:
            return f"{error} {message.getvalue()}"
    return ""


def _make(rest: list[str]) -> str:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    return "".join(f"no target {word}" for word in rest if "=" not in word and word not in targets)


def _kubectl(rest: list[str]) -> str:
    folders = [after for word, after in itertools.pairwise(rest) if word == "-k"]
    return "".join(f"no folder {name}" for name in folders if not (ROOT / name).is_dir())
