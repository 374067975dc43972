"""Draws scores of tiles over their slide: a PNG, GeoJSON for QuPath, and a pyramidal OME-TIFF for any viewer.

A score can be a risk part, attention, or evidence for a subtype. With `centre` (used for risk parts) the colour scale
is blue, white, red around it; without, it runs from pale to dark.
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
from mcti.slides.feature_sets.checks import tile_step
from mcti.slides.portable import PATCH, PortableFeatures
from mcti.slides.probe import SlideInfo
from mcti.slides.tissue import Overview
from mcti.storage import Location

_FOOTER_PX = 64  # height of the strip below the picture, with scale bar and legend
_SCALE_BARS_UM = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)  # possible lengths of the scale bar


@dataclass(frozen=True)
class Scores:
    """Scores (N,) of tiles with corners coords (N, 2) in level-0 px.

    footprint   level-0 px of a tile across and down
    centre      middle of a diverging colour scale; None: sequential scale
    Raises DataError when shapes do not match or a score is not finite.
    """

    name: str
    coords: NDArray[np.int64]
    values: NDArray[np.float64]
    footprint: tuple[int, int]
    centre: float | None = None

    def __post_init__(self) -> None:
        if self.coords.shape != (len(self.values), 2) or not len(self.values):
            raise DataError(
                f"{len(self.values)} scores for coords of shape {self.coords.shape}",
                self.name,
                "give one score per tile",
            )
        if not np.isfinite(self.values).all():
            raise DataError("scores that are not finite", self.name, "remove those tiles")

    @property
    def limits(self) -> tuple[float, float]:
        """Lower and upper end of the colour scale, in the unit of the score: percentiles 1 and 99 of the values (N,).

        With a centre, the limits are symmetric around it.
        """
        low, high = (float(v) for v in np.percentile(self.values, [1, 99]))
        if self.centre is not None:
            reach = max(abs(low - self.centre), abs(high - self.centre))
            low, high = self.centre - reach, self.centre + reach
        return (low, high) if high > low else (low - 0.5, high + 0.5)

    def shares(self) -> NDArray[np.float64]:
        """Position (N,) of each value between the limits, 0 to 1."""
        low, high = self.limits
        return np.clip((self.values - low) / (high - low), 0.0, 1.0)

    def palette(self) -> Pixels:
        """Colours (256, 3) from the lower to the upper limit: diverging around a centre, else from pale to dark.

        Both scales are readable with colour blindness: their ends differ in lightness, or in blue and red.
        """
        ends = _PALE_TO_DARK if self.centre is None else _BLUE_TO_RED
        positions, steps = np.linspace(0, 1, len(ends)), np.linspace(0, 1, 256)
        return np.stack([np.interp(steps, positions, [end[i] for end in ends]) for i in range(3)], 1).astype(np.uint8)

    def colours(self) -> Pixels:
        """The colour of each tile, RGB (N, 3)."""
        return np.asarray(self.palette()[np.rint(self.shares() * 255).astype(int)], np.uint8)


def read_scores(
    location: Location, slide: PortableFeatures, column: str = "score", centre: float | None = None
) -> Scores:
    """Scores of a slide's tiles from a CSV with x, y (level-0 px, as in the features' coords) and `column`.

    Raises DataError when the features are an embedding of the whole slide or have no coordinates, a column is missing
    or not numeric, a number is not finite, a tile has two scores, or the slide has no tile at a position.
    """
    import pandas as pd

    if slide.coords is None:
        embedding = "one embedding of the whole slide" if slide.level != PATCH else "features without coordinates"
        hint = "a heatmap needs features of tiles with coordinates"
        raise DataError(f"{embedding}: there is no heatmap", slide.slide_id, hint)
    with storage.local_copy(location) as path, storage.translating_os_errors(path):
        try:
            table = pd.read_csv(path)
        except (ValueError, pd.errors.ParserError) as error:  # also: UnicodeDecodeError, EmptyDataError
            raise DataError(
                f"not a CSV table ({error})", str(location), "write the columns x, y and the score"
            ) from error
    for name in ("x", "y", column):
        if name not in table.columns or not pd.api.types.is_numeric_dtype(table[name]):
            what = f"column {name!r} is missing or not numeric"
            raise DataError(what, str(location), "write the columns x, y and the score")
    numbers = table[["x", "y", column]].to_numpy("float64")
    tiles = set(map(tuple, slide.coords.tolist()))
    rows = [None if not np.isfinite(row).all() else (int(row[0]), int(row[1])) for row in numbers]
    if not rows:
        raise DataError("the table has no rows", str(location), "write one row per tile")
    for i, corner in enumerate(rows):
        if corner is None:
            raise DataError("a number that is not finite", f"{location}, row {i + 2}", "remove that row")
        if corner not in tiles or corner != (numbers[i, 0], numbers[i, 1]):
            where = f"{location}, row {i + 2}"
            raise DataError("the slide has no tile at x, y", where, "use x and y of coords in the slide's feature file")
    if len(set(rows)) < len(rows):
        raise DataError("a tile has two scores", str(location), "keep one row per tile")
    return Scores(column, numbers[:, :2].astype(np.int64), numbers[:, 2], footprint(slide), centre)


def footprint(slide: PortableFeatures) -> tuple[int, int]:
    """Level-0 px of a tile across and down.

    Raises DataError when the features do not state the tile size.
    """
    side = slide.grid.get("patch_size_level0")
    if not side:
        step = None if slide.coords is None else tile_step(slide.coords)
        distance = "" if step is None else f"; neighbouring tiles are {step:g} px apart"
        hint = f"import the features with --patch-size-level0, the edge of a tile in level-0 pixels{distance}"
        raise DataError("the features do not state the tile size", slide.slide_id, hint)
    mpp = [float(slide.attributes.get(name, float("nan"))) for name in ("mpp_x", "mpp_y")]
    square = not np.isfinite(mpp).all() or mpp[0] == mpp[1]
    return int(side), int(side) if square else round(int(side) * mpp[0] / mpp[1])


def check_same_slide(slide: PortableFeatures, info: SlideInfo, where: Location) -> None:
    """Refuse features that state another slide size.

    Raises DataError.
    """
    size = tuple(int(slide.grid.get(name, 0)) for name in ("level0_width", "level0_height"))
    if all(size) and size != (info.width, info.height):
        what = f"features of a slide of {size[0]}x{size[1]} px, this one has {info.width}x{info.height}"
        raise DataError(what, str(where), "use the feature file of this slide")


def write_png(out: Path, view: Overview, mpp: float, scores: Scores, opacity: float = 0.55) -> None:
    """Write the overview with the scores on top, a scale bar and a legend. `mpp`: µm/px of level 0."""
    import cv2

    picture = _blended(view.picture, *_planes(scores, view.picture.shape[:2], view.scale), scores, opacity)
    size = max(1.0, picture.shape[1] / 900)  # scale of bar and text: readable when the picture fits a screen
    canvas = np.full((picture.shape[0] + round(_FOOTER_PX * size), max(picture.shape[1], 420), 3), 255, np.uint8)
    canvas[: picture.shape[0], : picture.shape[1]] = picture
    _scale_bar(canvas, picture.shape[0], mpp * view.scale[0], size)
    _legend(canvas, picture.shape[0], scores, size)
    encoded, data = cv2.imencode(".png", cv2.cvtColor(canvas, cv2.COLOR_RGB2BGR))
    assert encoded, "an array of bytes can be encoded"
    with storage.replacing(out) as draft:
        draft.write_bytes(data.tobytes())


def write_geojson(out: Path, scores: Scores) -> None:
    """Write one QuPath detection per tile, with its score as a measurement and its colour."""
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
    """Write the colours without the slide as a tiled pyramid; a viewer aligns it with the slide by its resolution.

    size    width and height of the slide in level-0 px
    coarse  level-0 px per pixel; None: at most 16, less for a small slide so that there are several levels
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
    metadata |= {"UUID": "urn:uuid:00000000-0000-0000-0000-000000000000"}  # tifffile would generate a random one
    options: dict[str, Any] = {"tile": (256, 256), "compression": "zlib", "photometric": "rgb", "software": False}
    with storage.replacing(out) as draft, tifffile.TiffWriter(draft, ome=True) as writer:
        for i, level in enumerate(levels):
            per_cm = 1e4 / (mpp * coarse * 2**i)  # for viewers that do not read OME-XML
            level_options: dict[str, Any] = {"resolution": (per_cm, per_cm), "resolutionunit": "CENTIMETER"}
            level_options |= (
                {"subfiletype": 1, "metadata": None} if i else {"subifds": len(levels) - 1, "metadata": metadata}
            )
            writer.write(level, **level_options, **options)


def _planes(
    scores: Scores, shape: tuple[int, int], scale: tuple[float, float]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Mean share (h, w) of the tiles that cover each coarse pixel, and the pixels that a tile covers (h, w)."""
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

    max_length = min(canvas.shape[1] // 3, round(160 * size))
    fitting = [step for step in _SCALE_BARS_UM if step / mpp <= max_length]
    length = fitting[-1] if fitting else _SCALE_BARS_UM[0]
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

    font, thickness = cv2.FONT_HERSHEY_SIMPLEX, max(1, round(size))
    cv2.putText(canvas, text, (x, y), font, 0.43 * size, (0, 0, 0), thickness, cv2.LINE_AA)


_BLUE_TO_RED = [(33, 102, 172), (247, 247, 247), (178, 24, 43)]
_PALE_TO_DARK = [(255, 247, 188), (254, 153, 41), (140, 45, 4), (60, 10, 60)]
