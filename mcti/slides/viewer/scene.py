"""The pixels of a slide as Deep Zoom tiles, and its layers as tiles of the same grid.

Deep Zoom: level `last` has the full size of the slide, each level before it half of the next, down to one pixel; tiles
of 256 px without overlap, smaller at the right and lower edge. Only levels of the slide are read: label and macro
photographs can show names and are never opened.
"""

import threading
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mcti.slides import tissue
from mcti.slides.decoding import Pixels
from mcti.slides.heatmap import Scores
from mcti.slides.probe import SlideInfo
from mcti.slides.reader import Reader
from mcti.slides.status import RegionError
from mcti.slides.tissue import Mask, Overview

TILE = 256
_OVERVIEW = 2048  # px of the longer edge of the overview, from which the coarse levels are drawn
_TISSUE, _GRID, _UNREADABLE = (0, 150, 60), (20, 60, 160), (150, 150, 150)


@dataclass(frozen=True)
class Box:
    """One Deep Zoom tile.

    left, top       its corner in level-0 px
    width, height   its size in its own px
    scale           level-0 px per own px
    """

    left: float
    top: float
    width: int
    height: int
    scale: float


class Scene:
    """A slide and its layers. It may be used from several threads at once."""

    def __init__(
        self,
        reader: Reader,
        info: SlideInfo,
        name: str,
        *,
        mask: tuple[Mask, Overview] | None = None,
        grid: tuple[NDArray[np.int64], tuple[int, int]] | None = None,
        scores: Scores | None = None,
    ) -> None:
        self.info, self.name, self.scores = info, name, scores
        self._reader, self._mask, self._grid = reader, mask, grid
        self._lock = threading.Lock()
        self.last = int(np.ceil(np.log2(max(info.width, info.height, 1))))

    @property
    def layers(self) -> list[str]:
        """The layers of this scene, the lowest first."""
        layers = {"tissue": self._mask, "tiles": self._grid, "scores": self.scores}
        return [name for name, value in layers.items() if value is not None]

    def box(self, level: int, column: int, row: int) -> Box | None:
        """The Deep Zoom tile of a level, column and row; None when there is none."""
        if not 0 <= level <= self.last:
            return None
        scale = 2.0 ** (self.last - level)
        left, top = column * TILE, row * TILE
        width = min(TILE, int(np.ceil(self.info.width / scale)) - left)
        height = min(TILE, int(np.ceil(self.info.height / scale)) - top)
        return (
            Box(left * scale, top * scale, width, height, scale)
            if min(width, height, column + 1, row + 1) > 0
            else None
        )

    def slide(self, box: Box) -> Pixels:
        """The slide in a box, RGB (height, width, 3); grey with a cross where it does not decode, never white."""
        import cv2

        level = tissue.best_level(self._reader, box.scale)
        down = self._reader.levels[level].downsample
        if box.scale > 4 * max(down):
            return self._from_overview(box)
        left, top = round(box.left / down[0]), round(box.top / down[1])
        width, height = (max(1, round(n * box.scale / d)) for n, d in zip((box.width, box.height), down, strict=True))
        try:
            picture = self._reader.read(level, left, top, width, height, keep=True)
        except RegionError:
            return _unreadable_tile(box)
        return np.asarray(cv2.resize(picture, (box.width, box.height), interpolation=cv2.INTER_AREA), np.uint8)

    def layer(self, name: str, box: Box) -> Pixels:
        """A layer in a box, RGBA (height, width, 4)."""
        return {"tissue": self._tissue, "tiles": self._tiles, "scores": self._scores}[name](box)

    def tile_at(self, x: float, y: float) -> dict[str, Any] | None:
        """The tile that covers the point x, y (level-0 px), and its score; None when there is none."""
        coords, footprint = self._tile_corners
        inside = np.flatnonzero(((coords <= (x, y)) & (coords + footprint > (x, y))).all(axis=1))
        if not len(inside):
            return None
        first = int(inside[0])
        tile = {"x": int(coords[first, 0]), "y": int(coords[first, 1])}
        return tile if self.scores is None else {**tile, "score": float(self.scores.values[first])}

    @property
    def _tile_corners(self) -> tuple[NDArray[np.int64], tuple[int, int]]:
        if self.scores is not None:
            return self.scores.coords, self.scores.footprint
        return (np.zeros((0, 2), np.int64), (1, 1)) if self._grid is None else self._grid

    @cached_property
    def _view(self) -> Overview:
        extent = max(self.info.width * self.info.mpp[0], self.info.height * self.info.mpp[1])  # µm
        return tissue.overview(self._reader, self.info.mpp, extent / _OVERVIEW)

    def _from_overview(self, box: Box) -> Pixels:
        """For slides without coarse levels: no request may decode the whole slide."""
        with self._lock:  # computed once, by the first request
            view = self._view
        picture = np.where(view.unreadable[..., None], np.uint8(_UNREADABLE[0]), view.picture)
        return _sampled(picture, view.scale, box)

    def _tissue(self, box: Box) -> Pixels:
        import cv2

        assert self._mask is not None, "only existing layers are requested"
        mask, view = self._mask
        inside = _sampled(mask.astype(np.uint8) * 255, view.scale, box) > 127
        edge = inside & (cv2.erode(inside.astype(np.uint8), np.ones((5, 5), np.uint8), borderValue=1) == 0)
        return _painted(inside, _TISSUE, np.where(edge, 255, 40).astype(np.uint8))

    def _tiles(self, box: Box) -> Pixels:
        assert self._grid is not None, "only existing layers are requested"
        coords, footprint = self._grid
        opacity = np.zeros((box.height, box.width), np.uint8)
        outlined = min(footprint) / box.scale >= 8
        for _, area in _areas(coords, footprint, box):
            if not outlined:  # outlines would merge
                opacity[area] = 90
            else:
                part = opacity[area]
                part[:2] = part[-1:] = 200
                part[:, :2] = part[:, -1:] = 200
        return _painted(opacity > 0, _GRID, opacity)

    def _scores(self, box: Box) -> Pixels:
        assert self.scores is not None, "only existing layers are requested"
        picture = np.zeros((box.height, box.width, 4), np.uint8)
        colours = self.scores.colours()
        for i, area in _areas(self.scores.coords, self.scores.footprint, box):
            picture[area] = (*colours[i], 255)
        return picture


def _areas(coords: NDArray[np.int64], footprint: tuple[int, int], box: Box) -> list[tuple[int, tuple[slice, slice]]]:
    """The tiles that touch a box: index and area in it, at least one pixel."""
    corner, size = np.array([box.left, box.top]), np.array([box.width, box.height])
    first = np.rint((coords - corner) / box.scale).astype(int)
    end = np.maximum(np.rint((coords + footprint - corner) / box.scale).astype(int), first + 1)
    touching = np.flatnonzero(((first < size) & (end > 0)).all(axis=1))
    first, end = np.maximum(first, 0), np.minimum(end, size)
    return [(int(i), np.s_[first[i, 1] : end[i, 1], first[i, 0] : end[i, 0]]) for i in touching]


def _sampled(picture: Pixels, scale: tuple[float, float], box: Box) -> Pixels:
    """A coarse picture of `scale` level-0 px per pixel, resampled to a box."""
    import cv2

    interpolation = cv2.INTER_AREA if box.scale >= max(scale) else cv2.INTER_LINEAR
    if interpolation == cv2.INTER_AREA:
        x0, y0 = round(box.left / scale[0]), round(box.top / scale[1])
        x1 = max(x0 + 1, round((box.left + box.width * box.scale) / scale[0]))
        y1 = max(y0 + 1, round((box.top + box.height * box.scale) / scale[1]))
        part = picture[min(y0, picture.shape[0] - 1) : y1, min(x0, picture.shape[1] - 1) : x1]
        return np.asarray(cv2.resize(part, (box.width, box.height), interpolation=interpolation), np.uint8)
    # Position of each pixel's centre in the coarse picture.
    step = [box.scale / s for s in scale]
    matrix = np.array(
        [
            [step[0], 0.0, (box.left + 0.5 * box.scale) / scale[0] - 0.5],
            [0.0, step[1], (box.top + 0.5 * box.scale) / scale[1] - 0.5],
        ]
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(picture, matrix, (box.width, box.height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(warped, np.uint8)


def _painted(area: Mask, colour: tuple[int, int, int], opacity: Pixels) -> Pixels:
    return np.dstack([np.full((*area.shape, 3), colour, np.uint8), np.where(area, opacity, 0).astype(np.uint8)])


def _unreadable_tile(box: Box) -> Pixels:
    import cv2

    picture = np.full((box.height, box.width, 3), _UNREADABLE, np.uint8)
    cv2.line(picture, (0, 0), (box.width, box.height), (110, 110, 110), 2)
    cv2.line(picture, (box.width, 0), (0, box.height), (110, 110, 110), 2)
    return picture
