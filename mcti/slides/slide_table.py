"""slides.csv: one row per slide with its status, written by `extract` and `features import`."""

import csv
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from mcti import storage
from mcti.slides.features import FeatureFileInfo
from mcti.slides.status import Status


@dataclass(frozen=True)
class SlideOutcome:
    """A row of slides.csv. mpp in µm/px, width and height in level-0 pixels.

    processed: whether this run worked on the slide; False when its features existed before. Not a column.
    """

    slide_id: str
    patient_id: str
    status: str
    reason: str = ""
    tiles: int = 0
    failed_tiles: int = 0
    mpp: float | None = None
    mpp_source: str = ""
    reader: str = ""
    width: int | None = None
    height: int | None = None
    key: str = ""
    processed: bool = True

    @classmethod
    def from_file(cls, slide_id: str, patient_id: str, info: FeatureFileInfo, *, processed: bool) -> "SlideOutcome":
        """The row of a slide whose feature file is complete."""
        return cls(
            slide_id,
            patient_id,
            Status.OK.value,
            tiles=info.tiles,
            failed_tiles=info.failed_tiles,
            mpp=info.mpp,
            mpp_source=info.mpp_source,
            reader=info.reader,
            width=info.width,
            height=info.height,
            key=info.key,
            processed=processed,
        )


_COLUMNS = [field.name for field in fields(SlideOutcome) if field.name != "processed"]


def to_csv(outcomes: list[SlideOutcome]) -> str:
    """The table as text, sorted by slide_id, then patient_id."""
    import pandas as pd

    table = pd.DataFrame([{name: getattr(row, name) for name in _COLUMNS} for row in outcomes], columns=_COLUMNS)
    table = table.astype({"width": "Int64", "height": "Int64", "mpp": "float64"})
    table = table.sort_values(["slide_id", "patient_id"], kind="stable")
    return str(table.to_csv(index=False, lineterminator="\n"))


def write(path: Path, outcomes: list[SlideOutcome]) -> None:
    """Write the table, completely or not at all.

    Raises OperationalError when the file cannot be written.
    """
    storage.write_text(path, to_csv(outcomes))


def read(path: Path) -> list[SlideOutcome]:
    """The rows of a table.

    Raises KeyError, TypeError or ValueError when it is not a table of slides.
    """
    with storage.translating_os_errors(path), path.open(encoding="utf-8", newline="") as stream:
        return [_parse(row) for row in csv.DictReader(stream)]


def read_completed(path: Path) -> dict[str, SlideOutcome]:
    """The rows with status OK by slide_id; empty when the table is missing or cannot be read."""
    if not path.exists():
        return {}
    try:
        return {row.slide_id: row for row in read(path) if row.status == Status.OK}
    except (KeyError, TypeError, ValueError):  # a user edited it, or another version wrote it
        return {}


def _parse(row: dict[str, str]) -> SlideOutcome:
    sizes: dict[str, Any] = {name: int(row[name]) if row[name] else None for name in ("width", "height")}
    counts = {name: int(row[name]) for name in ("tiles", "failed_tiles")}
    mpp = float(row["mpp"]) if row["mpp"] else None
    return SlideOutcome(**{**row, **sizes, **counts, "mpp": mpp})
