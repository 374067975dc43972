"""params.yaml of a new project: the proposed values with their reasons, the meaning of each key, every section."""

from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import BaseModel

from mcti.params import Settings

_HEAD = """# The settings of the project. `mcti init` proposed these values; keys that are absent have their defaults.
# The default, unit and meaning of every key: docs/params.md of mcti.
"""


def render(settings: Mapping[str, Mapping[str, Any]], reasons: Mapping[str, str]) -> str:
    """The text of params.yaml; DVC needs every section, also an empty one.

    settings    {section: {key: value}};  reasons: "section.key" -> why this value is proposed
    """
    parts = [_HEAD]
    for attribute, field in Settings.model_fields.items():
        section = field.alias or attribute
        model = field.annotation
        keys = settings.get(section, {})
        lines = [line for key, value in keys.items() for line in _lines(section, model, key, value, reasons)]
        parts.append(f"{section}:\n" + "".join(f"  {line}\n" for line in lines))
    return "\n".join(parts)


def _lines(section: str, model: Any, key: str, value: Any, reasons: Mapping[str, str]) -> list[str]:
    """A key with its description, and with its reason where there is one."""
    comments = [_description(model, key), reasons.get(f"{section}.{key}", "")]
    if (
        isinstance(value, Mapping)
        and any(isinstance(inner, str | int | float) for inner in value.values())
        and key == "import"
    ):
        body = [f"{key}:", *(f"  {name}: {_flow(inner)}" for name, inner in value.items())]
    else:
        body = [f"{key}: {_flow(value)}"]
    return [*(f"# {' '.join(comment.split())}" for comment in comments if comment), *body]


def _description(model: Any, key: str) -> str:
    assert issubclass(model, BaseModel)
    for name, field in model.model_fields.items():
        if key in (name, field.alias):
            return field.description or ""
    return ""


def _flow(value: Any) -> str:
    return (
        yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True, sort_keys=False)
        .removesuffix("...\n")
        .strip()
    )
