"""The files of a slide: one for most formats, several for DICOM, MIRAX and Hamamatsu's VMS and VMU."""

import re
from pathlib import Path

from mcti import pinned, storage
from mcti.slides import dicom
from mcti.slides.status import SlideError, Status
from mcti.storage import Location

# The keys of a VMS or VMU file whose values name other files of its folder (OpenSlide's hamamatsu driver).
_NAMED = re.compile(r"^(?:ImageFile|MapFile|OptimisationFile|MacroImage)\b[^=\n]*=(.+)$", re.MULTILINE)
_MAX_INDEX = 16 << 20


def resolve(location: Location) -> str:
    """The main file of a slide: the location itself or, for a folder with one DICOM series, its finest level.

    Raises SlideError when a folder has no DICOM slide, or several.
    """
    folder = _folder(location)
    if folder is None:
        return str(location)
    by_series: dict[str, list[dicom.Instance]] = {}
    for instance in dicom.instances(dicom.files_in(folder)):
        by_series.setdefault(instance.series, []).append(instance)
    slides = [levels for levels in map(dicom.levels, by_series.values()) if levels]
    if not slides and by_series:
        dicom.check(next(iter(by_series.values())))  # raises an error that states what the series is
    if len(slides) != 1:
        what = f"a folder with {len(slides)} DICOM slides" if slides else "a folder without a DICOM slide"
        raise SlideError(Status.READ_ERROR, what, "enter one file of the slide in the manifest")
    return slides[0][0].location


def members(location: Location) -> list[str]:
    """All files of a slide, the main file `location` first; for DICOM every instance of the series.

    Raises SlideError when a VMS or VMU file is too large.
    """
    text = str(location)
    ending = Path(text).suffix.lower()
    if ending == ".mrxs":
        return [text, *_files_of_folder(text[: -len(ending)])]
    if ending in (".vms", ".vmu"):
        return [text, *_files_of_index(text)]
    if is_dicom(text):
        return [text, *(member.location for member in dicom.series(text) if member.location != text)]
    return [text]


def is_dicom(location: str) -> bool:
    """Whether the name of a file allows a DICOM instance."""
    unnamed = pinned.is_pinned(location) and not pinned.parse(location).path
    return not unnamed and dicom.may_be_dicom(location.rpartition("/")[2])


def size(location: Location) -> int:
    """Total size in bytes of all files of a slide."""
    return sum(storage.size(member) for member in members(location))


def _folder(location: Location) -> str | None:
    """The folder at a location; None for a file, or when nothing exists."""
    text = str(location)
    if not storage.is_s3(text):
        return text if Path(text).is_dir() else None
    if pinned.is_pinned(text):
        return None if "" in pinned.files(text, storage.read_bytes) else text.rstrip("/")
    name = text.rstrip("/").rpartition("/")[2]
    if not text.endswith("/") and not dicom.may_be_dicom(name):
        return None
    below = storage.addresses(text.rstrip("/") + "/")
    return text.rstrip("/") if below and below != [text] else None


def _files_of_folder(folder: str) -> list[str]:
    """The files directly in the data folder of a MIRAX slide."""
    if storage.is_s3(folder):
        addresses = storage.addresses(folder + "/") if storage.exists(folder + "/") else []
        return [address for address in addresses if "/" not in address.removeprefix(folder + "/")]
    path = Path(folder)
    return sorted(str(file) for file in path.iterdir() if file.is_file()) if path.is_dir() else []


def _files_of_index(location: str) -> list[str]:
    """The existing files of the same folder that a VMS or VMU file names."""
    if storage.size(location) > _MAX_INDEX:
        raise SlideError(Status.READ_ERROR, "the tile index is larger than 16 MiB", "export the slide again")
    text = storage.read_bytes(location).decode("latin-1")
    names = sorted({name.strip() for name in _NAMED.findall(text)} - {""})
    base = location.rpartition("/")[0] if storage.is_s3(location) else str(Path(location).parent)
    plain = [name for name in names if not {"/", "\\"} & set(name) and name not in (".", "..")]
    return [path for path in (storage.join(base, name) for name in plain) if storage.exists(path)]
