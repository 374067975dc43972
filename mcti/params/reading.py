"""`params.yaml` and overrides to checked settings; each error names the key, its value and a hint."""

import json
import os
import re
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mcti.errors import UsageError
from mcti.params.base import Params, settings_class
from mcti.params.result_settings import VARIABLE, neutral_of
from mcti.params.settings import Settings
from mcti.params.suggestions import suggestion
from mcti.storage import Location, translating_os_errors


def load(path: Location | None, overrides: Iterable[str] = ()) -> Settings:
    """Settings from a YAML file (None: the defaults), each override (`dotted.key=value`, the value as YAML) on top.

    Raises UsageError when a key is unknown, a value has the wrong type or is out of range, or the YAML does not parse
    """
    tree = _read(path) if path is not None else {}
    overridden = [_override(tree, text) for text in overrides]
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        first = _first(error)
        from_flag = any(_concerns(first, name) for name in overridden)
        raise _usage_error(Settings, first, "--set" if from_flag else str(path or "the overrides")) from None


def _concerns(error: ErrorDetails, overridden: str) -> bool:
    """Whether an override can be the cause of an error: at its key, above or below it.

    Where settings do not fit together (`refuse`), the error is located at one of them, and the cause may be another one
    of the same section.
    """
    parts = [str(part) for part in error["loc"]]
    key = ".".join(parts[:-1] if error["type"] == "does_not_fit" else parts) + "."
    return key.startswith(f"{overridden}.") or f"{overridden}.".startswith(key)


P = typing.TypeVar("P", bound=Params)


def check(model: type[P], tree: Mapping[str, Any], where: str) -> P:
    """Settings of this class from a mapping.

    Raises UsageError, with key, value and hint, when a key is unknown or a value does not fit
    """
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise _usage_error(model, _first(error), where) from None


def _first(error: ValidationError) -> ErrorDetails:
    """The error to report: an unknown key before others, since a misspelled required key is also a missing one."""
    errors = error.errors()
    return next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])


def from_json(model: type[P], text: str, where: str) -> P:
    """Settings of this class from JSON text, the form that pipelines pass: KFP's own mappings turn 10 into 10.0.

    Settings that cannot change a result are in the environment of the task, unless the text has them.

    Raises UsageError when the text is not JSON or not such a section
    """
    tree = _parsed(text, where)
    flat = _parsed(os.environ.get(VARIABLE, "{}"), VARIABLE)
    name = next((field.alias or name for name, field in Settings.model_fields.items() if field.annotation is model), "")
    return check(model, neutral_of(name, flat) | tree if isinstance(tree, dict) else tree, where)


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UsageError(
            f"not JSON ({error})", where, "pass the section as `mcti pipeline compile` wrote it"
        ) from error


class _RepeatedKey(yaml.YAMLError):
    def __init__(self, key: str, line: int) -> None:
        super().__init__(f"key {key!r} is repeated, line {line}")
        self.key, self.line = key, line


class _Loader(yaml.SafeLoader):
    """YAML in which 5e-3 is a number, as in YAML 1.2 and in DVC; PyYAML follows 1.1, which requires 5.0e-3.

    A repeated key is refused: PyYAML would ignore the first one, a whole section of settings, without a message.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping of a node; raises _RepeatedKey."""
        keys = set[str]()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in keys:
                    raise _RepeatedKey(key.value, key.start_mark.line + 1)
                keys.add(key.value)
        return super().construct_mapping(node, deep=deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def _read(path: Location) -> dict[str, Any]:
    try:
        with translating_os_errors(path):
            text = Path(path).read_text(encoding="utf-8")
        tree = yaml.load(text, _Loader)  # noqa: S506 - a safe loader
    except UnicodeDecodeError as error:
        raise UsageError(
            f"not UTF-8 text ({error.reason} at byte {error.start})", str(path), "save it as UTF-8"
        ) from error
    except _RepeatedKey as error:
        raise UsageError(f"key {error.key!r} is repeated", f"{path}, line {error.line}", "merge the two") from error
    except yaml.YAMLError as error:
        raise UsageError("not YAML", f"{path}: {error}", "correct this line") from error
    if not isinstance(tree or {}, dict):
        raise UsageError("not a mapping of settings", str(path), "write `section:` and its keys below")
    return tree or {}


def _override(tree: dict[str, Any], text: str) -> str:
    """Set the value of `dotted.key=value` in `tree`; the dotted key."""
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"{text!r} sets nothing", "--set", "write --set dotted.key=value, e.g. --set train.epochs=5")
    *sections, key = name.strip().split(".")
    for section in sections:
        if tree.get(section) is None:  # absent or empty
            tree[section] = {}
        tree = tree[section]
        if not isinstance(tree, dict):
            raise UsageError(f"{section!r} of {name!r} holds a value, not a section", "--set", "shorten the path")
    try:
        tree[key] = yaml.load(value, _Loader)  # noqa: S506 - a safe loader
    except yaml.YAMLError as error:
        raise UsageError(f"{value!r} is not a YAML value", f"--set {name}", "quote it") from error
    return name.strip()


def _usage_error(model: type[BaseModel], error: ErrorDetails, where: str) -> UsageError:
    path = _written_path(model, [str(part) for part in error["loc"]])
    location = f"{where}, key {'.'.join(path)}" if path else where
    if error["type"] == "extra_forbidden":
        return UsageError(f"unknown key {path[-1]!r}", location, suggestion(model, path[:-1], path[-1]))
    if error["type"] == "missing" and not path[-1].isdecimal():
        return UsageError(f"key {path[-1]!r} is missing", location, _hint(model, path, "set it"))
    if error["type"] == "value_error":
        what, _, hint = str(error.get("ctx", {}).get("error", error["msg"])).partition(": ")
        return UsageError(what, location, hint)
    if error["type"] == "model_type":
        names = ", ".join(_keys(model, path)[:3])
        return UsageError(f"{error['input']!r} is not a section", location, f"write its keys below it: {names}, …")
    return UsageError(f"{_shown(error['input'])} does not fit", location, _hint(model, path, error["msg"]))


def _shown(value: Any) -> str:
    """A value as YAML has it: a list in brackets."""
    return repr(list(value) if isinstance(value, tuple) else value)


def _written_path(model: type[BaseModel], path: list[str]) -> list[str]:
    """The path as params.yaml has it: pydantic adds the type that it tried, such as `list[float]`."""
    depth = len(_fields(model, path))
    return path[:depth] + [part for part in path[depth:] if not re.fullmatch(r"\w+\[.*\]|\[key\]", part)]


def _hint(model: type[BaseModel], path: list[str], message: str) -> str:
    described = [field.description for field in _fields(model, path) if field.description]
    message = message.replace("valid tuple", "valid list").replace("valid dictionary", "valid mapping")  # terms of YAML
    return message[0].lower() + message[1:] + (f" ({described[-1]})" if described else "")


def _fields(model: type[BaseModel], path: list[str]) -> list[Any]:
    """The fields along a path, as far as it leads through settings."""
    fields = []
    for part in path:
        by_name = {field.alias or name: field for name, field in model.model_fields.items()}
        if part not in by_name:
            break
        fields.append(by_name[part])
        inner = settings_class(by_name[part].annotation)
        if inner is None:
            break
        model = inner
    return fields


def _keys(model: type[BaseModel], path: list[str]) -> list[str]:
    fields = _fields(model, path)
    inner = settings_class(fields[-1].annotation) if fields else model
    return [field.alias or name for name, field in (inner or model).model_fields.items()]
