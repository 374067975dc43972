"""The list of slides: a CSV or Parquet table, or a folder. What is wrong with one slide stays in its own row."""

import math
import os
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mcti import redaction, storage
from mcti.errors import DataError, did_you_mean
from mcti.slides import dicom
from mcti.storage import Location

SUFFIXES = (
    *(".svs", ".tif", ".tiff", ".btf", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".vmu", ".svslide"),
    *(".png", ".jpg", ".jpeg"),
    *dicom.SUFFIXES,
)
"""Files of a folder that are taken for slides; DICOM files without an ending are found by their content."""

_COLUMNS = ("patient_id", "slide_id", "path", "mpp", "md5")


@dataclass(frozen=True)
class SlideRow:
    """One slide of the list. `problem`: why it cannot be used whatever its file holds; empty when nothing is known."""

    patient_id: str
    slide_id: str
    path: str
    mpp: float | None = None
    md5: str = ""
    problem: str = ""


def read(location: Location) -> list[SlideRow]:
    """The slides of a manifest (columns patient_id, slide_id, path, and where known mpp in µm/px and md5), a folder, or
    one slide.

    A relative path is sought below the manifest's folder, then below the working directory; it may not climb out of
    them. In a folder the slide is named by its file without the last ending, and so is its patient; a DICOM series
    is one slide, named by its folder when it is the only slide there, by its file when it has one, else by its
    SeriesInstanceUID. Rows are sorted by slide_id.

    Raises
        DataError: no such list, a missing column, an empty field, an mpp that is no number.
    """
    if storage.is_s3(location) and not str(location).lower().endswith((".csv", ".parquet", *SUFFIXES)):
        rows = _prefix(location)
    elif not storage.is_s3(location) and Path(location).is_dir():
        rows = _folder(Path(location))
    elif str(location).lower().endswith(SUFFIXES):
        rows = [_single(str(location))]
    else:
        rows = _table(location)
    if not rows:
        raise DataError("there are no slides", str(location), f"known endings: {', '.join(SUFFIXES)}")
    redaction.register_ids(name for row in rows for name in (row.patient_id, row.slide_id))
    return sorted(_marked(rows), key=lambda row: (row.slide_id, row.path))


def read_patient_ids(location: Location) -> dict[str, str]:
    """Whose each slide is, by slide_id without a file's ending; where the slide lies need not be known.

    Raises
        DataError: no such list, a missing column, an empty field, a slide of two patients.
    """
    table = _frame(location)
    _need(table, ("patient_id", "slide_id"), location)
    found: dict[str, str] = {}
    for i, record in enumerate(table.to_dict("records")):
        patient, slide = (_text(record[name]) for name in ("patient_id", "slide_id"))
        where = f"{location}, row {i + 2}"
        if not patient or not slide:
            raise DataError(f"{'slide_id' if patient else 'patient_id'} is empty", where, "fill it or delete the row")
        slide = slide.removesuffix(Path(slide).suffix) if slide.lower().endswith(SUFFIXES) else slide
        if found.setdefault(slide, patient) != patient:
            raise DataError(
                f"slide {slide} is of patient {found[slide]} and of patient {patient}",
                where,
                "keep one of the two rows",
            )
    redaction.register_ids([*found, *found.values()])
    return found


def _need(table: Any, columns: tuple[str, ...], location: Location) -> None:
    for column in columns:
        if column not in table.columns:
            raise DataError(f"column {column!r} is missing", str(location), did_you_mean(column, table.columns))


def _folder(folder: Path) -> list[SlideRow]:
    found = []
    for base, folders, names in os.walk(folder, onerror=_unreadable, followlinks=False):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += _rows_in(base, sorted(names))
    return found


def _rows_in(folder: str, names: list[str]) -> list[SlideRow]:
    """The slides among the files directly in a folder or below a prefix."""
    names = [name for name in names if not name.startswith(".")]
    plain = [name for name in names if name.lower().endswith(SUFFIXES) and not dicom.may_be_dicom(name)]
    rows = [SlideRow(Path(name).stem, Path(name).stem, storage.join(folder, name)) for name in plain]
    unparsed: list[str] = []
    by_series: dict[str, list[dicom.Instance]] = {}
    for name in filter(dicom.may_be_dicom, names):
        where = storage.join(folder, name)
        one = next(dicom.instances([where]), None)
        if one is not None:
            by_series.setdefault(one.series or where, []).append(one)
        elif name.lower().endswith(SUFFIXES):
            unparsed.append(where)  # its row will say why
    rows += [SlideRow(Path(where).stem, Path(where).stem, where) for where in unparsed]
    slides = [found for found in by_series.values() if dicom.levels(found)]
    alone = len(slides) == 1 and not rows
    return [*rows, *(_series_row(folder, found, alone=alone) for found in by_series.values())]


def _series_row(folder: str, found: list[dicom.Instance], *, alone: bool) -> SlideRow:
    """The row of a DICOM series: its finest level stands for it."""
    levels = dicom.levels(found)
    first = (levels or found)[0]
    if alone and levels:
        name = folder.rstrip("/").rpartition("/")[2] if storage.is_s3(folder) else Path(folder).resolve().name
    else:
        name = Path(first.location).stem if len(found) == 1 else first.series
    return SlideRow(name, name, first.location)


def _single(location: str) -> SlideRow:
    """The row of one file; of a DICOM instance, that of its series."""
    rows = [SlideRow(Path(location).stem, Path(location).stem, location)]
    if not dicom.may_be_dicom(location.rpartition("/")[2]) or not storage.exists(location):
        return rows[0]
    own = next(dicom.instances([location]), None)
    if own is None:
        return rows[0]
    of_series = {one.location for one in dicom.series(location)}
    base = dicom.folder_of(location)
    found = _rows_in(base, [where.rpartition("/")[2] for where in dicom.files_in(base, every=True)])
    return next((row for row in found if row.path in of_series), rows[0])


def _unreadable(error: OSError) -> None:
    raise storage.translate_os_error(error)  # a folder left out would be slides left out


def _prefix(location: Location) -> list[SlideRow]:
    folders: dict[str, list[str]] = {}
    for address in storage.addresses(location):
        folder, _, name = address.rpartition("/")
        folders.setdefault(folder, []).append(name)
    return [row for folder, names in folders.items() for row in _rows_in(folder, names)]


def _table(location: Location) -> list[SlideRow]:
    table = _frame(location)
    _need(table, _COLUMNS[:3], location)
    base = str(location).rpartition("/")[0] if storage.is_s3(location) else Path(location).parent
    return [_row(dict(record), base, f"{location}, row {i + 2}") for i, record in enumerate(table.to_dict("records"))]


def _frame(location: Location) -> Any:
    import pandas as pd

    with storage.local_copy(location) as path, storage.translating_os_errors(path):
        try:
            if str(path).lower().endswith(".parquet"):
                return pd.read_parquet(path)
            return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
        except (ValueError, pd.errors.ParserError) as error:  # also: UnicodeDecodeError, EmptyDataError, ArrowInvalid
            raise DataError(
                f"not a slide manifest ({error})", str(location), "write CSV in UTF-8, or Parquet"
            ) from error


def _row(record: dict[str, Any], base: Path | str, where: str) -> SlideRow:
    words = {name: _text(record.get(name)) for name in _COLUMNS}
    for name in _COLUMNS[:3]:
        if not words[name]:
            raise DataError(f"{name} is empty", where, "fill it or delete the row")
    path, problem = _resolved(words["path"], base)
    return SlideRow(words["patient_id"], words["slide_id"], path, _mpp(words["mpp"], where), words["md5"], problem)


def _text(value: Any) -> str:
    if isinstance(value, str):  # a slide may be called nan
        return value.strip()
    missing = value is None or (isinstance(value, float) and math.isnan(value)) or str(value) == "<NA>"
    return "" if missing else str(value).strip()


def _mpp(text: str, where: str) -> float | None:
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise DataError(f"mpp is {text!r}, not a number", where, "write µm/px, e.g. 0.25, or leave it empty") from None


def _resolved(text: str, base: Path | str) -> tuple[str, str]:
    if storage.is_s3(text) or Path(text).is_absolute():
        return text, ""
    if os.path.normpath(text).startswith(".."):
        return text, "the path leaves the data folder: write it without .., or as an absolute path"
    if isinstance(base, str):  # a manifest on S3: its slides lie beside it
        return storage.join(base, os.path.normpath(text)), ""
    beside = base / text
    return str(beside if beside.exists() or not Path(text).exists() else Path(text)), ""


def _marked(rows: list[SlideRow]) -> list[SlideRow]:
    """The rows with what is wrong with their names: two of one name would write one file."""
    times = Counter(row.slide_id for row in rows)
    marked = []
    for row in rows:
        name = row.slide_id
        if times[name] > 1:
            problem = f"{times[name]} slides are called {name}: give each a slide_id of its own in a manifest"
        elif "/" in name or "\\" in name or "\0" in name or name.startswith(".") or len(name.encode()) > 200:
            problem = "slide_id cannot name a file: take letters, digits, spaces, dots, dashes, at most 200 bytes"
        else:
            problem = row.problem
        marked.append(replace(row, problem=problem))
    return marked
