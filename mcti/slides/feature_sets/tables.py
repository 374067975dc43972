"""Tables with one row per slide or patient: Parquet or CSV, an id column and the features.

The features are one column of lists, or all numeric columns in the order of the table.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mcti.errors import DataError
from mcti.slides.feature_sets import entries
from mcti.slides.feature_sets.arrays import FEATURE_NAMES
from mcti.slides.feature_sets.entries import SetEntry
from mcti.slides.portable import PATCH, PATIENT, SLIDE, PortableFeatures, from_arrays

SUFFIXES = (".parquet", ".csv")
_SLIDE_COLUMNS = ("slide_id", "slide", "filename", "sample_id", "image_id")
_PATIENT_COLUMNS = ("patient_id", "case_id", "patient")
_COORDINATE_COLUMNS = (("x", "y"), ("coord_x", "coord_y"))


def find(source: Path) -> list[SetEntry]:
    """The rows of a table, or the files of a folder with one table per slide.

    Raises DataError when there is no table, or the table has no ids or no features.
    """
    if source.is_file():
        return _rows(source)
    files = entries.files_below(source, *SUFFIXES[:1]) or entries.files_below(source, *SUFFIXES[1:])
    if not files:
        raise entries.missing(source, "/".join(SUFFIXES), "parquet")
    if len(files) == 1 and _id_columns(_read(files[0]))[2]:
        return _rows(files[0])
    return [entries.of_file(file, _read_slide) for file in files]


def _rows(file: Path) -> list[SetEntry]:
    table = _read(file)
    slides, patients, level = _id_columns(table)
    if not level:
        raise DataError("no column slide_id or patient_id", str(file), "add the id of each row")
    values = _features(table, file)
    names = [str(name) for name in table[slides or patients]]
    owners = [str(name) for name in table[patients]] if slides and patients else [""] * len(names)
    rows = zip(names, values, owners, strict=True)
    return [entries.of_member(file, name, vector, level, patient_id=owner) for name, vector, owner in rows]


def _read_slide(file: Path) -> PortableFeatures:
    """A table with one row per patch, and x and y where it has coordinates."""
    table = _read(file)
    pair = next((pair for pair in _COORDINATE_COLUMNS if set(pair) <= set(table.columns)), None)
    coords = None if pair is None else table[list(pair)].to_numpy("float64")
    values = _features(table.drop(columns=list(pair or ())), file)
    level = PATCH if len(values) > 1 else ""
    return from_arrays(file.stem, str(file), values, coords, level=level)


def _read(file: Path) -> Any:
    import pandas as pd

    try:
        if file.suffix.lower() == ".parquet":
            return _with_index(pd.read_parquet(file))
        return pd.read_csv(file, dtype=dict.fromkeys((*_SLIDE_COLUMNS, *_PATIENT_COLUMNS), str))
    except (OSError, ValueError) as error:  # also: ArrowInvalid, ParserError, EmptyDataError, UnicodeDecodeError
        raise DataError(f"not a table ({type(error).__name__})", str(file), "write Parquet or CSV") from error


def _with_index(table: Any) -> Any:
    """The table with an index of texts as a column: `slide_id` where it has no name."""
    import pandas as pd

    if not pd.api.types.is_string_dtype(table.index):
        return table
    return table.rename_axis(index=table.index.name or _SLIDE_COLUMNS[0]).reset_index()


def _id_columns(table: Any) -> tuple[str, str, str]:
    """The column of slides, that of patients (empty: none), and the level of the rows (empty: no ids)."""
    by_name = {str(name).casefold(): str(name) for name in table.columns}
    slides = next((by_name[name] for name in _SLIDE_COLUMNS if name in by_name), "")
    patients = next((by_name[name] for name in _PATIENT_COLUMNS if name in by_name), "")
    return slides, patients, SLIDE if slides else PATIENT if patients else ""


def _features(table: Any, file: Path) -> NDArray[Any]:
    """(rows, D) features of a table."""
    import pandas as pd

    lists = [name for name in table.columns if str(name).casefold() in FEATURE_NAMES]
    lists = [name for name in lists if not pd.api.types.is_numeric_dtype(table[name])]
    if lists:
        return _stacked([np.asarray(cell) for cell in table[lists[0]]], file)
    # In CSV a column of 0 and 1 may be a feature.
    is_feature = pd.api.types.is_numeric_dtype if file.suffix.lower() == ".csv" else pd.api.types.is_float_dtype
    numeric = table[[name for name in table.columns if is_feature(table[name])]]
    if not numeric.shape[1]:
        what = "neither a column of lists (features, embedding) nor numeric columns"
        raise DataError(what, str(file), "write one column per feature, or one column of lists")
    dtype = "float16" if all(column == np.float16 for column in numeric.dtypes) else "float32"
    values: NDArray[Any] = numeric.to_numpy(dtype)
    return values


def _stacked(cells: list[NDArray[Any]], file: Path) -> NDArray[Any]:
    widths = sorted({cell.size for cell in cells})
    if len(widths) != 1:
        raise DataError(f"features of different widths: {widths}", str(file), "use one table per encoder")
    stacked = np.stack([cell.reshape(-1) for cell in cells])
    return stacked if np.issubdtype(stacked.dtype, np.floating) else stacked.astype(np.float32)
