"""Which reader a slide takes, how large its pixels are, and who it is: found out without decoding it."""

import hashlib
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from mcti import pinned, s3, storage
from mcti.slides import decoding, dicom, frames, pyramid, slide_files, staging, tiff
from mcti.slides.reader import DicomReader, FlatReader, OpenSlideReader, TiffReader, to_largest_page
from mcti.slides.status import SlideError, Status
from mcti.storage import Location

MPP_RANGE = (0.05, 2.5)
"""Accepted µm/px: outside are typing errors, and print resolutions such as 72 dpi."""

_HASHED_WHOLE = 16 << 20
_SAMPLES, _SAMPLE = 256, 16 << 10
_FLAT = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM")


@dataclass(frozen=True)
class Facts:
    """What the header of a slide says. mpp in µm/px, mpp_source: manifest, aperio, ome, tiff-tags or openslide.

    quickhash: OpenSlide's identity of what it opens (quickhash-1), of DICOM too; empty for the other readers.
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


def examine(location: Location, *, mpp: float | None = None, choice: str = "auto") -> Facts:
    """Facts of the slide at `location`; `mpp` is the manifest's and wins over the file's; `choice` forces a reader.

    Of a slide on S3 that the direct reader can read, only the header is fetched; any other is staged as a whole.

    Raises
        SlideError: with the status and the reason why the slide cannot be used.
    """
    location = _checked(location)
    if pinned.is_pinned(location):  # held against its MD5, which needs every byte
        with at_hand(str(location)) as copy:
            return examine(copy, mpp=mpp, choice=choice)
    with open_bytes(location) as (pread, length):
        if not length:
            raise SlideError(Status.TRUNCATED, "the file is empty", "copy it again")
        head = pread(0, 132)
        directories = tiff.directories(pread, length) if is_tiff(head, length) else []
    levels = dicom.check(dicom.series(location)) if dicom.has_preamble(head) else []
    for page in directories[:1]:
        pyramid.refuse_orientation(page.orientation)
    if storage.is_s3(location) and not (choice in ("auto", "tiff") and is_ours(directories) and _direct(directories)):
        with at_hand(str(location)) as copy:
            return examine(copy, mpp=mpp, choice=choice)
    path = Path(location) if not storage.is_s3(location) else Path(str(location).rpartition("/")[2])
    if choice == "auto" and levels:
        choice = "openslide" if frames.levels(levels) is None else "dicom"
    if choice == "auto":
        choice = "tiff" if storage.is_s3(location) else choose(directories, head, path)
    facts = _FACTS[choice](path, directories, mpp)
    _check_mpp(facts)
    return facts


def open_reader(path: Path, name: str) -> TiffReader | OpenSlideReader | FlatReader:
    """The slide at `path`, opened with the reader that `examine` chose."""
    if name == "dicom":
        return DicomReader(_frames(path))
    if name == "tiff":
        with open_bytes(path) as (pread, length):
            return TiffReader(path, tiff.directories(pread, length))
    return OpenSlideReader(path) if name == "openslide" else FlatReader(path)


def choose(directories: list[tiff.Directory], head: bytes, path: Path) -> str:
    """The reader for a slide: `tiff` where the direct one can, else `openslide`, else `flat`."""
    import openslide

    ours = is_ours(directories)
    if ours and pyramid.finest(directories) is None and pyramid.vendor(directories) != "aperio":
        return "flat"
    if ours and _direct(directories):
        return "tiff"
    if directories and not ours:
        return "openslide"
    if openslide.OpenSlide.detect_format(path) is not None:
        return "openslide"
    if ours:
        return "tiff"  # which says why not
    if is_flat(head):
        return "flat"
    raise SlideError(Status.UNSUPPORTED_FORMAT, f"no reader knows this format (it begins with {head[:8]!r})")


def is_tiff(head: bytes, length: int) -> bool:
    """Whether the directories of a file can be parsed here, by its first 132 bytes and its length.

    A classic TIFF beyond 4 GiB is Hamamatsu's: its offsets wrap around, and only OpenSlide knows how. The preamble of a
    DICOM file may be a TIFF header for other readers.
    """
    wrapped = head[2:4] in (b"*\0", b"\0*") and length >= 1 << 32
    return tiff.looks_like_tiff(head) and not wrapped and not dicom.has_preamble(head)


def is_flat(head: bytes) -> bool:
    """Whether a file is a plain picture that is no TIFF."""
    return head.startswith(_FLAT)


def is_ours(directories: list[tiff.Directory]) -> bool:
    """Whether the direct reader knows the format of these directories."""
    return bool(directories) and pyramid.vendor(directories) in ("aperio", "ome", "generic")


def _direct(directories: list[tiff.Directory]) -> bool:
    """Whether the direct reader reads all levels; what no reader may read is its to refuse."""
    try:
        for level in pyramid.levels(directories):
            decoding.check(level)
    except SlideError as error:
        return pyramid.finest(directories) is None or error.status is Status.NOT_HE
    return True


def content_id(location: Location) -> str:
    """SHA-256 over the length and the bytes of a file; beyond 16 MiB over 256 blocks of 16 KiB spread evenly.

    Of DICOM the levels of the series enter, each with its UID and its bytes, whichever file is named; of MIRAX and of
    Hamamatsu's VMS and VMU the names and lengths of the other files of the slide. No other file of the folder does.
    A version pinned by its MD5 is its MD5.

    Two slides differ in almost every byte, so the sample tells them apart; a flipped byte between the blocks of a
    large file escapes it, and the manifest's md5 column is there for whoever needs that.
    """
    location = _checked(location)
    levels = dicom.levels(dicom.series(location)) if slide_files.is_dicom(location) else []
    if pinned.is_pinned(location):
        return "md5:" + "".join(map(_pinned_md5, [level.location for level in levels] or slide_files.members(location)))
    if levels:
        parts = sorted(f"{level.sop_instance}\n{_bytes_id(level.location)}\n" for level in levels)
        return hashlib.sha256("".join(parts).encode()).hexdigest()
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
    """The file that stands for the slide at a location; a SlideError when there is none."""
    resolved = slide_files.resolve(location)
    if not storage.is_s3(resolved):
        with open_bytes(resolved):
            pass
    return resolved


def at_hand(location: str, cache: str | None = None, cache_gib: float = 50.0) -> AbstractContextManager[Path]:
    """A local path for a slide: itself, or a copy of an `s3://` object that is deleted after use (staging.py)."""
    location = slide_files.resolve(location)
    return staging.staged(location, cache, cache_gib) if storage.is_s3(location) else nullcontext(Path(location))


class open_bytes:  # noqa: N801 (used as a function)
    """The bytes of a regular file or an object, as (pread, length); a SlideError for what cannot be read."""

    _descriptor: int | None = None

    def __init__(self, location: Location) -> None:
        self._location, self._path = location, Path(location)

    def __enter__(self) -> tuple[tiff.Pread, int]:
        if storage.is_s3(self._location):
            return s3.range_reader(os.fspath(self._location))
        try:
            if not self._path.is_file():
                raise SlideError(Status.READ_ERROR, self._found(), "check the path in the manifest")
            opened = self._descriptor = os.open(self._path, os.O_RDONLY)
            return lambda offset, size: os.pread(opened, size, offset), os.fstat(opened).st_size
        except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: a circle of links; ValueError: a NUL byte
            why = storage.translate_os_error(error).what if isinstance(error, OSError) else str(error)
            raise SlideError(Status.READ_ERROR, why, "check the file, its links and its mode") from error

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)

    def _found(self) -> str:
        if self._path.exists():
            return "a folder or device stands at this path"
        if self._path.is_symlink():
            return "the link at this path leads nowhere or in a circle"
        return "there is no file at this path"


def _tiff_facts(path: Path, directories: list[tiff.Directory], given: float | None) -> Facts:
    if not directories:
        raise SlideError(Status.UNSUPPORTED_FORMAT, "the direct reader was asked for, and this is no TIFF file")
    levels = pyramid.levels(directories)
    for level in levels:
        decoding.check(level)
    first = levels[0]
    mpp, source = _manifest_or(given, lambda: pyramid.declared(directories), path)
    return Facts(
        "tiff",
        pyramid.vendor(directories),
        decoding.NAMES[first.compression],
        first.width,
        first.height,
        len(levels),
        mpp,
        source,
    )


def _dicom_facts(path: Path, _: list[tiff.Directory], given: float | None) -> Facts:
    levels = _frames(path)
    first, instance = levels[0].directory, dicom.levels(dicom.series(path))[0]
    mpp, source = _manifest_or(given, lambda: (frames.pixel_size(levels[0].path), "dicom", ""), path)
    quickhash = dicom.quickhash(instance.series)
    size = (first.width, first.height)
    return Facts("dicom", "dicom", instance.codec, *size, len(levels), mpp, source, quickhash)


def _frames(path: Path) -> list[frames.FrameLevel]:
    levels = frames.levels(dicom.check(dicom.series(path)))
    if levels is None:
        what = (
            "the direct reader was asked for, and this DICOM has another form than one fragment per tile (TILED_FULL)"
        )
        raise SlideError(Status.UNSUPPORTED_FORMAT, what, "take extract.reader openslide")
    return levels


def _openslide_facts(path: Path, directories: list[tiff.Directory], given: float | None) -> Facts:
    with OpenSlideReader(path) as slide:
        words = slide.properties
        first = slide.levels[0]
        mpp, source = _manifest_or(given, lambda: _openslide_mpp(slide, directories), path)
        vendor = words.get("openslide.vendor", "")
        codec = _codec(path, vendor, directories)
        quickhash = words.get("openslide.quickhash-1", "")
        return Facts("openslide", vendor, codec, first.width, first.height, len(slide.levels), mpp, source, quickhash)


def _openslide_mpp(slide: OpenSlideReader, directories: list[tiff.Directory]) -> pyramid.Declared:
    """What OpenSlide states; of OME-TIFF in a codec that only OpenSlide knows, what the OME-XML states.

    OpenSlide takes it for generic TIFF and reads the resolution tags, which OME-TIFF need not fill.
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


def _flat_facts(path: Path, _: list[tiff.Directory], given: float | None) -> Facts:
    from PIL import Image, UnidentifiedImageError

    if given is None:
        raise SlideError(
            Status.NOT_PYRAMIDAL, "a flat picture says nothing sound about its resolution", "fill mpp in the manifest"
        )
    try:
        with Image.open(path) as picture:
            to_largest_page(picture)
            pyramid.refuse_orientation(int(picture.getexif().get(274, 1)))
            return Facts("flat", "none", str(picture.format).lower(), *picture.size, 1, (given, given), "manifest")
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise SlideError(Status.READ_ERROR, f"the picture's header does not parse ({type(error).__name__})") from error


_FACTS = {"tiff": _tiff_facts, "dicom": _dicom_facts, "openslide": _openslide_facts, "flat": _flat_facts}


def _manifest_or(
    given: float | None, declared: Callable[[], pyramid.Declared], path: Path
) -> tuple[tuple[float, float], str]:
    if given is not None:
        return (given, given), "manifest"
    mpp, source, why = declared()
    if mpp is None:
        raise SlideError(
            Status.MISSING_MPP, why or "the file states no resolution", f"fill mpp (µm/px) for {path.name}"
        )
    return mpp, source


def _check_mpp(facts: Facts) -> None:
    low, high = MPP_RANGE
    for value in facts.mpp:
        if not low <= value <= high:
            raise SlideError(
                Status.MPP_OUT_OF_RANGE,
                f"{value:g} µm/px ({facts.mpp_source}) is outside {low:g}-{high:g}",
                "fill the true mpp in the manifest",
            )
