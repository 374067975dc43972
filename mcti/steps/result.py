"""The result of a step: small, typed, and written as JSON next to the output."""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict

from mcti import storage


class StepResult(BaseModel):
    """Base of the results: no times, host names or absolute paths, so that a repeated run gives the same bytes."""

    model_config = ConfigDict(frozen=True)

    def save(self, folder: Path, name: str = "result.json") -> Self:
        """Write the result as JSON into `folder` and return it."""
        (folder / name).write_text(storage.to_json(self.model_dump(mode="json")), encoding="utf-8")
        return self

    def headline(self) -> dict[str, float]:
        """The scalar fields, for a summary or a log."""
        return {
            k: float(v) for k, v in self.model_dump().items() if isinstance(v, int | float) and not isinstance(v, bool)
        }
