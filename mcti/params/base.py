"""What all settings have in common."""

from pydantic import BaseModel, ConfigDict


class Params(BaseModel):
    """Base of all settings: frozen, unknown keys refused, no silent conversion of text to numbers.

    YAML's `.inf` and `.nan` are no settings: a gate would never fire or never hold, and JSON cannot write them down.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
