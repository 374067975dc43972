"""Rows of predictions as a CSV or JSON file that is written in parts and appears when it is complete."""

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from mcti import storage
from mcti.storage import Location

Rows = Sequence[dict[str, Any]]


@contextlib.contextmanager
def writing(out: Location) -> Iterator[Callable[[Rows], None]]:
    """A function that appends rows to `out` (.json, otherwise CSV); without rows, or after an error, nothing appears.

    The file has the same bytes for any division of the rows into parts; all rows have the columns of the first one.

    Raises OperationalError when `out` cannot be written
    """
    path = Path(out)
    with _target(out) as draft, draft.open("w", encoding="utf-8", newline="") as file:
        table = _Json(file) if path.suffix == ".json" else _Csv(file)
        yield table.append
        table.close()


@contextlib.contextmanager
def _target(out: Location) -> Iterator[Path]:
    """A local file that replaces `out`, a path or an address, when the body succeeds."""
    if not storage.is_s3(out):
        with storage.replacing(out) as draft:
            yield draft
        return
    with tempfile.TemporaryDirectory(prefix="mcti-predict-") as scratch:
        yield Path(scratch, "table")
        storage.upload(Path(scratch, "table"), out)


class _Csv:
    def __init__(self, file: TextIO) -> None:
        self.file, self.started = file, False

    def append(self, rows: Rows) -> None:
        import pandas as pd

        if rows:
            pd.DataFrame(rows).to_csv(self.file, index=False, header=not self.started, lineterminator="\n")
            self.started = True

    def close(self) -> None:
        """A CSV table has no end mark."""


class _Json:
    def __init__(self, file: TextIO) -> None:
        self.file, self.started = file, False

    def append(self, rows: Rows) -> None:
        for row in rows:
            text = json.dumps(row, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
            self.file.write((",\n" if self.started else "[\n") + "  " + text.replace("\n", "\n  "))
            self.started = True

    def close(self) -> None:
        self.file.write("\n]\n" if self.started else "[]\n")
