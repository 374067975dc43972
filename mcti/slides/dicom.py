"""DICOM whole slide images: one slide is one series, whose instances are files of one folder.

An instance is one file: a level (flavour VOLUME), or the thumbnail, the label or the overview photograph. This module
reads only headers. Standard: DICOM PS3.3, A.32.8 and C.8.12.4 (VL Whole Slide Microscopy Image).
"""

import hashlib
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from mcti import pinned, s3, storage
from mcti.slides.status import SlideError, Status
from mcti.storage import Location

SUFFIXES = (".dcm", ".dicom")
WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
"""SOP class of VL Whole Slide Microscopy Image Storage."""

_DIRECTORY = "1.2.840.10008.1.3.10"  # DICOMDIR: an index of other files
_HEADER = (
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Modality", "ImageType", "ConcatenationUID"),
    *("TotalPixelMatrixColumns", "TotalPixelMatrixRows", "TotalPixelMatrixFocalPlanes"),
    *("SamplesPerPixel", "BitsAllocated", "NumberOfOpticalPaths"),
)
_CODECS = {
    **{f"1.2.840.10008.1.2{end}": "none" for end in ("", ".1", ".1.99", ".2")},
    **{f"1.2.840.10008.1.2.4.{end}": "jpeg" for end in (50, 51, 57, 70)},
    **{f"1.2.840.10008.1.2.4.{end}": "jpeg2000" for end in (90, 91, 92, 93)},
}


@dataclass(frozen=True)
class Instance:
    """The header of one file. columns, rows: pixels of the whole level; codec: that of the transfer syntax."""

    location: str
    sop_class: str
    sop_instance: str
    series: str
    modality: str
    image_type: tuple[str, ...]
    columns: int
    rows: int
    samples: int
    bits: int
    planes: int
    concatenated: bool
    codec: str

    @property
    def flavour(self) -> str:
        """VOLUME, THUMBNAIL, LABEL or OVERVIEW."""
        return self.image_type[2] if len(self.image_type) > 2 else ""

    @property
    def is_level(self) -> bool:
        """Whether it holds a level of a slide."""
        return self.sop_class == WHOLE_SLIDE and self.flavour == "VOLUME"


def may_be_dicom(name: str) -> bool:
    """Whether a file of this name is opened to look for DICOM: `.dcm`, `.dicom`, no ending, or a UID as its name."""
    ending = Path(name).suffix.lower()
    return ending in SUFFIXES or not ending or ending[1:].isdigit()


def has_preamble(head: bytes) -> bool:
    """Whether the first 132 bytes are those of a DICOM file (PS3.10, 7.1)."""
    return head[128:132] == b"DICM"


def instance(location: Location) -> Instance | None:
    """The header of a file or an object; None for a file that is no DICOM, or an index (DICOMDIR).

    Raises SlideError (READ_ERROR) when the header does not parse.
    """
    if storage.is_s3(location):
        return _instance(str(location), storage.size(location), 0)
    state = Path(location).stat()
    if not stat.S_ISREG(state.st_mode):
        return None
    return _instance(str(location), state.st_size, state.st_mtime_ns)


def series(location: Location) -> list[Instance]:
    """All instances in the folder of `location` that belong to the same series, sorted by UID.

    Empty for a file that is no DICOM.
    Raises SlideError when the header of the file itself does not parse.
    """
    location = location if storage.is_s3(location) else Path(location)  # ./a.dcm and a.dcm are the same file
    first = instance(location)
    if first is None:
        return []
    neighbours = instances(_neighbours(str(location)))
    by_location = {other.location: other for other in neighbours if other.series == first.series}
    by_location[first.location] = first
    return sorted(by_location.values(), key=lambda member: (member.sop_instance, member.location))


def files_in(folder: Location, *, every: bool = False) -> list[str]:
    """The files directly in a folder, or objects directly below a prefix, that may be DICOM by name; `every`: all."""
    if storage.is_s3(folder):
        base = str(folder).rstrip("/")
        below = (name.removeprefix(base + "/") for name in storage.addresses(base + "/"))
        names = [name for name in below if "/" not in name]
    else:
        names = sorted(path.name for path in Path(folder).iterdir() if path.is_file())
    return [storage.join(folder, name) for name in names if every or may_be_dicom(name)]


def _neighbours(location: str) -> list[str]:
    unnamed = pinned.is_pinned(location) and not pinned.parse(location).path  # a version of one file
    return [] if unnamed else files_in(folder_of(location))


def folder_of(location: str) -> str:
    """The folder or prefix of a file."""
    return location.rpartition("/")[0] if storage.is_s3(location) else str(Path(location).parent)


def instances(locations: Iterable[str]) -> Iterator[Instance]:
    """The DICOM files among `locations`; files with a broken header are skipped."""
    for location in locations:
        try:
            header = instance(location)
        except (SlideError, OSError):
            continue
        if header is not None:
            yield header


def levels(members: list[Instance]) -> list[Instance]:
    """The levels of a series, the finest first."""
    chosen = [member for member in members if member.is_level]
    return sorted(chosen, key=lambda level: (-level.columns * level.rows, level.sop_instance))


def check(members: list[Instance]) -> list[Instance]:
    """The levels of a series that can be read as a slide, the finest first.

    Raises SlideError when it is no whole slide image, has no level, lacks the finest level, or has an unsupported form.
    """
    chosen = levels(members)
    if not chosen:
        raise SlideError(Status.UNSUPPORTED_FORMAT, _describe_missing_level(members))
    first = chosen[0]
    if any(level.concatenated for level in chosen):
        what = "a level is split into several instances (a concatenation)"
        raise SlideError(Status.UNSUPPORTED_FORMAT, what, "write one instance per level")
    if first.samples != 3 or first.bits != 8:
        what = f"{first.samples} samples of {first.bits} bits: not an RGB picture of a stained slide"
        raise SlideError(Status.NOT_HE, what)
    if first.planes > 1:
        what = f"{first.planes} focal planes in one instance"
        raise SlideError(Status.UNSUPPORTED_FORMAT, what, "export one focal plane")
    if all(level.image_type[3:4] == ("RESAMPLED",) for level in chosen):
        what = "every level of the series is RESAMPLED: the instance of full resolution is missing"
        raise SlideError(Status.TRUNCATED, what, "copy all instances of the series into the folder")
    return chosen


def quickhash(series: str) -> str:
    """OpenSlide's quickhash-1 of a series: it hashes the SeriesInstanceUID (openslide-vendor-dicom.c, 4.0.1)."""
    return hashlib.sha256(series.encode() + b"\0").hexdigest()


def _describe_missing_level(members: list[Instance]) -> str:
    if not members:
        return "no DICOM file, or an index of others (DICOMDIR)"
    if all(member.sop_class != WHOLE_SLIDE for member in members):
        return f"DICOM of modality {members[0].modality or 'unknown'}, no whole slide image"
    flavours = ", ".join(sorted({member.flavour.lower() or "unknown" for member in members}))
    return f"the DICOM series holds no VOLUME instance, only {flavours}"


@lru_cache(maxsize=65_536)
def _instance(location: str, size: int, changed: int) -> Instance | None:  # noqa: ARG001 (parts of the cache's key)
    import pydicom

    with _opened(location) as stream:
        if not has_preamble(stream.read(132)):
            return None
        stream.seek(0)
        pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE  # no warnings for odd values
        try:
            header = pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=list(_HEADER))
            parsed = _parsed(location, header)
        except Exception as error:  # pydicom passes on EOFError, ValueError, KeyError, struct.error and others
            what = f"the DICOM header does not parse ({type(error).__name__})"
            raise SlideError(Status.READ_ERROR, what, "copy it again") from error
    return None if parsed.sop_class == _DIRECTORY else parsed


def _opened(location: str) -> BinaryIO:
    if pinned.is_pinned(location):
        return s3.stream(pinned.resolve_file(location, storage.read_bytes).object)
    return s3.stream(location) if storage.is_s3(location) else Path(location).open("rb")


def _parsed(location: str, header: Any) -> Instance:
    meta = header.file_meta
    return Instance(
        location=location,
        sop_class=str(header.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID", "")),
        sop_instance=str(header.get("SOPInstanceUID") or meta.get("MediaStorageSOPInstanceUID", "")),
        series=str(header.get("SeriesInstanceUID", "")),
        modality=str(header.get("Modality", "")),
        image_type=tuple(str(word) for word in header.get("ImageType") or ()),
        columns=int(header.get("TotalPixelMatrixColumns") or 0),
        rows=int(header.get("TotalPixelMatrixRows") or 0),
        samples=int(header.get("SamplesPerPixel") or 0),
        bits=int(header.get("BitsAllocated") or 0),
        planes=int(header.get("TotalPixelMatrixFocalPlanes") or 1),
        concatenated="ConcatenationUID" in header,
        codec=_CODECS.get(str(meta.get("TransferSyntaxUID", "")), "other"),
    )
