"""The grid of tiles over a slide, the share of tissue in each, and their pixels at the target resolution.

All coordinates are level-0 pixels. A tile of T pixels at the target resolution r covers round(T r / mpp) level-0
pixels: exact within half a pixel, and equal for all tiles, so that the grid has no gaps and no overlap.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mcti.slides.decoding import Pixels
from mcti.slides.polygons import Coverage
from mcti.slides.reader import Reader
from mcti.slides.tissue import Mask, Overview, best_level

METHOD = "area-2"
"""Name of the resampling method, part of the key of features; the number rises when its results change."""


@dataclass(frozen=True)
class Grid:
    """Tiles of one slide. footprint, step: level-0 px across and down; tile: px at the target resolution."""

    width: int
    height: int
    tile: int
    footprint: tuple[int, int]
    step: tuple[int, int]

    @classmethod
    def for_slide(
        cls, width: int, height: int, mpp: tuple[float, float], resolution: float, tile: int, overlap: int = 0
    ) -> "Grid":
        """The grid of a slide with `mpp` µm/px: tiles of `tile` px at `resolution` µm/px, `overlap` px in common."""
        footprint = [max(round(tile * resolution / m), 1) for m in mpp]
        step = [max(round((tile - overlap) * resolution / m), 1) for m in mpp]
        return cls(width, height, tile, (footprint[0], footprint[1]), (step[0], step[1]))

    def corners(self) -> NDArray[np.int64]:
        """Top-left corners (N, 2) as x, y, sorted by y then x; together the tiles cover the slide."""
        columns, rows = (
            np.arange(max(1, -(-(size - self.footprint[i]) // self.step[i]) + 1)) * self.step[i]
            for i, size in enumerate((self.width, self.height))
        )
        y, x = np.meshgrid(rows, columns, indexing="ij")
        return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.int64)

    def tissue_fraction(self, corners: NDArray[np.int64], mask: Mask | Coverage, view: Overview) -> NDArray[np.float32]:
        """Share of tissue (N,) in each tile; parts beyond the edge of the slide count as no tissue.

        mask    tissue (h, w) of the overview `view`: bool, or the share of each pixel
        """
        import cv2

        if mask.dtype == bool:
            sums = cv2.integral(mask.astype(np.uint8), sdepth=cv2.CV_32S)  # half the memory of floats
        else:
            sums = cv2.integral(mask.astype(np.float32), sdepth=cv2.CV_64F)
        edges = [
            np.clip((corners[:, i] + shift * self.footprint[i]) / view.scale[i], 0, mask.shape[1 - i])
            for shift in (0, 1)
            for i in (0, 1)
        ]
        x0, y0, x1, y1 = edges

        def integral(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
            return _interpolate(sums, x, y)

        area = integral(x1, y1) - integral(x0, y1) - integral(x1, y0) + integral(x0, y0)
        whole = self.footprint[0] * self.footprint[1] / (view.scale[0] * view.scale[1])
        return np.clip(area / whole, 0.0, 1.0).astype(np.float32)


def _interpolate(sums: NDArray[Any], x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """The integral image between its grid points, bilinear, so that areas are exact for the pixel mask."""
    i, j = np.minimum(x.astype(int), sums.shape[1] - 2), np.minimum(y.astype(int), sums.shape[0] - 2)
    u, v = x - i, y - j
    top = sums[j, i] * (1 - u) + sums[j, i + 1] * u
    return np.asarray(top * (1 - v) + (sums[j + 1, i] * (1 - u) + sums[j + 1, i + 1] * u) * v)


class TileSource:
    """Pixels of tiles at the target resolution, from the coarsest level that is fine enough."""

    def __init__(self, reader: Reader, grid: Grid) -> None:
        self._reader, self._grid = reader, grid
        self._level = best_level(reader, min(f / grid.tile for f in grid.footprint), exact=True)
        self._down = reader.levels[self._level].downsample
        self._shrink = self._whole_factor()
        self._overlap = any(step < edge for step, edge in zip(grid.step, grid.footprint, strict=True))

    def _whole_factor(self) -> int:
        """How many times finer than the target the level is, if exactly 2, 4 or 8 for every tile; else 1.

        With 2, 4 or 8 the reader may decode a smaller picture; any other factor is resampled from full pixels.
        """
        grid = self._grid
        for shrink in (2, 4, 8):
            exact = grid.footprint == (shrink * grid.tile, shrink * grid.tile)
            if self._down == (1.0, 1.0) and exact and not any(step % shrink for step in grid.step):
                return shrink
        return 1

    def read(self, x: int, y: int, buffer: Pixels | None = None) -> Pixels:
        """The tile with corner x, y (level-0 px): RGB uint8 (tile, tile, 3), in the memory of `buffer` if possible.

        Raises RegionError when it does not decode.
        """
        import cv2

        grid = self._grid
        left, top = round(x / self._down[0]), round(y / self._down[1])
        right, bottom = round((x + grid.footprint[0]) / self._down[0]), round((y + grid.footprint[1]) / self._down[1])
        size = max(right - left, 1), max(bottom - top, 1)
        same = size == (grid.tile * self._shrink, grid.tile * self._shrink)
        picture = self._reader.read(
            self._level, left, top, *size, self._shrink, keep=self._overlap, buffer=buffer if same else None
        )
        if same:
            return picture
        height, width = picture.shape[:2]
        interpolation = cv2.INTER_AREA if width >= grid.tile and height >= grid.tile else cv2.INTER_CUBIC
        return np.asarray(cv2.resize(picture, (grid.tile, grid.tile), buffer, interpolation=interpolation), np.uint8)


def sharpness(picture: Pixels) -> float:
    """Variance of the Laplacian of the green channel of a tile (h, w, 3), in grey levels².

    A few when out of focus, hundreds when sharp.

    Pech-Pacheco et al., ICPR 2000, vol. 3, pp. 314-317.
    """
    import cv2

    laplacian = cv2.Laplacian(np.ascontiguousarray(picture[:, :, 1]), cv2.CV_16S)
    _, deviation = cv2.meanStdDev(laplacian)
    return float(deviation[0, 0] ** 2)
