"""The step `inventory`: what an archive of slides holds, before an hour is spent on it."""

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, fields
from pathlib import Path

from mcti import storage
from mcti.progress import Progress
from mcti.slides import inventory as checks
from mcti.slides import manifest
from mcti.slides.inventory import Entry
from mcti.steps.result import StepResult
from mcti.steps.task_log import logged
from mcti.storage import Location


class InventoryResult(StepResult):
    """Counts: slides by status, and how many hold the content of another."""

    slides: int
    ok: int
    duplicates: int
    statuses: dict[str, int]


@logged
def inventory(
    slides: Location, out: Path, *, workers: int = 0, reader: str = "auto", progress: Progress | None = None
) -> InventoryResult:
    """Check every slide of a manifest (CSV, Parquet) or folder, in parallel and without decoding it.

    Reads   slides, the headers of the files they name, and samples of their bytes
    Writes  out, a CSV: one row a slide with status, reason, reader, size, levels, resolution and content
    Raises  DataError when the manifest itself is wrong; what is wrong with a slide stands in its row
    """
    rows = manifest.read(slides)
    entries = []
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        for done, future in enumerate(as_completed([pool.submit(checks.check, row, reader) for row in rows]), start=1):
            entries.append(future.result())
            if progress is not None:
                progress(done, len(rows), "slides")
    entries = checks.with_duplicates(sorted(entries, key=lambda entry: (entry.slide_id, entry.patient_id)))
    _write(out, entries)
    statuses = Counter(entry.status for entry in entries)
    return InventoryResult(
        slides=len(entries),
        ok=statuses["OK"],
        duplicates=sum(entry.duplicates > 0 for entry in entries),
        statuses=dict(sorted(statuses.items())),
    )


def _write(out: Path, entries: list[Entry]) -> None:
    import pandas as pd

    table = pd.DataFrame([asdict(entry) for entry in entries], columns=[field.name for field in fields(Entry)])
    table = table.astype(dict.fromkeys(("width", "height", "levels", "bytes"), "Int64"))
    storage.write_text(out, table.to_csv(index=False, lineterminator="\n"))
