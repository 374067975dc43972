"""Determines reader, size, resolution and content id of a slide without decoding it."""

import hashlib
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from mcti import pinned, s3, storage
from mcti.slides import decoding, dicom, frames, pyramid, slide_files, staging, tiff
from mcti.slides.flat_reader import FlatReader, to_largest_page
from mcti.slides.openslide_reader import OpenSlideReader
from mcti.slides.status import SlideError, Status
from mcti.slides.tiff_reader import DicomReader, TiffReader
from mcti.storage import Location

MPP_RANGE = (0.05, 2.5)
"""Accepted µm/px. Values outside are typing errors, or print resolutions such as 72 dpi."""

_HASHED_WHOLE = 16 << 20
_SAMPLES, _SAMPLE = 256, 16 << 10
_FLAT = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM")


@dataclass(frozen=True)
class SlideInfo:
    """The properties that the header of a slide states. mpp in µm/px in x and y; width and height in level-0 pixels.

    mpp_source  manifest, aperio, ome, tiff-tags, dicom or openslide
    quickhash   OpenSlide's identity of a slide (quickhash-1), also for DICOM; empty for the other readers
    """

    reader: str
    vendor: str
    compression: str
    width: int
    height: int
    levels: int
    mpp: tuple[float, float]
    mpp_source: str
    quickhash: str = ""


def examine(location: Location, *, mpp: float | None = None, choice: str = "auto") -> SlideInfo:
    """The properties of the slide at `location`.

    mpp     µm/px of the manifest, which has precedence over the file's
    choice  reader: auto, tiff, dicom, openslide or flat
    Of a slide on S3 that the direct reader supports, only the header is downloaded; any other is downloaded completely.
    Raises SlideError with the status and the reason when the slide cannot be used.
    """
    location = _checked(location)
    if pinned.is_pinned(location):  # the check of its MD5 needs every byte
        with local_slide(str(location)) as copy:
            return examine(copy, mpp=mpp, choice=choice)
    with open_bytes(location) as (pread, length):
        if not length:
            raise SlideError(Status.TRUNCATED, "the file is empty", "copy it again")
        head = pread(0, 132)
        directories = tiff.directories(pread, length) if is_tiff(head, length) else []
    levels = dicom.check(dicom.series(location)) if dicom.has_preamble(head) else []
    if directories:  # a thumbnail page may have another orientation than the slide
        pyramid.refuse_orientation((pyramid.finest(directories) or directories[0]).orientation)
    if storage.is_s3(location) and not (
        choice in ("auto", "tiff") and has_direct_format(directories) and _is_readable(directories)
    ):
        with local_slide(str(location)) as copy:
            return examine(copy, mpp=mpp, choice=choice)
    path = Path(location) if not storage.is_s3(location) else Path(str(location).rpartition("/")[2])
    if choice == "auto" and levels:
        choice = "openslide" if frames.levels(levels) is None else "dicom"
    if choice == "auto":
        choice = "tiff" if storage.is_s3(location) else choose_reader(directories, head, path)
    info = _EXAMINERS[choice](path, directories, mpp)
    _check_mpp(info)
    return info


def open_reader(path: Path, name: str) -> TiffReader | OpenSlideReader | FlatReader:
    """The slide at `path`, opened with the reader that `examine` returned.

    Raises SlideError when the slide cannot be opened.
    """
    if name == "dicom":
        return DicomReader(_frames(path))
    if name == "tiff":
        with open_bytes(path) as (pread, length):
            return TiffReader(path, tiff.directories(pread, length))
    return OpenSlideReader(path) if name == "openslide" else FlatReader(path)


def choose_reader(directories: list[tiff.Directory], head: bytes, path: Path) -> str:
    """The reader for a slide: `tiff` where the direct reader supports it, else `openslide`, else `flat`.

    Raises SlideError (UNSUPPORTED_FORMAT) when no reader supports the format.
    """
    import openslide

    direct = has_direct_format(directories)
    if direct and pyramid.finest(directories) is None and pyramid.vendor(directories) != "aperio":
        return "flat"
    if direct and _is_readable(directories):
        return "tiff"
    if directories and not direct:
        return "openslide"
    if openslide.OpenSlide.detect_format(path) is not None:
        return "openslide"
    if direct:
        return "tiff"  # which raises the reason
    if is_flat(head):
        return "flat"
    raise SlideError(Status.UNSUPPORTED_FORMAT, f"no reader supports this format (first bytes {head[:8]!r})")


def is_tiff(head: bytes, length: int) -> bool:
    """Whether the direct reader can parse the directories of a file, by its first 132 bytes and its length.

    A classic TIFF beyond 4 GiB is a Hamamatsu file, whose offsets wrap around; only OpenSlide supports it. The preamble
    of a DICOM file may be a TIFF header for other readers.
    """
    wrapped = head[2:4] in (b"*\0", b"\0*") and length >= 1 << 32
    return tiff.looks_like_tiff(head) and not wrapped and not dicom.has_preamble(head)


def is_flat(head: bytes) -> bool:
    """Whether the first bytes are those of a PNG, JPEG or BMP picture."""
    return head.startswith(_FLAT)


def has_direct_format(directories: list[tiff.Directory]) -> bool:
    """Whether the direct reader supports the vendor format of these directories."""
    return bool(directories) and pyramid.vendor(directories) in ("aperio", "ome", "generic")


def _is_readable(directories: list[tiff.Directory]) -> bool:
    """Whether the direct reader supports all levels. Slides that no reader may read count: it raises their error."""
    try:
        for level in pyramid.levels(directories):
            decoding.check(level)
    except SlideError as error:
        return pyramid.finest(directories) is None or error.status is Status.NOT_HE
    return True


def content_id(location: Location) -> str:
    """SHA-256 over the length and the bytes of a file; beyond 16 MiB over 256 blocks of 16 KiB spread evenly.

    Several files: of DICOM, UID and bytes of each level of the series; of MIRAX and of Hamamatsu's VMS and VMU, also
    the names and lengths of the other files of the slide. A version pinned by its MD5 has that MD5 as its content id.

    Two slides differ in almost every byte, so the blocks distinguish them. A changed byte between the blocks of a large
    file is not detected; the manifest's column md5 is for users who need that.
    Raises SlideError when the slide cannot be read.
    """
    location = _checked(location)
    levels = dicom.levels(dicom.series(location)) if slide_files.is_dicom(location) else []
    if pinned.is_pinned(location):
        return "md5:" + "".join(map(_pinned_md5, [level.location for level in levels] or slide_files.members(location)))
    if levels:
        level_ids = sorted(f"{level.sop_instance}\n{_bytes_id(level.location)}\n" for level in levels)
        return hashlib.sha256("".join(level_ids).encode()).hexdigest()
    others = sorted((name.rpartition("/")[2], storage.size(name)) for name in slide_files.members(location)[1:])
    return _bytes_id(location, "".join(f"{name}\n{size}\n" for name, size in others))


def _pinned_md5(location: str) -> str:
    return "".join(version.md5 for version in pinned.files(location, storage.read_bytes).values())


def _bytes_id(location: Location, suffix: str = "") -> str:
    """SHA-256 over the length, the bytes or a sample of them, and `suffix`."""
    with open_bytes(location) as (pread, length):
        digest = hashlib.sha256(f"{length}\n".encode())
        if length <= _HASHED_WHOLE:
            digest.update(pread(0, length))
        else:
            for i in range(_SAMPLES):
                digest.update(pread((length - _SAMPLE) * i // (_SAMPLES - 1), _SAMPLE))
    digest.update(suffix.encode())
    return digest.hexdigest()


def _checked(location: Location) -> str:
    """The main file of the slide at a location; SlideError when it does not exist."""
    resolved = slide_files.resolve(location)
    if not storage.is_s3(resolved):
        with open_bytes(resolved):
            pass
    return resolved


def local_slide(location: str, cache: str | None = None, cache_gib: float = 50.0) -> AbstractContextManager[Path]:
    """A local path of a slide: its path, or a copy of an `s3://` object that is deleted after use (staging.py).

    cache_gib   largest total size of all copies, GiB
    Raises SlideError when the location holds no slide, or the copy exceeds the cache.
    Raises OperationalError when the disk is full.
    """
    location = slide_files.resolve(location)
    return staging.staged(location, cache, cache_gib) if storage.is_s3(location) else nullcontext(Path(location))


class open_bytes:  # noqa: N801 (used as a function)
    """The bytes of a regular file or an object, as (pread, length); SlideError when it cannot be read."""

    _descriptor: int | None = None

    def __init__(self, location: Location) -> None:
        self._location, self._path = location, Path(location)

    def __enter__(self) -> tuple[tiff.Pread, int]:
        if storage.is_s3(self._location):
            return s3.range_reader(os.fspath(self._location))
        try:
            if not self._path.is_file():
                raise SlideError(Status.READ_ERROR, self._reason(), "check the path in the manifest")
            opened = self._descriptor = os.open(self._path, os.O_RDONLY)
            return lambda offset, size: os.pread(opened, size, offset), os.fstat(opened).st_size
        except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: circular links; ValueError: a NUL byte
            what = storage.translate_os_error(error).what if isinstance(error, OSError) else str(error)
            raise SlideError(Status.READ_ERROR, what, "check the file, its links and its mode") from error

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)

    def _reason(self) -> str:
        if self._path.exists():
            return "the path is a folder or a device"
        if self._path.is_symlink():
            return "the link at this path is broken or circular"
        return "there is no file at this path"


def _examine_tiff(path: Path, directories: list[tiff.Directory], manifest_mpp: float | None) -> SlideInfo:
    if not directories:
        raise SlideError(Status.UNSUPPORTED_FORMAT, "the direct reader was requested, but this is no TIFF file")
    levels = pyramid.levels(directories)
    for level in levels:
        decoding.check(level)
    first = levels[0]
    mpp, source = _manifest_or(manifest_mpp, lambda: pyramid.declared(directories), path)
    return SlideInfo(
        "tiff",
        pyramid.vendor(directories),
        decoding.NAMES[first.compression],
        first.width,
        first.height,
        len(levels),
        mpp,
        source,
    )


def _examine_dicom(path: Path, _: list[tiff.Directory], manifest_mpp: float | None) -> SlideInfo:
    levels = _frames(path)
    first, instance = levels[0].directory, dicom.levels(dicom.series(path))[0]
    mpp, source = _manifest_or(manifest_mpp, lambda: (frames.pixel_size(levels[0].path), "dicom", ""), path)
    quickhash = dicom.quickhash(instance.series)
    size = (first.width, first.height)
    return SlideInfo("dicom", "dicom", instance.codec, *size, len(levels), mpp, source, quickhash)


def _frames(path: Path) -> list[frames.FrameLevel]:
    levels = frames.levels(dicom.check(dicom.series(path)))
    if levels is None:
        what = "the direct reader was requested, but the DICOM frames are not one fragment per tile (TILED_FULL)"
        raise SlideError(Status.UNSUPPORTED_FORMAT, what, "set extract.reader=openslide")
    return levels


def _examine_openslide(path: Path, directories: list[tiff.Directory], manifest_mpp: float | None) -> SlideInfo:
    with OpenSlideReader(path) as slide:
        properties = slide.properties
        first = slide.levels[0]
        mpp, source = _manifest_or(manifest_mpp, lambda: _openslide_mpp(slide, directories), path)
        vendor = properties.get("openslide.vendor", "")
        codec = _codec(path, vendor, directories)
        quickhash = properties.get("openslide.quickhash-1", "")
        size = (first.width, first.height)
        return SlideInfo("openslide", vendor, codec, *size, len(slide.levels), mpp, source, quickhash)


def _openslide_mpp(slide: OpenSlideReader, directories: list[tiff.Directory]) -> pyramid.Declared:
    """The resolution that OpenSlide states; for OME-TIFF in a codec that only OpenSlide decodes, that of the OME-XML.

    OpenSlide treats it as generic TIFF and reads the resolution tags, which OME-TIFF need not fill.
    """
    if directories and pyramid.vendor(directories) == "ome":
        pyramid.levels(directories)
        return pyramid.declared(directories)
    across, down = (pyramid.number(slide.properties.get(f"openslide.mpp-{axis}", "")) for axis in "xy")
    return (None if across is None or down is None else (across, down)), "openslide", ""


def _codec(path: Path, vendor: str, directories: list[tiff.Directory]) -> str:
    if vendor == "dicom":
        return dicom.levels(dicom.series(path))[0].codec
    return decoding.NAMES.get(directories[0].compression, "other") if directories else "other"


def _examine_flat(path: Path, _: list[tiff.Directory], manifest_mpp: float | None) -> SlideInfo:
    from PIL import Image, UnidentifiedImageError

    if manifest_mpp is None:
        what = "a plain picture states no reliable resolution"
        raise SlideError(Status.NOT_PYRAMIDAL, what, "enter mpp in the manifest")
    try:
        with Image.open(path) as picture:
            to_largest_page(picture)
            pyramid.refuse_orientation(int(picture.getexif().get(274, 1)))
            return SlideInfo(
                "flat", "none", str(picture.format).lower(), *picture.size, 1, (manifest_mpp, manifest_mpp), "manifest"
            )
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise SlideError(Status.READ_ERROR, f"the picture's header does not parse ({type(error).__name__})") from error


_EXAMINERS = {"tiff": _examine_tiff, "dicom": _examine_dicom, "openslide": _examine_openslide, "flat": _examine_flat}


def _manifest_or(
    manifest_mpp: float | None, declared: Callable[[], pyramid.Declared], path: Path
) -> tuple[tuple[float, float], str]:
    if manifest_mpp is not None:
        return (manifest_mpp, manifest_mpp), "manifest"
    mpp, source, reason = declared()
    if mpp is None:
        raise SlideError(
            Status.MISSING_MPP, reason or "the file states no resolution", f"enter mpp (µm/px) for {path.name}"
        )
    return mpp, source


def _check_mpp(info: SlideInfo) -> None:
    low, high = MPP_RANGE
    for value in info.mpp:
        if not low <= value <= high:
            raise SlideError(
                Status.MPP_OUT_OF_RANGE,
                f"{value:g} µm/px ({info.mpp_source}) is outside {low:g}-{high:g}",
                "enter the true mpp in the manifest",
            )
