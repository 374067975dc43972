"""What the contract asks of features: one row a slide, read from the feature files (docs/slides.md)."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mcti.errors import DataError, did_you_mean
from mcti.slides.features import FeatureFile, open_file
from mcti.storage import Location, join, local_copy

COLUMNS = (
    "slide_id",
    "patient_id",
    "tiles",
    "width",
    "encoder",
    "resolution",
    "nan_rows",
    "constant_rows",
    "outside",
    "contents",
)
_BLOCK = 8192  # patches read at a time


def read_statuses(features: Location) -> pd.DataFrame:
    """slide_id, patient_id and status of every slide that was to be extracted.

    Raises
        DataError: no slides.csv, or it lacks one of these columns.
    """
    where = join(features, "slides.csv")
    with local_copy(where) as path:
        try:
            table = pd.read_csv(path, dtype=str, keep_default_na=False)
        except ValueError as error:  # also: ParserError, EmptyDataError, UnicodeDecodeError
            raise DataError(f"not a table of slides ({error})", where, "run mcti extract again") from error
    for column in ("slide_id", "patient_id", "status"):
        if column not in table.columns:
            raise DataError(f"column {column!r} is missing", where, did_you_mean(column, table.columns))
    return table[["slide_id", "patient_id", "status"]]


def describe(path: Path, slide_id: str, patient_id: str) -> dict[str, Any]:
    """The row of one slide: its patches, their width, encoder, resolution (µm/px), and counts of invalid rows.

    nan_rows, constant_rows     patches with NaN or infinity, and with equal values
    outside                     patches outside of the slide; 0 where its size is unknown
    contents                    hash of the features: equal for one slide that is listed under two names
    Raises DataError when the file is no feature file, or lacks coordinates or the size of the slide.
    """
    with open_file(path) as file:
        grid, attributes, coords = file.grid, file.attributes, file.coords()
        size = np.array([int(grid["level0_width"]), int(grid["level0_height"])])
        # Features of other tools may lack the slide size, the hash of the weights and the resolution.
        outside = 0
        if coords is not None and (size > 0).all():
            outside = int(((coords < 0) | (coords >= size)).any(axis=1).sum())
        row = {
            "slide_id": slide_id,
            "patient_id": patient_id,
            "tiles": file.tiles,
            "width": file.width,
            "encoder": f"{attributes['encoder']} {attributes.get('encoder_weights_sha256', '')}".strip(),
            "resolution": float(attributes.get("target_mpp", np.nan)),
            "outside": outside,
        }
        return row | _check_rows(file)


def _check_rows(file: FeatureFile) -> dict[str, Any]:
    """Counts of invalid rows, and the hash of all rows, read block by block."""
    counts = {"nan_rows": 0, "constant_rows": 0}
    digest = hashlib.blake2b(digest_size=16)
    for start in range(0, file.tiles, _BLOCK):
        block = file.features(start, start + _BLOCK)
        counts["nan_rows"] += int((~np.isfinite(block).all(axis=1)).sum())
        counts["constant_rows"] += int((np.ptp(block, axis=1) == 0).sum())
        digest.update(np.ascontiguousarray(block).tobytes())
    return {**counts, "contents": digest.hexdigest()}


def table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The rows as a table, also where there is none."""
    return pd.DataFrame(rows, columns=list(COLUMNS))
