"""Pixels of a slide at any level: a direct reader for tiled TIFF, OpenSlide for the rest, flat pictures by themselves.

All three answer `read(level, x, y, width, height)` in pixels of that level with RGB uint8 (height, width, 3), white
outside of the picture, and raise RegionError for what cannot be decoded. With `shrink` the region comes that many times
smaller. Readers are safe to use from many threads.
"""

import os
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from mcti.slides import decoding, pyramid, tiff
from mcti.slides.decoding import Pixels
from mcti.slides.frames import FrameLevel
from mcti.slides.status import RegionError, SlideError, Status

_CACHE_BYTES = 192 << 20
_WHITE = 255


@dataclass(frozen=True)
class Level:
    """One resolution of a slide. `downsample`: level-0 pixels in one of its pixels, across and down.

    `exact`: every reader gives the level's own pixels at every position, so that tiles may come from it. OpenSlide
    addresses a level in level-0 pixels: where its downsample is no whole number (odd sizes, 2.0005) it blends
    neighbours, more at one position than at another. A level of at most 4096 px is exact all the same, since OpenSlide
    paints it from its origin in one piece.
    """

    width: int
    height: int
    downsample: tuple[float, float]
    tile: tuple[int, int]
    exact: bool = True

    @classmethod
    def of(cls, size: tuple[int, int], finest: tuple[int, int], tile: tuple[int, int]) -> "Level":
        """The level of `size` pixels of a slide whose finest level has `finest`."""
        downsample = (finest[0] / size[0], finest[1] / size[1])
        exact = is_whole(sum(downsample) / 2, max(size)) or max(size) <= ONE_PIECE
        return cls(*size, downsample, tile, exact)


ONE_PIECE = 4096
"""Pixels along an edge that OpenSlide 4 paints in one piece; the next piece begins between two pixels."""


def is_whole(downsample: float, edge: int) -> bool:
    """Whether pixel after pixel of a level of `edge` px lies on whole level-0 pixels, within 1/512 of its own."""
    return abs(downsample - round(downsample)) * edge < downsample / 512


class Reader(Protocol):
    """What every reader offers."""

    name: str
    levels: list[Level]

    def read(self, level: int, x: int, y: int, width: int, height: int, shrink: int = 1) -> Pixels:
        """The region as RGB (height, width, 3), white outside of the picture; RegionError when it cannot be read.

        shrink: 1, 2, 4 or 8, of which all four numbers are multiples; the region comes so many times smaller. It may be
        read-only: a tile as it lies in the cache.
        """

    def close(self) -> None:
        """Give the file back."""


class _Closing:
    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the file back."""
        raise NotImplementedError


class TiffReader(_Closing):
    """Tiles straight from the file: pixel-identical to OpenSlide, without its painting."""

    name = "tiff"

    def __init__(self, path: Path, directories: list[tiff.Directory]) -> None:
        self._pages = self._chosen(directories)
        self._decoders = [decoding.decoder(page) for page in self._pages]
        self._tables = [(page.offsets, page.counts) for page in self._pages]
        self._columns = [page.grid[0] for page in self._pages]
        # Where the pieces of a tile stand in the tables: one, or one a plane, a whole grid apart.
        self._strides = [(page.grid[0] * page.grid[1], decoding.planes(page)) for page in self._pages]
        first = self._pages[0]
        self.levels = [Level.of((p.width, p.height), (first.width, first.height), p.tile) for p in self._pages]
        self._small: dict[tuple[int, int], decoding.Decode] = {}
        self._files = self._opened(path)
        self._lock = threading.Lock()
        self._tiles: OrderedDict[tuple[int, int, int], Pixels | RegionError] = OrderedDict()
        self._held = 0  # bytes of the tiles in it

    def close(self) -> None:
        """Give the file back."""
        self._tiles.clear()
        for descriptor in set(self._files):
            os.close(descriptor)

    def _chosen(self, directories: list[tiff.Directory]) -> list[tiff.Directory]:
        """The levels among the directories of the file."""
        return pyramid.levels(directories)

    def _opened(self, path: Path) -> list[int]:
        """The open file of each level."""
        return [os.open(path, os.O_RDONLY)] * len(self._pages)

    def read(self, level: int, x: int, y: int, width: int, height: int, shrink: int = 1) -> Pixels:
        """See Reader. Where the codec can, a smaller region is decoded small: half the work, and less memory."""
        if shrink == 1:
            return self._region(level, x, y, width, height, 1)
        if not decoding.shrinks(self._pages[level], shrink):
            return smaller(self._region(level, x, y, width, height, 1), shrink)
        return self._region(level, x // shrink, y // shrink, width // shrink, height // shrink, shrink)

    def _region(self, level: int, x: int, y: int, width: int, height: int, shrink: int) -> Pixels:
        """The region in pixels of the level made `shrink` times smaller."""
        page = self.levels[level]
        across, down = page.tile[0] // shrink, page.tile[1] // shrink
        left, top = max(x, 0), max(y, 0)
        right, bottom = min(x + width, -(-page.width // shrink)), min(y + height, -(-page.height // shrink))
        whole = left == x and top == y and right == x + width and bottom == y + height
        if whole and (width, height) == (across, down) and not (x % across or y % down):
            return self._tile(level, x // across, y // down, shrink)  # as it lies in the cache, hence read-only
        region = np.empty((height, width, 3), np.uint8) if whole else np.full((height, width, 3), _WHITE, np.uint8)
        for row in range(top // down, -(-bottom // down)):
            y0, y1 = max(top, row * down), min(bottom, (row + 1) * down)
            for column in range(left // across, -(-right // across)):
                x0, x1 = max(left, column * across), min(right, (column + 1) * across)
                tile = self._tile(level, column, row, shrink)
                region[y0 - y : y1 - y, x0 - x : x1 - x] = tile[
                    y0 - row * down : y1 - row * down, x0 - column * across : x1 - column * across
                ]
        return region

    def _tile(self, level: int, column: int, row: int, shrink: int = 1) -> Pixels:
        index = row * self._columns[level] + column
        key = (level, index, shrink)
        with self._lock:
            known = self._tiles.get(key)
            if known is not None:
                self._tiles.move_to_end(key)
        if known is None:
            known = self._decode(level, column, row, shrink)
            if not isinstance(known, RegionError):
                known.flags.writeable = False
            self._keep(key, known)
        if isinstance(known, RegionError):
            raise RegionError(str(known))
        return known

    def _keep(self, key: tuple[int, int, int], tile: Pixels | RegionError) -> None:
        """Tiles for four rows of the level that is read, within 192 MiB: a walk along rows decodes each tile once."""
        level, _, shrink = key
        across, down = self.levels[level].tile
        row = (self._columns[level] + 2) * (across // shrink) * (down // shrink) * 3
        with self._lock:
            if key not in self._tiles:  # another thread may have decoded it meanwhile
                self._held += _bytes(tile)
            self._tiles[key] = tile
            while self._held > min(4 * row, _CACHE_BYTES) and len(self._tiles) > 4:
                self._held -= _bytes(self._tiles.popitem(last=False)[1])

    def _decode(self, level: int, column: int, row: int, shrink: int) -> Pixels | RegionError:
        apart, planes = self._strides[level]
        places = [row * self._columns[level] + column + i * apart for i in range(planes)]
        if not level and not any(self._tables[level][1][place] for place in places):
            return self._blank(shrink)
        try:
            return self._decoder(level, shrink)([self._piece(level, place) for place in places])
        except (RegionError, OSError) as error:
            if level:  # lower levels of some scanners have holes: OpenSlide, too, fills them from the finer level
                return self._from_finer(level, column, row, shrink)
            return RegionError(str(error))

    def _decoder(self, level: int, shrink: int) -> decoding.Decode:
        if shrink == 1:
            return self._decoders[level]
        if (level, shrink) not in self._small:
            self._small[level, shrink] = decoding.decoder(self._pages[level], shrink)
        return self._small[level, shrink]

    def _blank(self, shrink: int) -> Pixels:
        """A tile of length 0: the scanner left glass out. Background, as for OpenSlide, and so never tissue."""
        across, down = self.levels[0].tile
        return np.full((down // shrink, across // shrink, 3), _WHITE, np.uint8)

    def _piece(self, level: int, at: int) -> bytes:
        offset, count = int(self._tables[level][0][at]), int(self._tables[level][1][at])
        if not count:
            raise RegionError("a tile without data")
        return os.pread(self._files[level], count, offset)

    def _from_finer(self, level: int, column: int, row: int, shrink: int) -> Pixels | RegionError:
        across, down = self.levels[level].tile
        try:
            return from_finer(self, level, column * across, row * down, across, down, shrink)
        except RegionError as error:
            return error


class DicomReader(TiffReader):
    """Frames straight from the files of a DICOM series, one file per level."""

    name = "dicom"

    def __init__(self, levels: list[FrameLevel]) -> None:
        self._paths = [level.path for level in levels]
        super().__init__(self._paths[0], [level.directory for level in levels])

    def _chosen(self, directories: list[tiff.Directory]) -> list[tiff.Directory]:
        return directories

    def _opened(self, path: Path) -> list[int]:  # noqa: ARG002 (the finest level's)
        return [os.open(each, os.O_RDONLY) for each in self._paths]


class OpenSlideReader(_Closing):
    """Everything OpenSlide opens. A failed read poisons its handle, so the handle is opened anew."""

    name = "openslide"

    def __init__(self, path: Path) -> None:
        self._path, self._lock, self._picture_lock = path, threading.Lock(), threading.Lock()
        self._slide = self._open()
        properties = dict(self._slide.properties)
        self.properties = properties
        self._own = tuple(float(downsample) for downsample in self._slide.level_downsamples)
        self._pictures: dict[int, Pixels | None] = {}
        self.levels = [self._level(i) for i in range(self._slide.level_count)]

    def _level(self, i: int) -> Level:
        size, word = self._slide.level_dimensions[i], f"openslide.level[{i}].tile-"
        tile = [int(self.properties.get(word + name, 256)) for name in ("width", "height")]
        level = Level.of(size, self._slide.dimensions, (tile[0], tile[1]))
        return replace(level, exact=True) if self._whole(i, level) else level

    def _whole(self, level: int, here: Level) -> bool:
        """Whether the downsample that OpenSlide itself calculates with is a whole number."""
        return is_whole(self._own[level], max(here.width, here.height))

    def _open(self) -> Any:
        import openslide

        try:
            return openslide.OpenSlide(self._path)
        except openslide.OpenSlideUnsupportedFormatError as error:
            raise SlideError(Status.UNSUPPORTED_FORMAT, "no reader knows this format") from error
        except openslide.OpenSlideError as error:
            unknown = str(error).startswith("Unsupported TIFF compression")
            status = Status.UNSUPPORTED_COMPRESSION if unknown else Status.READ_ERROR
            raise SlideError(status, f"OpenSlide: {error}") from error

    def close(self) -> None:
        """Give the file back."""
        self._slide.close()

    def read(self, level: int, x: int, y: int, width: int, height: int, shrink: int = 1) -> Pixels:
        """See Reader."""
        here = self.levels[level]
        if not level or self._whole(level, here):
            factor = round(self._own[level])
            return smaller(self._region(level, x * factor, y * factor, width, height), shrink)
        if here.exact:
            return smaller(self._from_picture(level, x, y, width, height), shrink)
        corner = (round(x * here.downsample[0]), round(y * here.downsample[1]))
        return smaller(self._region(level, *corner, width, height), shrink)

    def _region(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        """A region of a level; x, y in level-0 pixels."""
        import openslide

        try:
            return on_white(np.asarray(self._slide.read_region((x, y), level, (width, height))))
        except openslide.OpenSlideError as error:
            with self._lock:
                self._slide = self._open()
            raise RegionError(f"OpenSlide: {error}") from error

    def _from_picture(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        """A region of a small level, cut from the whole of it; where that does not decode, from the finer level."""
        with self._picture_lock:
            if level not in self._pictures:
                self._pictures[level] = self._picture(level)
            picture = self._pictures[level]
        return from_finer(self, level, x, y, width, height) if picture is None else cut(picture, x, y, width, height)

    def _picture(self, level: int) -> Pixels | None:
        try:
            return self._region(level, 0, 0, self.levels[level].width, self.levels[level].height)
        except RegionError:
            return None


class FlatReader(_Closing):
    """A PNG, JPEG or untiled TIFF picture, whole in memory."""

    name = "flat"
    _MAX_PIXELS = 170_000_000

    def __init__(self, path: Path) -> None:
        self._picture = self._load(path)
        height, width = self._picture.shape[:2]
        self.levels = [Level(width, height, (1.0, 1.0), (512, 512))]

    def _load(self, path: Path) -> Pixels:
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(path) as picture:
                to_largest_page(picture)
                if picture.width * picture.height > self._MAX_PIXELS:
                    raise SlideError(
                        Status.UNSUPPORTED_FORMAT,
                        f"a flat picture of {picture.width}x{picture.height} px",
                        "convert it to a pyramidal TIFF, e.g. with vips tiffsave",
                    )
                pyramid.refuse_orientation(int(picture.getexif().get(274, 1)))
                if picture.mode not in ("RGB", "RGBA", "P"):
                    raise SlideError(Status.NOT_HE, f"a picture of mode {picture.mode}, not RGB")
                # By way of RGBA a large picture would take twice the memory.
                return np.asarray(picture) if picture.mode == "RGB" else on_white(np.asarray(picture.convert("RGBA")))
        except UnidentifiedImageError as error:
            raise SlideError(Status.UNSUPPORTED_FORMAT, "no reader knows this format") from error
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise SlideError(Status.READ_ERROR, f"the picture does not decode ({error})") from error

    def close(self) -> None:
        """Nothing is held open."""

    def read(self, level: int, x: int, y: int, width: int, height: int, shrink: int = 1) -> Pixels:
        """See Reader."""
        if level:
            raise RegionError(f"a flat picture has no level {level}")
        return smaller(cut(self._picture, x, y, width, height), shrink)


def to_largest_page(picture: Any) -> None:
    """Of a TIFF in strips of several pages, Pillow's picture turns to the largest: the first may be a thumbnail."""
    if picture.format != "TIFF" or getattr(picture, "n_frames", 1) == 1:
        return
    sizes = []
    for page in range(picture.n_frames):
        picture.seek(page)
        sizes.append(picture.width * picture.height)
    picture.seek(sizes.index(max(sizes)))


def from_finer(reader: Reader, level: int, x: int, y: int, width: int, height: int, shrink: int = 1) -> Pixels:
    """A region of a level made from the next finer one, by area."""
    import cv2

    here, finer = reader.levels[level], reader.levels[level - 1]
    fx, fy = (h / f for h, f in zip(here.downsample, finer.downsample, strict=True))
    box = [round(v) for v in (x * fx, y * fy, width * fx, height * fy)]
    picture = reader.read(level - 1, box[0], box[1], max(box[2], 1), max(box[3], 1))
    return np.asarray(cv2.resize(picture, (width // shrink, height // shrink), interpolation=cv2.INTER_AREA), np.uint8)


def cut(picture: Pixels, x: int, y: int, width: int, height: int) -> Pixels:
    """A region (height, width, 3) of a whole picture (h, w, 3), white outside of it."""
    region = np.full((height, width, 3), _WHITE, np.uint8)
    left, top, right, bottom = max(x, 0), max(y, 0), min(x + width, picture.shape[1]), min(y + height, picture.shape[0])
    if right > left and bottom > top:
        region[top - y : bottom - y, left - x : right - x] = picture[top:bottom, left:right]
    return region


def smaller(picture: Pixels, shrink: int) -> Pixels:
    """A picture (h, w, 3) `shrink` times smaller, by area."""
    import cv2

    if shrink == 1:
        return picture
    size = (picture.shape[1] // shrink, picture.shape[0] // shrink)
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def on_white(picture: Pixels) -> Pixels:
    """RGBA (h, w, 4) laid over white, (h, w, 3)."""
    alpha = picture[:, :, 3:]
    if alpha.min(initial=_WHITE) == _WHITE:
        return np.ascontiguousarray(picture[:, :, :3])
    blend = picture[:, :, :3].astype(np.uint16) * alpha + np.uint16(_WHITE) * (_WHITE - alpha.astype(np.uint16))
    return ((blend + 127) // _WHITE).astype(np.uint8)


def _bytes(tile: Pixels | RegionError) -> int:
    return 0 if isinstance(tile, RegionError) else tile.nbytes
