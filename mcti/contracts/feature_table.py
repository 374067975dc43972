"""Measurements of features for the data contract: one row per slide, read from the feature files (docs/slides.md)."""

import hashlib
from typing import Any

import numpy as np
import pandas as pd

from mcti.errors import DataError, did_you_mean
from mcti.slides import features as feature_files
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
_STATUS_COLUMNS = ["slide_id", "patient_id", "status"]


def read_statuses(features: Location) -> pd.DataFrame:
    """slide_id, patient_id and status of every slide of an extraction, from its slides.csv.

    Raises DataError when there is no slides.csv, or one of these columns is missing.
    """
    where = join(features, "slides.csv")
    with local_copy(where) as path:
        try:
            table = pd.read_csv(path, dtype=str, keep_default_na=False)
        except ValueError as error:  # also: ParserError, EmptyDataError, UnicodeDecodeError
            raise DataError(f"not a table of slides ({error})", where, "run mcti extract again") from error
    for column in _STATUS_COLUMNS:
        if column not in table.columns:
            raise DataError(f"column {column!r} is missing", where, did_you_mean(column, table.columns))
    return table[_STATUS_COLUMNS]


def measure_slide(location: Location, slide_id: str, patient_id: str) -> dict[str, Any]:
    """The row of one slide (COLUMNS).

    tiles, width        number of patches, and of features per patch
    resolution          µm/px; NaN where the file does not record it
    nan_rows            patches with a feature that is not finite;  constant_rows: with equal features
    outside             patches outside the slide; 0 where the file does not record the size of the slide
    contents            hash of the features: slides with equal hashes are copies

    Raises DataError when there is no feature file, or it has no features or no encoder.
    """
    with feature_files.open_file(location) as file:
        attributes = file.attributes
        if "encoder" not in attributes:
            raise DataError("the attribute `encoder` is missing", str(location), "run mcti extract again")
        return {
            "slide_id": slide_id,
            "patient_id": patient_id,
            "tiles": file.tiles,
            "width": file.width,
            "encoder": f"{attributes['encoder']} {attributes.get('encoder_weights_sha256', '')}".strip(),
            "resolution": float(attributes.get("target_mpp", np.nan)),
            "outside": _count_outside(file),
            **_measure_features(file),
        }


def _count_outside(file: feature_files.FeatureFile) -> int:
    """Patches outside the slide; 0 in files of other tools that record no coordinates or no size of the slide."""
    coords = file.coords()
    size = np.array([int(file.grid.get("level0_width", 0)), int(file.grid.get("level0_height", 0))])
    if coords is None or not (size > 0).all():
        return 0
    return int(((coords < 0) | (coords >= size)).any(axis=1).sum())


def _measure_features(file: feature_files.FeatureFile) -> dict[str, Any]:
    nan_rows, constant_rows = 0, 0
    digest = hashlib.blake2b(digest_size=16)
    for start in range(0, file.tiles, _BLOCK):
        block = file.features(start, start + _BLOCK)
        nan_rows += int((~np.isfinite(block).all(axis=1)).sum())
        constant_rows += int((np.ptp(block, axis=1) == 0).sum())
        digest.update(np.ascontiguousarray(block).tobytes())
    return {"nan_rows": nan_rows, "constant_rows": constant_rows, "contents": digest.hexdigest()}


def measure(features: Location, statuses: pd.DataFrame) -> pd.DataFrame:
    """One row per slide with status OK (COLUMNS).

    Raises DataError when the feature file of such a slide is missing or broken.
    """
    with local_copy(features) as folder:
        usable = statuses[statuses["status"] == "OK"].to_dict("records")
        return table([measure_slide(folder / f"{s['slide_id']}.h5", s["slide_id"], s["patient_id"]) for s in usable])


def table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The rows as a table with the columns COLUMNS, also where there are no rows."""
    return pd.DataFrame(rows, columns=list(COLUMNS))
