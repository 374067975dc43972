"""The base class of all settings, and the error of a value that other settings exclude."""

import types
import typing
from typing import Annotated, Any, NoReturn

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails, PydanticCustomError


class Params(BaseModel):
    """Base of all settings: frozen, unknown keys refused, no silent conversion of text to numbers.

    YAML's `.inf` and `.nan` are refused: a gate would never reject or never pass, and JSON cannot represent them. An
    empty section (`bins:` without a key) has its defaults, as a missing one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _empty_section_has_its_defaults(cls, tree: Any) -> Any:
        if not isinstance(tree, dict):
            return tree
        sections = {
            field.alias or name for name, field in cls.model_fields.items() if _is_class_of_settings(field.annotation)
        }
        return {key: {} if value is None and key in sections else value for key, value in tree.items()}


def checked_type(field: FieldInfo) -> Any:
    """The type of a field with its bounds, for another model or a TypeAdapter."""
    return Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation


def settings_class(annotation: Any) -> type[BaseModel] | None:
    """The class of settings that an annotation names, alone or with None; None for a plain value."""
    options = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    return next((option for option in options if _is_class_of_settings(option)), None)


def _is_class_of_settings(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def refuse(path: str | tuple[str, ...], value: Any, hint: str) -> NoReturn:
    """Report a value that other fields exclude; called by validators of a whole class. path: field, or fields inside.

    Raises pydantic's ValidationError, located at the field
    """
    loc = (path,) if isinstance(path, str) else path
    error = PydanticCustomError("does_not_fit", "{hint}", {"hint": hint})
    raise ValidationError.from_exception_data("settings", [InitErrorDetails(type=error, loc=loc, input=value)])


def refuse_text(path: tuple[str, ...], value: Any, text: str) -> NoReturn:
    """Report a value that other settings exclude, with a text of its own; text: `WHAT: HINT`.

    Raises pydantic's ValidationError, located at the field
    """
    error = PydanticCustomError("value_error", "{error}", {"error": text})
    raise ValidationError.from_exception_data("settings", [InitErrorDetails(type=error, loc=path, input=value)])
