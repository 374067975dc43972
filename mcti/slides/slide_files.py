"""The files of which a slide consists: one for most formats, several for DICOM, MIRAX and Hamamatsu's VMS and VMU."""

import re
from pathlib import Path

from mcti import pinned, storage
from mcti.slides import dicom
from mcti.slides.status import SlideError, Status
from mcti.storage import Location

# OpenSlide's hamamatsu driver: the keys of a VMS or VMU file whose values name other files of its folder.
_NAMED = re.compile(r"^(?:ImageFile|MapFile|OptimisationFile|MacroImage)\b[^=\n]*=(.+)$", re.MULTILINE)
_MAX_INDEX = 16 << 20


def resolve(location: Location) -> str:
    """The file that stands for a slide: the location itself or, of a folder with one DICOM series, its finest level.

    Raises
        SlideError: a folder that holds no DICOM slide, or several.
    """
    folder = _folder(location)
    if folder is None:
        return str(location)
    found: dict[str, list[dicom.Instance]] = {}
    for one in dicom.instances(dicom.files_in(folder)):
        found.setdefault(one.series, []).append(one)
    slides = [levels for levels in map(dicom.levels, found.values()) if levels]
    if not slides and found:
        dicom.check(next(iter(found.values())))  # which says what it is instead
    if len(slides) != 1:
        what = f"a folder with {len(slides)} DICOM series of a slide" if slides else "a folder without a DICOM slide"
        raise SlideError(Status.READ_ERROR, what, "name one file of the slide in the manifest")
    return slides[0][0].location


def members(location: Location) -> list[str]:
    """All files of the slide at a file's location, itself first; of DICOM every instance of the series."""
    text = str(location)
    ending = Path(text).suffix.lower()
    if ending == ".mrxs":
        return [text, *_below(text[: -len(ending)])]
    if ending in (".vms", ".vmu"):
        return [text, *_named(text)]
    if is_dicom(text):
        return [text, *(one.location for one in dicom.series(text) if one.location != text)]
    return [text]


def is_dicom(location: str) -> bool:
    """Whether the file at a location may be a DICOM instance, by its name."""
    unnamed = pinned.is_pinned(location) and not pinned.parse(location).path
    return not unnamed and dicom.may_be_dicom(location.rpartition("/")[2])


def size(location: Location) -> int:
    """Bytes of all files of a slide."""
    return sum(storage.size(member) for member in members(location))


def _folder(location: Location) -> str | None:
    """The folder at a location; None when a file is meant, or nothing is there."""
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


def _below(folder: str) -> list[str]:
    """The files directly in the data folder of a MIRAX slide."""
    if storage.is_s3(folder):
        found = storage.addresses(folder + "/") if storage.exists(folder + "/") else []
        return [address for address in found if "/" not in address.removeprefix(folder + "/")]
    path = Path(folder)
    return sorted(str(file) for file in path.iterdir() if file.is_file()) if path.is_dir() else []


def _named(location: str) -> list[str]:
    """The files beside a VMS or VMU file that it names, where they are."""
    if storage.size(location) > _MAX_INDEX:
        raise SlideError(Status.READ_ERROR, "an index of tiles larger than 16 MiB", "export the slide again")
    text = storage.read_bytes(location).decode("latin-1")
    names = sorted({name.strip() for name in _NAMED.findall(text)} - {""})
    base = location.rpartition("/")[0] if storage.is_s3(location) else str(Path(location).parent)
    plain = [name for name in names if not {"/", "\\"} & set(name) and name not in (".", "..")]
    return [path for path in (storage.join(base, name) for name in plain) if storage.exists(path)]
