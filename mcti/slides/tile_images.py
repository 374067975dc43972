"""Images of single tiles for reports, or the reason why an image is missing."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mcti import redaction, storage
from mcti.errors import MctiError
from mcti.slides import exchange, heatmap, manifest, probe
from mcti.slides.decoding import Pixels
from mcti.slides.manifest import SlideRow
from mcti.slides.status import RegionError
from mcti.slides.tiles import Grid, TileSource
from mcti.storage import Location

EDGE = 128
"""Edge of an image in pixels: half of the default tile of 256 px."""


@dataclass(frozen=True)
class TileImage:
    """A tile as a JPEG in a data: URL, or the reason why there is no image."""

    address: str = ""
    missing: str = ""


class TileImages:
    """Reads tiles of the slides of a manifest or folder. What cannot be read gives a reason, never an error: a report
    must not fail for a picture.
    """

    def __init__(self, slides: Location, features: Location) -> None:
        self._rows: Mapping[str, SlideRow] = {}
        self._features, self._unlisted = features, "not in the list of slides"
        try:
            self._rows = {row.slide_id: row for row in manifest.read(slides, paths_required=False)}
        except (MctiError, OSError) as error:
            self._unlisted = _reason(error)

    def read_tiles(self, slide_id: str, corners: Sequence[tuple[int, int]]) -> list[TileImage]:
        """Images of the tiles with these corners (level-0 px); their size is stated in the slide's feature file."""
        row = self._rows.get(slide_id)
        if row is None or row.problem:
            return [_missing(row.problem if row else self._unlisted)] * len(corners)
        try:
            return self._read(row, corners)
        except Exception as error:  # the readers of slides raise several exception classes for a broken file
            return [_missing(_reason(error))] * len(corners)

    def _read(self, row: SlideRow, corners: Sequence[tuple[int, int]]) -> list[TileImage]:
        location = storage.join(self._features, f"{row.slide_id}.h5")
        header = exchange.read_header(location)
        with probe.local_slide(row.path) as path:
            info = probe.examine(path, mpp=row.mpp)
            heatmap.check_same_slide(header, info, location)
            footprint = heatmap.footprint(header)
            with probe.open_reader(path, info.reader) as reader:
                tiles = TileSource(reader, Grid(info.width, info.height, EDGE, footprint, footprint))
                return [_read_tile(tiles, x, y) for x, y in corners]


def _read_tile(tiles: TileSource, x: int, y: int) -> TileImage:
    try:
        return TileImage(address=_jpeg(tiles.read(x, y)))
    except RegionError as error:
        return _missing(str(error) or "not readable")


def _reason(error: Exception) -> str:
    if isinstance(error, MctiError):
        return error.what
    return str(getattr(error, "strerror", "") or f"{type(error).__name__}: {error}")


def _missing(reason: str) -> TileImage:
    return TileImage(missing=redaction.text(reason))


def _jpeg(picture: Pixels) -> str:
    import cv2

    encoded, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
    assert encoded, "an array of bytes can be encoded"
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
