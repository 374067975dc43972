"""Pictures of single tiles for a report, where the slides are at hand; why there is none, where they are not."""

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
"""Pixels of a picture: of a tile of 256 at 0.5 µm/px, as extracted, every second one."""


@dataclass(frozen=True)
class TileImage:
    """A tile as a JPEG in a data: address, or the reason why it cannot be shown."""

    address: str = ""
    missing: str = ""


class TileImages:
    """The slides of a manifest or folder; a slide that cannot be read costs its pictures, never the report."""

    def __init__(self, slides: Location, features: Location) -> None:
        self._rows: Mapping[str, SlideRow] = {row.slide_id: row for row in manifest.read(slides)}
        self._features = features

    def read_tiles(self, slide_id: str, corners: Sequence[tuple[int, int]]) -> list[TileImage]:
        """The tiles with these level-0 corners, each as large as the features of the slide say."""
        row = self._rows.get(slide_id)
        if row is None or row.problem:
            return [_without(row.problem if row else "not among the slides given")] * len(corners)
        try:
            return self._read(row, corners)
        except (MctiError, OSError) as error:
            return [_without(error.what if isinstance(error, MctiError) else str(error.strerror))] * len(corners)

    def _read(self, row: SlideRow, corners: Sequence[tuple[int, int]]) -> list[TileImage]:
        where = storage.join(self._features, f"{row.slide_id}.h5")
        with storage.local_copy(where) as store:
            bag = exchange.read_header(store)
        with probe.local_slide(row.path) as path:
            facts = probe.examine(path, mpp=row.mpp)
            heatmap.check_same_slide(bag, facts, where)
            covered = heatmap.footprint(bag)
            with probe.open_reader(path, facts.reader) as reader:
                tiles = TileSource(reader, Grid(facts.width, facts.height, EDGE, covered, covered))
                return [_crop(tiles, x, y) for x, y in corners]


def _crop(tiles: TileSource, x: int, y: int) -> TileImage:
    try:
        return TileImage(address=_jpeg(tiles.read(x, y)))
    except RegionError as error:
        return _without(str(error) or "not readable")


def _without(reason: str) -> TileImage:
    return TileImage(missing=redaction.text(reason))


def _jpeg(picture: Pixels) -> str:
    import cv2

    whole, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
    assert whole, "a picture of bytes encodes"
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
