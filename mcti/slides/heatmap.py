"""Scores of tiles over their slide: a PNG for people, GeoJSON for QuPath, a pyramidal OME-TIFF for any viewer.

Scores may be anything a tile has: its part of the risk, attention, evidence for a subtype. With `centre` (risk parts)
the colours run from blue over white to red around it; without, from pale to dark.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mcti import storage
from mcti.errors import DataError
from mcti.slides.decoding import Pixels
from mcti.slides.exchange import PortableFeatures
from mcti.slides.probe import SlideInfo
from mcti.slides.tissue import Overview
from mcti.storage import Location

_BAR = 64  # height of the strip under the picture
_STEPS = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)  # µm that a scale bar may show


@dataclass(frozen=True)
class Scores:
    """A score (N,) for each tile (N, 2; level-0 px of its corner) of `footprint` level-0 px across and down."""

    name: str
    coords: NDArray[np.int64]
    values: NDArray[np.float64]
    footprint: tuple[int, int]
    centre: float | None = None

    def __post_init__(self) -> None:
        if self.coords.shape != (len(self.values), 2) or not len(self.values):
            raise DataError(f"{len(self.values)} scores for coords of shape {self.coords.shape}", self.name, "one each")
        if not np.isfinite(self.values).all():
            raise DataError("scores that are not finite", self.name, "leave those tiles out")

    @property
    def limits(self) -> tuple[float, float]:
        """Values at the two ends of the colours: the 1st and 99th percentile, symmetric around the centre."""
        low, high = (float(v) for v in np.percentile(self.values, [1, 99]))
        if self.centre is not None:
            reach = max(abs(low - self.centre), abs(high - self.centre))
            low, high = self.centre - reach, self.centre + reach
        return (low, high) if high > low else (low - 0.5, high + 0.5)

    def shares(self) -> NDArray[np.float64]:
        """Where each value lies between the limits, (N,) in 0-1."""
        low, high = self.limits
        return np.clip((self.values - low) / (high - low), 0.0, 1.0)

    def palette(self) -> Pixels:
        """The 256 colours (256, 3) from one limit to the other: diverging around a centre, else from pale to dark.

        Both read in grey and for the colour-blind: their ends differ in lightness or in blue and red.
        """
        ends = _PALE_TO_DARK if self.centre is None else _BLUE_TO_RED
        at, steps = np.linspace(0, 1, len(ends)), np.linspace(0, 1, 256)
        return np.stack([np.interp(steps, at, [end[i] for end in ends]) for i in range(3)], 1).astype(np.uint8)

    def colours(self) -> Pixels:
        """The colour of each tile, RGB (N, 3)."""
        return np.asarray(self.palette()[np.rint(self.shares() * 255).astype(int)], np.uint8)


def read_scores(
    location: Location, slide: PortableFeatures, column: str = "score", centre: float | None = None
) -> Scores:
    """Scores of a slide's tiles from a CSV with x, y (level-0 px, as in the features' coords) and `column`.

    Raises
        DataError: a column is missing or holds something else than finite numbers, a tile is scored twice, or the
        slide has no tile there.
    """
    import pandas as pd

    with storage.local_copy(location) as path, storage.translating_os_errors(path):
        try:
            table = pd.read_csv(path)
        except (ValueError, pd.errors.ParserError) as error:  # also: UnicodeDecodeError, EmptyDataError
            raise DataError(f"not a CSV table ({error})", str(location), "write x, y and the score") from error
    for name in ("x", "y", column):
        if name not in table.columns or not pd.api.types.is_numeric_dtype(table[name]):
            raise DataError(f"column {name!r} is missing or no number", str(location), "write x, y and the score")
    numbers = table[["x", "y", column]].to_numpy("float64")
    known = set() if slide.coords is None else set(map(tuple, slide.coords.tolist()))
    rows = [None if not np.isfinite(row).all() else (int(row[0]), int(row[1])) for row in numbers]
    if not rows:
        raise DataError("there are no scores", str(location), "write a row a tile")
    for i, corner in enumerate(rows):
        if corner is None:
            raise DataError("a number that is not finite", f"{location}, row {i + 2}", "leave that tile out")
        if corner not in known or corner != (numbers[i, 0], numbers[i, 1]):
            where = f"{location}, row {i + 2}"
            raise DataError("no tile of the slide lies there", where, "take x and y from the slide's own feature file")
    if len(set(rows)) < len(rows):
        raise DataError("a tile has two scores", str(location), "keep one row a tile")
    return Scores(column, numbers[:, :2].astype(np.int64), numbers[:, 2], footprint(slide), centre)


def footprint(slide: PortableFeatures) -> tuple[int, int]:
    """Level-0 px that a tile of a slide covers, across and down.

    Raises
        DataError: the features do not say.
    """
    across = slide.grid.get("patch_size_level0")
    if across is None:
        raise DataError("the features do not say how large a tile is", slide.slide_id, "extract the slide with mcti")
    mpp = [float(slide.attributes.get(name, float("nan"))) for name in ("mpp_x", "mpp_y")]
    square = not np.isfinite(mpp).all() or mpp[0] == mpp[1]
    return int(across), int(across) if square else round(int(across) * mpp[0] / mpp[1])


def check_same_slide(slide: PortableFeatures, facts: SlideInfo, where: Location) -> None:
    """Raise a DataError when features say that their slide has another size than this one."""
    size = tuple(int(slide.grid.get(name, 0)) for name in ("level0_width", "level0_height"))
    if all(size) and size != (facts.width, facts.height):
        what = f"features of a slide of {size[0]}x{size[1]} px, this one has {facts.width}x{facts.height}"
        raise DataError(what, str(where), "give the slide's own feature file")


def write_png(out: Path, view: Overview, mpp: float, scores: Scores, opacity: float = 0.55) -> None:
    """The coarse picture with the scores laid over it, a scale bar and the legend. `mpp`: µm/px of level 0."""
    import cv2

    picture = _blended(view.picture, *_planes(scores, view.picture.shape[:2], view.scale), scores, opacity)
    size = max(1.0, picture.shape[1] / 900)  # of bar and letters: readable when the whole picture is on a screen
    canvas = np.full((picture.shape[0] + round(_BAR * size), max(picture.shape[1], 420), 3), 255, np.uint8)
    canvas[: picture.shape[0], : picture.shape[1]] = picture
    _scale_bar(canvas, picture.shape[0], mpp * view.scale[0], size)
    _legend(canvas, picture.shape[0], scores, size)
    whole, data = cv2.imencode(".png", cv2.cvtColor(canvas, cv2.COLOR_RGB2BGR))
    assert whole, "a picture of bytes encodes"
    with storage.replacing(out) as draft:
        draft.write_bytes(data.tobytes())


def write_geojson(out: Path, scores: Scores) -> None:
    """One detection a tile with its score as a QuPath measurement and its colour."""
    across, down = scores.footprint
    colours = scores.colours()
    features = []
    for (x, y), value, colour in zip(scores.coords.tolist(), scores.values.tolist(), colours.tolist(), strict=True):
        ring = [[x, y], [x + across, y], [x + across, y + down], [x, y + down], [x, y]]
        features.append(
            {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": [ring]},
                "properties": {"objectType": "detection", "color": colour, "measurements": {scores.name: value}},
            }
        )
    document = {"type": "FeatureCollection", "features": features}
    storage.write_text(out, json.dumps(document, separators=(",", ":")) + "\n")


def write_ome_tiff(out: Path, size: tuple[int, int], mpp: float, scores: Scores, coarse: int | None = None) -> None:
    """The colours alone as a tiled pyramid, one pixel for `coarse` level-0 pixels of a slide of `size` (width, height).

    Its resolution stands in the file, so a viewer lays it over the slide at the right place. coarse: at most 16, less
    for a small slide, so that there is a pyramid at all.
    """
    import cv2
    import tifffile

    coarse = coarse or min(max(max(size) // 2048, 1), 16)
    shape = (-(-size[1] // coarse), -(-size[0] // coarse))
    share, covered = _planes(scores, shape, (coarse, coarse))
    picture = np.where(covered[..., None], scores.palette()[np.rint(share * 255).astype(int)], 255).astype(np.uint8)
    levels = [picture]
    while max(levels[-1].shape[:2]) > 512:
        height, width = levels[-1].shape[:2]
        levels.append(np.asarray(cv2.resize(levels[-1], (width // 2, height // 2), interpolation=cv2.INTER_AREA)))
    metadata = {"axes": "YXS", "PhysicalSizeX": mpp * coarse, "PhysicalSizeY": mpp * coarse, "Name": scores.name}
    metadata |= {
        "UUID": "urn:uuid:00000000-0000-0000-0000-000000000000"
    }  # tifffile would draw one: other bytes each time
    options: dict[str, Any] = {"tile": (256, 256), "compression": "zlib", "photometric": "rgb", "software": False}
    with storage.replacing(out) as draft, tifffile.TiffWriter(draft, ome=True) as writer:
        for i, level in enumerate(levels):
            per_cm = 1e4 / (mpp * coarse * 2**i)  # for viewers that read no OME-XML
            place: dict[str, Any] = {"resolution": (per_cm, per_cm), "resolutionunit": "CENTIMETER"}
            place |= {"subfiletype": 1, "metadata": None} if i else {"subifds": len(levels) - 1, "metadata": metadata}
            writer.write(level, **place, **options)


def _planes(
    scores: Scores, shape: tuple[int, int], scale: tuple[float, float]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Mean share (h, w) of the tiles over each coarse pixel, and where there is any."""
    total, count = np.zeros(shape), np.zeros(shape)
    for (x, y), share in zip(scores.coords.tolist(), scores.shares().tolist(), strict=True):
        left, right = round(x / scale[0]), round((x + scores.footprint[0]) / scale[0])
        top, bottom = round(y / scale[1]), round((y + scores.footprint[1]) / scale[1])
        area = np.s_[max(top, 0) : max(bottom, top + 1), max(left, 0) : max(right, left + 1)]
        total[area] += share
        count[area] += 1
    return total / np.maximum(count, 1), count > 0


def _blended(
    picture: Pixels, share: NDArray[np.float64], covered: NDArray[np.bool_], scores: Scores, opacity: float
) -> Pixels:
    colours = scores.palette()[np.rint(share * 255).astype(int)]
    mixed = (1 - opacity) * picture + opacity * colours
    return np.where(covered[..., None], np.rint(mixed), picture).astype(np.uint8)


def _scale_bar(canvas: Pixels, top: int, mpp: float, size: float) -> None:
    import cv2

    room = min(canvas.shape[1] // 3, round(160 * size))
    fitting = [step for step in _STEPS if step / mpp <= room]
    length = fitting[-1] if fitting else _STEPS[0]
    left, y = round(12 * size), top + round(26 * size)
    cv2.rectangle(canvas, (left, y), (left + round(length / mpp), y + round(5 * size)), (0, 0, 0), -1)
    text = f"{length / 1000:g} mm" if length >= 1000 else f"{length} um"
    _write(canvas, text, left, y + round(24 * size), size)


def _legend(canvas: Pixels, top: int, scores: Scores, size: float) -> None:
    width, left = round(180 * size), canvas.shape[1] - round(200 * size)
    ramp = scores.palette()[np.linspace(0, 255, width).astype(int)]
    canvas[top + round(20 * size) : top + round(34 * size), left : left + width] = ramp
    low, high = scores.limits
    _write(canvas, scores.name.encode("ascii", "replace").decode(), left, top + round(14 * size), size)
    _write(canvas, f"{low:.3g}", left, top + round(50 * size), size)
    _write(canvas, f"{high:.3g}", left + width - round(45 * size), top + round(50 * size), size)


def _write(canvas: Pixels, text: str, x: int, y: int, size: float) -> None:
    import cv2

    font, thick = cv2.FONT_HERSHEY_SIMPLEX, max(1, round(size))
    cv2.putText(canvas, text, (x, y), font, 0.43 * size, (0, 0, 0), thick, cv2.LINE_AA)


_BLUE_TO_RED = [(33, 102, 172), (247, 247, 247), (178, 24, 43)]
_PALE_TO_DARK = [(255, 247, 188), (254, 153, 41), (140, 45, 4), (60, 10, 60)]
