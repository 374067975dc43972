"""What the contract asks of features: one row a slide, read from the feature files (docs/slides.md)."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mcti.errors import DataError, did_you_mean
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
    """One slide's row: patches, width, encoder, resolution (µm/px), rows with NaN, constant rows, patches outside, and
    the contents as a hash of the features: equal ones tell that one slide was read under two names.

    Raises
        DataError: no feature file, or one without features, coordinates or the size of its slide.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            features, coords = file["features"], file["coords"]
            size = np.array([int(coords.attrs["level0_width"]), int(coords.attrs["level0_height"])])
            # Features of other tools may know neither the slide's size, nor weights, nor the resolution.
            known = bool((size > 0).all())
            row = {
                "tiles": len(features),
                "width": features.shape[1],
                "encoder": f"{file.attrs['encoder']} {file.attrs.get('encoder_weights_sha256', '')}".strip(),
                "resolution": float(file.attrs.get("target_mpp", np.nan)),
                "outside": int(((coords[:] < 0) | (coords[:] >= size)).any(axis=1).sum()) if known else 0,
            }
            counts = {"nan_rows": 0, "constant_rows": 0}
            digest = hashlib.blake2b(digest_size=16)
            for start in range(0, len(features), _BLOCK):
                block = features[start : start + _BLOCK]
                counts["nan_rows"] += int((~np.isfinite(block).all(axis=1)).sum())
                counts["constant_rows"] += int((np.ptp(block, axis=1) == 0).sum())
                digest.update(np.ascontiguousarray(block).tobytes())
    except (OSError, KeyError, RuntimeError, IndexError) as error:
        raise DataError(f"not a feature file ({error})", str(path), "run mcti extract again") from error
    return {"slide_id": slide_id, "patient_id": patient_id, **row, **counts, "contents": digest.hexdigest()}


def table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The rows as a table, also where there is none."""
    return pd.DataFrame(rows, columns=list(COLUMNS))
