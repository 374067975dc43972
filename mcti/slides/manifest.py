"""The list of slides: a CSV or Parquet table, or a folder. The fault of one slide is stated in its own row."""

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
"""File names of slides; DICOM files without such an ending are recognised by their content."""

_FEATURE_SUFFIXES = (".h5", ".pt", ".npy", ".npz")
"""Endings of slide_id in tables of other tools, which list feature files."""

_COLUMNS = ("patient_id", "slide_id", "path", "mpp", "md5")


@dataclass(frozen=True)
class SlideRow:
    """One slide of the list. mpp in µm/px; problem: why the row cannot be used, whatever its file holds; else empty."""

    patient_id: str
    slide_id: str
    path: str
    mpp: float | None = None
    md5: str = ""
    problem: str = ""


@dataclass(frozen=True)
class ListedSlide:
    """A slide of a table without files. mpp: µm/px of level 0, None where the table has none."""

    slide_id: str
    patient_id: str
    mpp: float | None = None


def read(location: Location, *, paths_required: bool = True) -> list[SlideRow]:
    """The slides of a manifest, a folder or a single file, sorted by slide_id.

    paths_required  False: a slide without path is a row with a problem, as with ready-made features

    Manifest    columns patient_id, slide_id, path; optional mpp (µm/px) and md5. A relative path starts at the folder
                of the manifest or at the working directory, and may not leave it.
    Folder      slide_id and patient_id are the file name without its ending. A DICOM series is one slide: its name is
                that of the folder when it is the only slide in it, else that of its file when it has a single one, else
                its SeriesInstanceUID.
    Raises DataError when the list does not exist, a column is missing, a field is empty, or mpp is not a number.
    """
    if storage.is_s3(location) and not str(location).lower().endswith((".csv", ".parquet", *SUFFIXES)):
        rows = _prefix(location)
    elif not storage.is_s3(location) and Path(location).is_dir():
        rows = _folder(Path(location))
    elif str(location).lower().endswith(SUFFIXES):
        rows = [_single(str(location))]
    else:
        rows = _table(location, _COLUMNS[:3] if paths_required else _COLUMNS[:2])
    if not rows:
        raise DataError("there are no slides", str(location), f"supported endings: {', '.join(SUFFIXES)}")
    redaction.register_ids(name for row in rows for name in (row.patient_id, row.slide_id))
    return sorted(_with_name_problems(rows), key=lambda row: (row.slide_id, row.path))


def read_patient_ids(location: Location) -> dict[str, str]:
    """The patient_id of each slide by slide_id (without a file ending); the table needs no column path.

    Raises DataError when the table does not exist, a column is missing, a field is empty, or a slide has two patients.
    """
    return {slide_id: slide.patient_id for slide_id, slide in read_listed(location).items()}


def read_listed(location: Location) -> dict[str, ListedSlide]:
    """The slides of a table by slide_id (without a file ending), with patient_id and mpp; it needs no column path.

    Raises DataError when the table does not exist, a column is missing, a field is empty, an mpp is no positive number,
    or a slide has two patients or two values of mpp.
    """
    table = _frame(location)
    _require_columns(table, ("patient_id", "slide_id"), location)
    slides: dict[str, ListedSlide] = {}
    for i, record in enumerate(table.to_dict("records")):
        slide = _listed(dict(record), f"{location}, row {i + 2}")
        first = slides.setdefault(slide.slide_id, slide)
        if first != slide:
            what = f"slide {slide.slide_id} belongs to patient {first.patient_id} and to patient {slide.patient_id}"
            if first.patient_id == slide.patient_id:
                what = f"slide {slide.slide_id} has the mpp {first.mpp} and the mpp {slide.mpp}"
            raise DataError(what, f"{location}, row {i + 2}", "keep one of the two rows")
    redaction.register_ids([*slides, *(slide.patient_id for slide in slides.values())])
    return slides


def _listed(record: dict[str, Any], where: str) -> ListedSlide:
    texts = {name: _text(record.get(name)) for name in ("patient_id", "slide_id", "mpp")}
    for name in ("patient_id", "slide_id"):
        if not texts[name]:
            raise DataError(f"{name} is empty", where, "enter it, or delete the row")
    name = texts["slide_id"]
    suffix = next((ending for ending in (*SUFFIXES, *_FEATURE_SUFFIXES) if name.lower().endswith(ending)), "")
    mpp = _mpp(texts["mpp"], where)
    if mpp is not None and not (math.isfinite(mpp) and mpp > 0):
        raise DataError(f"mpp is {mpp}", where, "write µm/px, e.g. 0.25, or leave it empty")
    return ListedSlide(name[: len(name) - len(suffix)], texts["patient_id"], mpp)


def _require_columns(table: Any, columns: tuple[str, ...], location: Location) -> None:
    for column in columns:
        if column not in table.columns:
            raise DataError(f"column {column!r} is missing", str(location), did_you_mean(column, table.columns))


def _folder(folder: Path) -> list[SlideRow]:
    rows = []
    for base, folders, names in os.walk(folder, onerror=_raise_unreadable, followlinks=False):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        rows += _rows_in(base, sorted(names))
    return rows


def _rows_in(folder: str, names: list[str]) -> list[SlideRow]:
    """The slides among the files directly in a folder or below a prefix."""
    names = [name for name in names if not name.startswith(".")]
    plain = [name for name in names if name.lower().endswith(SUFFIXES) and not dicom.may_be_dicom(name)]
    rows = [SlideRow(Path(name).stem, Path(name).stem, storage.join(folder, name)) for name in plain]
    unparsed: list[str] = []
    by_series: dict[str, list[dicom.Instance]] = {}
    for name in filter(dicom.may_be_dicom, names):
        location = storage.join(folder, name)
        header = next(dicom.instances([location]), None)
        if header is not None:
            by_series.setdefault(header.series or location, []).append(header)
        elif name.lower().endswith(SUFFIXES):
            unparsed.append(location)  # its row will state the reason
    rows += [SlideRow(Path(location).stem, Path(location).stem, location) for location in unparsed]
    slides = [members for members in by_series.values() if dicom.levels(members)]
    only_slide = len(slides) == 1 and not rows
    return [*rows, *(_series_row(folder, members, only_slide=only_slide) for members in by_series.values())]


def _series_row(folder: str, members: list[dicom.Instance], *, only_slide: bool) -> SlideRow:
    """The row of a DICOM series; its path is that of the finest level."""
    levels = dicom.levels(members)
    first = (levels or members)[0]
    if only_slide and levels:
        name = folder.rstrip("/").rpartition("/")[2] if storage.is_s3(folder) else Path(folder).resolve().name
    else:
        name = Path(first.location).stem if len(members) == 1 else first.series
    return SlideRow(name, name, first.location)


def _single(location: str) -> SlideRow:
    """The row of one file; for a DICOM instance, that of its series."""
    rows = [SlideRow(Path(location).stem, Path(location).stem, location)]
    if not dicom.may_be_dicom(location.rpartition("/")[2]) or not storage.exists(location):
        return rows[0]
    if next(dicom.instances([location]), None) is None:
        return rows[0]
    series = {member.location for member in dicom.series(location)}
    base = dicom.folder_of(location)
    rows_of_folder = _rows_in(base, [path.rpartition("/")[2] for path in dicom.files_in(base, every=True)])
    return next((row for row in rows_of_folder if row.path in series), rows[0])


def _raise_unreadable(error: OSError) -> None:
    raise storage.translate_os_error(error)  # skipping the folder would silently drop its slides


def _prefix(location: Location) -> list[SlideRow]:
    folders: dict[str, list[str]] = {}
    for address in storage.addresses(location):
        folder, _, name = address.rpartition("/")
        folders.setdefault(folder, []).append(name)
    return [row for folder, names in folders.items() for row in _rows_in(folder, names)]


def _table(location: Location, required: tuple[str, ...]) -> list[SlideRow]:
    table = _frame(location)
    _require_columns(table, required, location)
    base = str(location).rpartition("/")[0] if storage.is_s3(location) else Path(location).parent
    return [
        _row(dict(record), required, base, f"{location}, row {i + 2}")
        for i, record in enumerate(table.to_dict("records"))
    ]


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


def _row(record: dict[str, Any], required: tuple[str, ...], base: Path | str, where: str) -> SlideRow:
    texts = {name: _text(record.get(name)) for name in _COLUMNS}
    for name in required:
        if not texts[name]:
            more = ", or set extract.source: import for ready-made features" if name == "path" else ""
            raise DataError(f"{name} is empty", where, f"enter it, or delete the row{more}")
    path, problem = _resolved(texts["path"], base) if texts["path"] else ("", "the table names no slide file")
    return SlideRow(texts["patient_id"], texts["slide_id"], path, _mpp(texts["mpp"], where), texts["md5"], problem)


def _text(value: Any) -> str:
    if isinstance(value, str):  # "nan" is a valid slide name
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
    if isinstance(base, str):  # a manifest on S3: paths start at its prefix
        return storage.join(base, os.path.normpath(text)), ""
    path = base / text
    return str(path if path.exists() or not Path(text).exists() else Path(text)), ""


def _with_name_problems(rows: list[SlideRow]) -> list[SlideRow]:
    """The rows, with the problem of each invalid or repeated name: two slides must not write the same file."""
    counts = Counter(row.slide_id for row in rows)
    checked = []
    for row in rows:
        name = row.slide_id
        if counts[name] > 1:
            problem = f"{counts[name]} slides are called {name}: give each a unique slide_id in a manifest"
        elif "/" in name or "\\" in name or "\0" in name or name.startswith(".") or len(name.encode()) > 200:
            problem = "slide_id is no valid file name: use letters, digits, spaces, dots, dashes, at most 200 bytes"
        else:
            problem = row.problem
        checked.append(replace(row, problem=problem))
    return checked
