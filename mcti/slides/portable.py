"""Features of one slide or patient in the form that all feature sets share, with checks of shapes and values."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mcti.errors import DataError, UsageError

PATCH, SLIDE, PATIENT = "patch", "slide", "patient"
"""Levels of features: one vector per patch, one per slide, one per patient."""
MAX_INVALID_SHARE = 0.05
"""Largest share of rows that are not finite and are left out; with more, the slide fails. As
`extract.max_failed_tiles_share`."""


class MissingMpp(UsageError):
    """A slide whose coordinates are in µm, and whose mpp is not known."""


@dataclass(frozen=True)
class PortableFeatures:
    """One slide or patient: features (N, D); coords (N, 2) in level-0 pixels, None: unknown.

    grid        attributes of the coordinates, such as patch_size_level0
    attributes  attributes of the file, such as mpp_x and encoder
    level       patch | slide | patient; empty: a file with one row and no coordinates, which does not state its level
    removed     number of rows that were not finite and were left out
    """

    slide_id: str
    features: NDArray[Any]
    coords: NDArray[np.int64] | None
    grid: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    level: str = PATCH
    removed: int = 0


def from_arrays(
    slide_id: str,
    where: str,
    values: NDArray[Any],
    coords: NDArray[Any] | None = None,
    grid: dict[str, Any] | None = None,
    attributes: dict[str, Any] | None = None,
    level: str = "",
) -> PortableFeatures:
    """The features of a file, after checks of shapes and values.

    values  (N, D), (1, N, D) or (D,): one vector, of a slide or a patient
    coords  (N, 2) level-0 pixels; ignored for the single vector of a slide or a patient
    level   as the file states it; empty: from the shapes
    Raises DataError when the shapes do not fit, or more than MAX_INVALID_SHARE of the rows are not finite.
    """
    vector = values.ndim == 1 or level in (SLIDE, PATIENT)
    rows = _rows(values, where)
    if level in (SLIDE, PATIENT) and len(rows) != 1:
        what = f"features of shape {values.shape}, not one vector for the {level}"
        raise DataError(what, where, "export this embedding again")
    coords = None if vector else coords
    if coords is not None and coords.shape != (len(rows), 2):
        what = f"{len(rows)} rows of features, coords of shape {coords.shape}"
        raise DataError(what, where, "extract this slide again")
    level = level or (SLIDE if vector else "" if coords is None and len(rows) == 1 else PATCH)
    valid = _valid_rows(rows, coords, where)
    corners = None if coords is None else np.rint(coords[valid]).astype(np.int64)
    removed = int((~valid).sum())
    kept = rows if not removed else rows[valid]
    return PortableFeatures(slide_id, kept, corners, grid or {}, attributes or {}, level, removed)


def _rows(values: NDArray[Any], where: str) -> NDArray[Any]:
    """The values as (N, D)."""
    if not np.issubdtype(values.dtype, np.floating):
        what = f"features of type {values.dtype}, not floating point"
        raise DataError(what, where, "write them as float16, float32 or float64")
    rows = values[0] if values.ndim == 3 and len(values) == 1 else values[None] if values.ndim == 1 else values
    if rows.ndim != 2 or not rows.size:
        raise DataError(f"features of shape {values.shape}, not (N, D)", where, "extract this slide again")
    return rows


def _valid_rows(rows: NDArray[Any], coords: NDArray[Any] | None, where: str) -> NDArray[np.bool_]:
    """(N,) rows with finite features and coordinates."""
    valid = np.isfinite(rows).all(axis=1)
    if coords is not None:
        valid &= np.isfinite(coords).all(axis=1)
    invalid = int((~valid).sum())
    if invalid > MAX_INVALID_SHARE * len(rows):
        what = f"features that are not finite in {invalid} of {len(rows)} rows"
        raise DataError(what, where, "extract this slide again")
    return np.asarray(valid)
