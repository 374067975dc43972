"""The step `inventory`: checks an archive of slides without decoding it."""

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, fields
from pathlib import Path

from mcti import storage
from mcti.progress import Progress
from mcti.slides import inventory as checks
from mcti.slides import manifest
from mcti.slides.inventory import InventoryRow
from mcti.steps.result import StepResult
from mcti.steps.task_log import logged
from mcti.storage import Location


class InventoryResult(StepResult):
    """Slides by status, and the number of slides whose content occurs more than once."""

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
    Writes  out, a CSV: one row per slide with status, reason, reader, size, levels, resolution and content
    Raises  DataError when the manifest itself is wrong; an error of a slide is in its row
    """
    slide_rows = manifest.read(slides)
    rows = []
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        futures = [pool.submit(checks.check, row, reader) for row in slide_rows]
        for done, future in enumerate(as_completed(futures), start=1):
            rows.append(future.result())
            if progress is not None:
                progress(done, len(slide_rows), "slides")
    rows = checks.with_duplicates(sorted(rows, key=lambda row: (row.slide_id, row.patient_id)))
    _write(out, rows)
    statuses = Counter(row.status for row in rows)
    return InventoryResult(
        slides=len(rows),
        ok=statuses["OK"],
        duplicates=sum(row.duplicates > 0 for row in rows),
        statuses=dict(sorted(statuses.items())),
    )


def _write(out: Path, rows: list[InventoryRow]) -> None:
    import pandas as pd

    table = pd.DataFrame([asdict(row) for row in rows], columns=[field.name for field in fields(InventoryRow)])
    table = table.astype(dict.fromkeys(("width", "height", "levels", "bytes"), "Int64"))
    storage.write_text(out, table.to_csv(index=False, lineterminator="\n"))
