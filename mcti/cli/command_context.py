"""How every command is called: settings as input, one result as output, errors as one line and an exit code."""

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
from mcti.cli.progress import ProgressDisplay
from mcti.errors import DataError, MctiError
from mcti.task import INTERRUPTED, to_mcti_error

if TYPE_CHECKING:  # importing pydantic takes a third of the time limit for `mcti --help`
    from mcti.params import Params, Settings
    from mcti.params.training import SourceParams

DEFAULT_PARAMS = "params.yaml"

COMMON: dict[str, tuple[Any, object]] = {
    "params_file": (
        Annotated[
            str | None,
            typer.Option("--params", metavar="FILE", help="Settings file; default: params.yaml, if it exists."),
        ],
        None,
    ),
    "overrides": (
        Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a setting; repeatable.")],
        None,
    ),
    "as_json": (
        Annotated[bool, typer.Option("--json", help="Print one JSON document to stdout and nothing else.")],
        False,
    ),
    "redact": (
        Annotated[
            bool,
            typer.Option(
                "--redact", help="Replace patient ids by their SHA-256 in output, logs, reports and predictions."
            ),
        ],
        False,
    ),
    "debug": (Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")], False),
}

P = TypeVar("P", bound="Params")


class CommandContext:
    """Settings with the command-line flags applied, progress display and dry-run plan of one command."""

    def __init__(self, params_file: str | None, overrides: Sequence[str] | None) -> None:
        from mcti import params
        from mcti.local import orphans, settings

        orphans.exit_with_dvc()
        settings.activate(Path.cwd())
        file = params_file or (DEFAULT_PARAMS if Path(DEFAULT_PARAMS).exists() else None)
        self.settings = params.load(file, overrides or ())
        self.progress = ProgressDisplay()

    def project_settings(self) -> "Settings":
        """The settings of params.yaml in the working directory without `--set` and `--params`; defaults without it."""
        from mcti import params

        return params.load(DEFAULT_PARAMS if Path(DEFAULT_PARAMS).exists() else None, ())

    def merged(self, section: P, **flags: object) -> P:
        """`section` with the flags that are not None; validated like the settings file.

        Raises
            UsageError: a flag has an invalid value.
        """
        from mcti import params

        overrides = {name: value for name, value in flags.items() if value is not None}
        return params.check(type(section), section.model_dump(by_alias=True) | overrides, "the flags")

    def plan(
        self, reads: Mapping[str, storage.Location | None], section: "Params", out: str, *, sources: bool = False
    ) -> dict[str, Any]:
        """The result of `--dry-run`: inputs, settings and output; nothing is written.

        reads    location by the name of its flag;  sources  the command also reads train.sources

        Raises
            DataError: an input does not exist.
        """
        for name, location in reads.items():
            if location is not None and not storage.exists(location):
                raise DataError("no such file or folder", f"--{name} {location}", "run the step that writes it first")
        of_settings = _source_locations(self.settings.train.sources) if sources else {}
        for key, location in of_settings.items():
            if not storage.exists(location):
                raise DataError("no such file or folder", f"{key} {location}", "correct the address in the settings")
        return {
            "dry_run": True,
            "reads": {k: str(v) for k, v in {**reads, **of_settings}.items() if v is not None},
            "settings": section.model_dump(mode="json", by_alias=True),
            "writes": out,
        }


def _source_locations(sources: "Sequence[SourceParams]") -> dict[str, str]:
    """The folders of the sources by the keys of their settings."""
    return {
        f"train.sources.{number}.{key}": location
        for number, one in enumerate(sources)
        for key, location in (("cohort", one.cohort), ("features", one.features))
        if location is not None
    }


def command(group: typer.Typer, name: str) -> Callable[[Callable[..., object]], Callable[..., None]]:
    """Decorator: make a function of (context, its own options) a command that also has the common options."""

    def register(function: Callable[..., object]) -> Callable[..., None]:
        @functools.wraps(function)
        def run(**options: Any) -> None:
            as_json = options.pop("as_json")
            options.pop("debug")  # `run_app` reads it: the parser can fail before this function runs
            if options.pop("redact"):
                redaction.enable()
            context = CommandContext(options.pop("params_file"), options.pop("overrides"))
            try:
                result = function(context, **options)
            finally:
                context.progress.close()
            if logs.is_first_process():
                _show(name, result, as_json)
            if code := getattr(result, "exit_code", 0):  # a complete report of a fault that was detected
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
    """Run the app and return its exit code. Every error is one line on stderr, and one JSON object with `--json`.

    With `--debug` the traceback is printed to stderr before it.
    """
    try:
        with logs.enabled(unless=sys.stderr.isatty()):
            return int(app(list(arguments) or ["--help"], standalone_mode=False) or 0)
    except (Exception, KeyboardInterrupt) as error:  # a defect in mcti included; --debug prints its traceback
        code, report = _error_report(error)
        if "--debug" in arguments:  # format_exc works only inside the handler
            print(redaction.text(traceback.format_exc()), file=sys.stderr, end="")  # noqa: T201
    _print_error(report, as_json="--json" in arguments)
    return code


def _error_report(error: BaseException) -> tuple[int, dict[str, str]]:
    """Exit code and the error object of an exception."""
    if isinstance(error, TyperException):
        message = error.format_message().rstrip(".")
        return 2, {"code": "usage", "message": message, "where": "", "hint": "see --help"}
    known = to_mcti_error(KeyboardInterrupt() if isinstance(error, typer.Abort) else error)
    return _exit_code(known), known.as_dict()


def _exit_code(error: MctiError) -> int:
    # A requested pause is no failure for a user, but DVC records a stage that ends with 0 as complete.
    paused_stage = error.exit_code == 0 and "DVC_STAGE" in os.environ
    return INTERRUPTED if paused_stage else error.exit_code


def _signature(function: Callable[..., object]) -> inspect.Signature:
    specific = list(inspect.signature(function).parameters.values())[1:]
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in COMMON.items()
    ]
    return inspect.Signature([p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in specific] + shared)


def _show(name: str, result: object, as_json: bool) -> None:
    if hasattr(result, "lines") and not as_json:
        _print("\n".join(result.lines()))
        return
    tree = _plain(result)
    if as_json:
        print(json.dumps(redaction.tree(tree), ensure_ascii=False, allow_nan=False))  # noqa: T201
    elif isinstance(tree, dict):
        for line in _lines(name, tree):
            _print(line)
    elif tree is not None:
        _print(str(tree))


def _print(line: str) -> None:
    print(redaction.text(line))  # noqa: T201


def _lines(name: str, tree: Mapping[str, Any]) -> list[str]:
    """A result as human-readable output: scalar values on one line, each list or mapping on its own line."""
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
    """Print a human-readable line to stderr: stdout is reserved for the result."""
    print(redaction.text(line), file=sys.stderr, flush=True)  # noqa: T201


def _print_error(error: Mapping[str, str], as_json: bool) -> None:
    report = {key: redaction.text(value) for key, value in error.items()}
    if as_json:
        print(json.dumps({"error": report}, ensure_ascii=False))  # noqa: T201
    location = f" in {report['where']}" if report["where"] else ""
    hint = f": {report['hint']}" if report["hint"] else ""
    prefix = "" if report["code"] == "paused" else "error: "  # a pause was requested: it is no error
    print(f"{prefix}{' '.join(report['message'].split())}{location}{hint}", file=sys.stderr)  # noqa: T201
