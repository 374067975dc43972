"""The command blocks of the tutorial and the how-tos: what runs, and what is compared with the parsers only.

A block of a page starts with ```bash. It is run by a test; a block with a `title`, which states what it needs, is not.
Every command of both kinds must be understood by the parser of its program (`fault`).
"""

import contextlib
import io
import itertools
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = sorted([*(ROOT / "docs" / "tutorial").glob("*.md"), *(ROOT / "docs" / "how-to").glob("*.md")])
LANGUAGES = ("bash", "yaml", "text")
SHELL = ("git", "mkdir", "cd", "python3", "pip", ".")
_FENCE = re.compile(r'^```(\w*)(?: title="([^"]+)")?([^\n]*)\n(.*?)^```$', re.MULTILINE | re.DOTALL)


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
    return [Block(page.name, *match.groups("")) for match in _FENCE.finditer(page.read_text(encoding="utf-8"))]


def to_run(page: Path) -> list[str]:
    """The scripts of a page that a test runs, in order."""
    return [block.text for block in blocks(page) if block.language == "bash" and not block.title]


def settings(page: Path) -> str:
    """The YAML blocks of a page."""
    return "".join(block.text for block in blocks(page) if block.language == "yaml")


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
    checks = {"mcti": _mcti, "dvc": _dvc, "make": _make, "kubectl": _kubectl}
    if program in checks:
        return checks[program](rest)
    return "" if program in SHELL else f"no parser for {program}"


def _mcti(rest: list[str]) -> str:
    from typer.main import get_command

    from mcti.cli.app import app

    command, words = get_command(app), list(rest)
    while hasattr(command, "commands"):
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
