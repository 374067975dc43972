"""Write docs/params.md and docs/cli.md from the code they describe. Run: make docs (a test holds them equal)."""

import typing
from pathlib import Path

from pydantic import BaseModel
from typer.main import get_command

from mcti.cli.app import app
from mcti.cohort import tables
from mcti.contracts import expectations
from mcti.params import Settings

HERE = Path(__file__).parent

PARAMS_HEAD = """# Settings

All of `params.yaml`, section by section; a key that stands in no table below is an error.
`--set section.key=value` overrides one key of one command. This page is written by `make docs` from `mcti/params/`.
"""

CLI_HEAD = """# The command line

One command a step; the same word as the function, the DVC stage and the component. Every command takes
`--params FILE` (default `params.yaml`), `--set dotted.key=value` (repeatable), `--json` (exactly one JSON document on
stdout; people's lines and progress go to stderr), `--debug` and `--help`.
Inputs may be local paths or `s3://` addresses.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | a defect of ours: run again with `--debug` and report it |
| 2 | usage: a flag or a setting is wrong |
| 3 | bad data: the line names file, row, column, value and mend |
| 4 | the environment or a service: no server, no room, no permission |
| 10 | rejected (`promote`) |
| 11 | not enough evidence (`promote`) |
| 130 | interrupted |

An error is one line, `error: WHAT in WHERE: MEND`; with `--json` stdout also gets
`{"error": {"code", "message", "where", "hint"}}`.
This page is written by `make docs` from `mcti/cli/`.
"""


def params_page() -> str:
    """docs/params.md."""
    sections = [_section(name, field.annotation) for name, field in _named(Settings)]
    return PARAMS_HEAD + "".join(sections)


def cli_page() -> str:
    """docs/cli.md."""
    parts = [CLI_HEAD]
    tree = get_command(app)
    for name, command in sorted(tree.commands.items()):
        inner = getattr(command, "commands", None)
        found = sorted((f"{name} {word}", sub) for word, sub in inner.items()) if inner else [(name, command)]
        parts += [_command(words, sub) for words, sub in found]
    return "".join(parts)


def cohort_page() -> str:
    """docs/cohort.md: its own text, with the schema and the expectations between their marks."""
    text = (HERE / "cohort.md").read_text(encoding="utf-8")
    written = {"schema": tables.render_schema(), "expectations": expectations.render()}
    for mark, part in written.items():
        head, _, rest = text.partition(f"<!-- {mark} -->\n")
        tail = rest.partition(f"<!-- end of {mark} -->\n")[2]
        text = f"{head}<!-- {mark} -->\n{part}<!-- end of {mark} -->\n{tail}"
    return text


def _command(words: str, command: typing.Any) -> str:
    text = (command.help or "").replace("\b\n", "")
    what, _, example = text.partition("Example:")
    return f"\n## `mcti {words}`\n{what.strip()}\n\n```\n{example.strip()}\n```\n"


def _named(kind: type[BaseModel]) -> list[tuple[str, typing.Any]]:
    return [(field.alias or name, field) for name, field in kind.model_fields.items()]


def _section(path: str, kind: typing.Any) -> str:
    own, inner = [], []
    for name, field in _named(kind):
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            inner.append(_section(f"{path}.{name}", field.annotation))
        else:
            own.append(_row(name, field))
    doc = (kind.__doc__ or "").strip()
    table = "| key | default | range | meaning |\n|---|---|---|---|\n" + "".join(own)
    return f"\n## {path}\n{doc}\n\n{table}" + "".join(inner)


def _row(name: str, field: typing.Any) -> str:
    default = field.get_default(call_default_factory=True)
    text = "null" if default is None else repr(list(default) if isinstance(default, tuple) else default)
    meaning = (field.description or "").replace("|", "\\|")
    return f"| {name} | `{text}` | {_range(field)} | {meaning} |\n".replace("| `''` |", '| `""` |')


def _range(field: typing.Any) -> str:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    limits = [f"{signs[key]} {value:g}" for part in field.metadata for key, value in _limits(part) if key in signs]
    options = typing.get_args(field.annotation) if typing.get_origin(field.annotation) is typing.Literal else ()
    return ", ".join(limits) or " \\| ".join(str(option) for option in options)


def _limits(part: typing.Any) -> list[tuple[str, typing.Any]]:
    """Attributes of one constraint, whatever its class."""
    return [(key, getattr(part, key)) for key in ("ge", "gt", "le", "lt") if getattr(part, key, None) is not None]


if __name__ == "__main__":
    (HERE / "params.md").write_text(params_page(), encoding="utf-8")
    (HERE / "cli.md").write_text(cli_page(), encoding="utf-8")
    (HERE / "cohort.md").write_text(cohort_page(), encoding="utf-8")
