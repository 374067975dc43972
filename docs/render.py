"""Write docs/params.md and docs/cli.md from the code they describe. Run: make docs (a test holds them equal)."""

import typing
from pathlib import Path

from pydantic import BaseModel
from typer.main import get_command

from mcti.cli import command_context
from mcti.cli.app import SECTIONS, app
from mcti.cohort import tables
from mcti.contracts import expectations
from mcti.params import Settings

HERE = Path(__file__).parent

PARAMS_HEAD = """# Settings

All of `params.yaml`, section by section; a key that stands in no table below is an error.
`--set section.key=value` overrides one key of one command. This page is written by `make docs` from `mcti/params/`.
"""

CLI_HEAD = """# The command line

This page lists every command with its arguments, options, types and defaults. `make docs` writes it from `mcti/cli/`.

There is one command per step. Function, DVC stage and Kubeflow component of a step have the same name as the command.
`mcti --help` lists the commands by section, `mcti COMMAND --help` describes one, `mcti --version` prints the version.
Inputs are local paths or `s3://` addresses.

## Output

Human-readable output goes to stdout, progress and log lines go to stderr. With `--json`, stdout is exactly one JSON
document: the result, or an error object.

## Errors

An error is one line on stderr: `error: WHAT in WHERE: HINT`. With `--json`, stdout is
`{"error": {"code": …, "message": …, "where": …, "hint": …}}`; all four values are strings.

| key | value |
|---|---|
| `code` | kind of the error, see the table below |
| `message` | what is wrong, with the value |
| `where` | file, row, column, setting, flag or address; may be empty |
| `hint` | how to fix it; may be empty |

```
$ mcti ingest --params nowhere --out data/cohort --json
{"error": {"code": "data", "message": "no such file or folder", "where": "nowhere", "hint": "check the path"}}
```

| exit code | `code` | meaning |
|---|---|---|
| 0 | | success |
| 1 | `defect` | defect in mcti: run again with `--debug` and report it |
| 2 | `usage` | wrong command, flag or setting; no input was read |
| 3 | `data` | bad data: the message names file, row, column and value |
| 4 | `environment` | operational error: server, disk space, permission or GPU unavailable |
| 10 | `rejected` | `promote`: a gate rejected the version |
| 11 | `not-enough-evidence` | `promote`: the data do not suffice for a decision |
| 130 | `interrupted` | stopped by Ctrl-C or a signal; the same command resumes |

## Common options

Every command has these options.
"""


def params_page() -> str:
    """docs/params.md."""
    sections = [_section(name, field.annotation) for name, field in _named(Settings)]
    return PARAMS_HEAD + "".join(sections)


def cli_page() -> str:
    """docs/cli.md."""
    tree = get_command(app)
    shared = [parameter for parameter in tree.commands["ingest"].params if parameter.name in command_context.COMMON]
    parts = [CLI_HEAD, "\n", _options(shared)]
    for section, names in SECTIONS.items():
        parts.append(f"\n# {section}\n")
        for name in names:
            inner = getattr(tree.commands[name], "commands", None)
            commands = (
                [(f"{name} {word}", sub) for word, sub in inner.items()] if inner else [(name, tree.commands[name])]
            )
            parts += [_command(words, command) for words, command in commands]
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
    description, _, example = text.partition("Example:")
    specific = [parameter for parameter in command.params if parameter.name not in command_context.COMMON]
    table = f"\n{_options(specific)}" if specific else ""
    return f"\n## `mcti {words}`\n\n{description.strip()}\n\n```\n{example.strip()}\n```\n{table}"


def _options(parameters: typing.Sequence[typing.Any]) -> str:
    """A table of arguments and options: flag, type, default, meaning."""
    head = "| option | type | default | meaning |\n|---|---|---|---|\n"
    return head + "".join(f"| {' | '.join(_option(parameter))} |\n" for parameter in parameters)


def _option(parameter: typing.Any) -> tuple[str, str, str, str]:
    annotation = parameter.type_descriptor.annotation
    is_flag = bool(getattr(parameter, "is_flag", False))
    flag = parameter.opts[0] if parameter.opts[0].startswith("-") else ""
    value = "" if is_flag else f" {parameter.metavar}" if parameter.metavar else ""
    name = f"`{(flag + value).strip()}`".replace("|", "\\|")
    scalar = next((kind for kind in (bool, int, float, Path) if _holds(annotation, kind)), str)
    words = {bool: "flag", int: "integer", float: "number", Path: "path", str: "text"}[scalar]
    words += ", repeatable" if parameter.multiple else ""
    default = "required" if parameter.required else "off" if is_flag else f"`{parameter.default}`"
    environment = f" (environment: `{parameter.envvar}`)" if parameter.envvar else ""
    default = "none" if parameter.default is None and not parameter.required and not is_flag else default
    return name, words, default, f"{parameter.help or ''}{environment}".replace("|", "\\|")


def _holds(annotation: typing.Any, kind: type) -> bool:
    """Whether an annotation is this type, or a union or list of it."""
    return annotation is kind or any(_holds(part, kind) for part in typing.get_args(annotation))


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
