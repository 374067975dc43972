"""The one way every command is called: settings in, one result out, errors as one line and an exit code."""

import functools
import inspect
import json
import math
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.exceptions import TyperException

from mcti import logs, redaction, storage
from mcti.cli.progress import Progress
from mcti.errors import DataError, MctiError
from mcti.task import INTERRUPTED, to_mcti_error

if TYPE_CHECKING:  # pydantic takes a third of the time that `mcti --help` may take
    from mcti.params import Params, Settings

DEFAULT_PARAMS = "params.yaml"

_COMMON: dict[str, tuple[Any, object]] = {
    "params_file": (Annotated[str | None, typer.Option("--params", metavar="FILE", help="Settings.")], None),
    "overrides": (
        Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a setting; repeatable.")],
        None,
    ),
    "as_json": (Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")], False),
    "redact": (
        Annotated[
            bool,
            typer.Option("--redact", help="Patient ids leave as SHA-256: in lines, logs, reports and predictions."),
        ],
        False,
    ),
    "debug": (Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")], False),
}

P = TypeVar("P", bound="Params")


class CommandContext:
    """What a command needs of its surroundings: settings with the flags on top, progress, the dry run."""

    def __init__(self, params_file: str | None, overrides: Sequence[str] | None) -> None:
        from mcti import params
        from mcti.local import orphans, settings

        orphans.exit_with_dvc()
        settings.activate(Path.cwd())
        found = params_file or (DEFAULT_PARAMS if Path(DEFAULT_PARAMS).exists() else None)
        self.settings = params.load(found, overrides or ())
        self.progress = Progress()

    def project_settings(self) -> "Settings":
        """The settings of params.yaml in the working directory without `--set` and `--params`; defaults without it."""
        from mcti import params

        return params.load(DEFAULT_PARAMS if Path(DEFAULT_PARAMS).exists() else None, ())

    def merged(self, section: P, **flags: object) -> P:
        """`section` with the flags that were given; checked like the file itself."""
        from mcti import params

        given = {name: value for name, value in flags.items() if value is not None}
        return params.check(type(section), section.model_dump(by_alias=True) | given, "the flags")

    def plan(self, reads: Mapping[str, storage.Location | None], section: "Params", out: str) -> dict[str, Any]:
        """What `--dry-run` shows: inputs, checked to exist, settings in force, output; nothing is written."""
        for name, location in reads.items():
            if location is not None and not storage.exists(location):
                raise DataError("no such file or folder", f"--{name} {location}", "run the step that makes it first")
        return {
            "dry_run": True,
            "reads": {k: str(v) for k, v in reads.items() if v is not None},
            "settings": section.model_dump(mode="json", by_alias=True),
            "writes": out,
        }


def command(group: typer.Typer, name: str) -> Callable[[Callable[..., object]], Callable[..., None]]:
    """Make a function of (context, its own options) a command with the options that all commands share."""

    def register(function: Callable[..., object]) -> Callable[..., None]:
        @functools.wraps(function)
        def run(**options: Any) -> None:
            as_json = options.pop("as_json")
            options.pop("debug")  # read by `run_app`, which stands around the parser too
            if options.pop("redact"):
                redaction.enable()
            context = CommandContext(options.pop("params_file"), options.pop("overrides"))
            try:
                result = function(context, **options)
            finally:
                context.progress.close()
            if logs.is_first_process():
                _show(name, result, as_json)
            if code := getattr(result, "exit_code", 0):  # a complete report of something that is wrong
                raise typer.Exit(code)

        run.__signature__ = _signature(function)  # type: ignore[attr-defined]
        del run.__wrapped__
        run.__doc__ = inspect.cleandoc(function.__doc__ or "").replace(
            "Example:", "\b\nExample:"
        )  # \b: the parser must not wrap it
        group.command(name)(run)
        return run

    return register


def run_app(app: typer.Typer, arguments: Sequence[str]) -> int:
    """Run the app; its exit code. Every error becomes one line on stderr, or one JSON object under `--json`.

    With `--debug` the traceback stands before it on stderr.
    """
    try:
        with logs.enabled(unless=sys.stderr.isatty()):
            return int(app(list(arguments) or ["--help"], standalone_mode=False) or 0)
    except (Exception, KeyboardInterrupt) as error:  # a defect of ours, too: the traceback is for --debug
        code, report = _reported(error)
        if "--debug" in arguments:  # inside the handler: outside of it there is no traceback any more
            print(redaction.text(traceback.format_exc()), file=sys.stderr, end="")  # noqa: T201
    _complain(report, as_json="--json" in arguments)
    return code


def _reported(error: BaseException) -> tuple[int, dict[str, str]]:
    """Exit code and report of an error."""
    if isinstance(error, TyperException):
        message = error.format_message().rstrip(".")
        return 2, {"code": "usage", "message": message, "where": "", "hint": "see --help"}
    known = to_mcti_error(KeyboardInterrupt() if isinstance(error, typer.Abort) else error)
    return _exit_code(known), known.as_dict()


def _exit_code(error: MctiError) -> int:
    # A pause is no failure for a person, but a stage of DVC that ends with 0 is recorded as whole.
    paused_stage = error.exit_code == 0 and "DVC_STAGE" in os.environ
    return INTERRUPTED if paused_stage else error.exit_code


def _signature(function: Callable[..., object]) -> inspect.Signature:
    own = list(inspect.signature(function).parameters.values())[1:]
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in _COMMON.items()
    ]
    return inspect.Signature([p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own] + shared)


def _show(name: str, result: object, as_json: bool) -> None:
    tree = _plain(result)
    if as_json:
        print(json.dumps(redaction.tree(tree), ensure_ascii=False, allow_nan=False))  # noqa: T201
    elif hasattr(result, "lines"):
        _print("\n".join(result.lines()))
    elif isinstance(tree, dict):
        for line in _lines(name, tree):
            _print(line)
    elif tree is not None:
        _print(str(tree))


def _print(line: str) -> None:
    print(redaction.text(line))  # noqa: T201


def _lines(name: str, tree: Mapping[str, Any]) -> list[str]:
    """A result for people: the plain values on one line, each list or mapping on a line of its own."""
    plain = [
        f"{key} {_number(value)}"
        for key, value in tree.items()
        if not isinstance(value, dict | list) and value not in (None, "")
    ]
    nested = [
        f"  {key}: {json.dumps(value, ensure_ascii=False)}"
        for key, value in tree.items()
        if isinstance(value, dict | list) and value
    ]
    return [f"{name}: {' · '.join(plain)}", *nested]


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _plain(result: object) -> Any:
    """Pydantic models, mappings and sequences as JSON types; a number that is not finite becomes null."""
    if hasattr(result, "model_dump"):
        return _plain(result.model_dump(mode="python"))
    if isinstance(result, Mapping):
        return {str(key): _plain(value) for key, value in result.items()}
    if isinstance(result, list | tuple):
        return [_plain(value) for value in result]
    if isinstance(result, float) and not math.isfinite(result):
        return None
    return result if result is None or isinstance(result, str | int | float | bool) else str(result)


def print_status(line: str) -> None:
    """A line for people, on stderr: stdout is the result's alone."""
    print(redaction.text(line), file=sys.stderr, flush=True)  # noqa: T201


def _complain(found: Mapping[str, str], as_json: bool) -> None:
    report = {key: redaction.text(value) for key, value in found.items()}
    if as_json:
        print(json.dumps({"error": report}, ensure_ascii=False))  # noqa: T201
    place = f" in {report['where']}" if report["where"] else ""
    hint = f": {report['hint']}" if report["hint"] else ""
    word = "" if report["code"] == "paused" else "error: "  # whoever asked for a pause did not fail
    print(f"{word}{' '.join(report['message'].split())}{place}{hint}", file=sys.stderr)  # noqa: T201
