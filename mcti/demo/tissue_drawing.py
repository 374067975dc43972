"""Elements of a painted slide: noise fields, fibres, nuclei, glands, stain, and artefacts of real slides.

Planes are (edge, edge) uint8 (optical density in 1/100) or bool. All random numbers come from the generator argument.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[Any]

# Optical density of the two dyes in R, G, B. Haematoxylin: Ruifrok and Johnston, Anal Quant Cytol Histol 23:291-299,
# 2001, table 1. Their eosin gives magenta at this strength; this one gives the salmon pink of typical scanners.
_HAEMATOXYLIN = (0.650, 0.704, 0.286)
_EOSIN = (0.175, 0.870, 0.460)
_DENSITY = 0.024  # optical density (base e) of one grey level of a plane
_PENS = ((30, 120, 60), (30, 30, 40), (40, 60, 150))  # green, black, blue ink, RGB


def noise_field(rng: np.random.Generator, cells: int, edge: int, *, share: float, minus: Plane | None = None) -> Plane:
    """Smooth islands on `share` of the plane, about `cells` of them along an edge, (edge, edge) bool.

    minus   (64, 64), subtracted from the noise: high where islands are unwanted
    """
    import cv2

    rough = cv2.resize(rng.normal(0.0, 40.0, (cells, cells)), (64, 64), interpolation=cv2.INTER_CUBIC)
    if minus is not None:
        rough = rough - minus
    level = np.quantile(rough, 1.0 - share) if share > 0 else rough.max() + 1.0
    fine = cv2.resize(rough.astype(np.float32), (edge, edge), interpolation=cv2.INTER_CUBIC)
    return np.asarray(fine > level)


def fibres(rng: np.random.Generator, edge: int) -> Plane:
    """Wavy bundles, (edge, edge) uint8 around 128."""
    import cv2

    half = edge // 2
    noise = np.frombuffer(rng.bytes(half * half), np.uint8).reshape(half, half)
    streaks = cv2.blur(noise, (61, 3))
    # Blurring reduces the contrast of the noise: stretch it to the whole range.
    streaks = cv2.addWeighted(streaks, 5.0, streaks, 0.0, 128 - 5 * 127.5)
    bend = cv2.resize(rng.normal(0.0, 90.0, (2, 6, 6))[0], (half, half), interpolation=cv2.INTER_CUBIC)
    rows, columns = np.indices((half, half), np.float32)
    wavy = cv2.remap(streaks, columns, rows + bend.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(cv2.resize(wavy, (edge, edge), interpolation=cv2.INTER_LINEAR))


def jittered_grid(rng: np.random.Generator, spacing: float, allowed: Plane) -> NDArray[np.int64]:
    """Points (n, 2) as x, y in the mask `allowed`: a hexagonal grid with random shifts."""
    edge = allowed.shape[0]
    y, x = np.mgrid[0 : edge : spacing * 0.87, 0:edge:spacing]
    x = x + spacing / 2 * (np.arange(len(x)) % 2)[:, None]
    points = np.stack([x.ravel(), y.ravel()], axis=1) + rng.uniform(-0.28, 0.28, (x.size, 2)) * spacing
    points = np.clip(points, 0, edge - 1).astype(np.int64)
    return np.asarray(points[allowed[points[:, 1], points[:, 0]]])


class CellPainter:
    """Draws cells on the two planes of a picture."""

    def __init__(self, rng: np.random.Generator, haematoxylin: Plane, eosin: Plane) -> None:
        self._rng, self._haematoxylin, self._eosin = rng, haematoxylin, eosin

    def scatter(
        self, points: NDArray[np.int64], radius: float, variation: float, roundness: float, density: int
    ) -> None:
        """Draw a nucleus at each point: mean `radius` in px, relative spread, short over long axis, optical density."""
        stamps = [self._nucleus(radius, variation, roundness, density) for _ in range(48)]
        for (x, y), index in zip(points, self._rng.integers(0, len(stamps), len(points)), strict=True):
            self._stamp(int(x), int(y), stamps[index])

    def gland(self, x: int, y: int, radius: float, occupied: Plane) -> None:
        """Draw a tubule: lumen, cytoplasm, one ring of nuclei; mark its area in `occupied`.

        x, y, radius  centre and radius in pixels;  occupied  boolean, the shape of the drawing
        """
        import cv2

        rng = self._rng
        axes = rng.uniform(22, 52, 2)
        turn = float(rng.uniform(0, 180))
        whole = tuple(int(a + 3.4 * radius) for a in axes)
        clear = tuple(int(a) for a in axes)
        for plane, size, value in ((occupied, whole, 255), (self._haematoxylin, whole, 18), (self._eosin, whole, 46)):
            cv2.ellipse(plane, (x, y), size, turn, 0, 360, value, -1, cv2.LINE_AA)
        for plane in (self._haematoxylin, self._eosin):
            cv2.ellipse(plane, (x, y), clear, turn, 0, 360, 2, -1, cv2.LINE_AA)
        self.scatter(self._ring(x, y, axes + 1.9 * radius, turn, radius), radius, 0.12, 0.72, 66)

    def _ring(self, x: int, y: int, axes: NDArray[np.float64], turn: float, radius: float) -> NDArray[np.int64]:
        count = int(np.pi * axes.sum() / (2.3 * radius))
        angle = np.linspace(0, 2 * np.pi, count, endpoint=False) + self._rng.normal(0, 0.05, count)
        across, along = axes[0] * np.cos(angle), axes[1] * np.sin(angle)
        c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
        return np.stack([x + c * across - s * along, y + s * across + c * along], axis=1).astype(np.int64)

    def _nucleus(self, radius: float, variation: float, roundness: float, density: int) -> Plane:
        """One nucleus with rim, chromatin and soft edge, small uint8 plane."""
        import cv2

        rng = self._rng
        long = radius * float(np.clip(rng.normal(1.0, variation), 0.5, 1.8))
        short = long * float(np.clip(rng.normal(roundness, 0.1), 0.2, 1.0))
        long = long * (roundness**-0.5)  # thin nuclei are longer, so that their area is the same
        half = int(long) + 3
        stamp = np.zeros((2 * half + 1, 2 * half + 1), np.uint8)
        turn = float(rng.uniform(0, 180))
        axes = (max(int(long), 1), max(int(short), 1))
        cv2.ellipse(stamp, (half, half), axes, turn, 0, 360, int(density * 1.12), -1, cv2.LINE_AA)
        inner = (max(axes[0] - 2, 1), max(axes[1] - 2, 1))
        cv2.ellipse(stamp, (half, half), inner, turn, 0, 360, int(density * 0.8), -1, cv2.LINE_AA)
        grain = cv2.blur(np.frombuffer(rng.bytes(stamp.size), np.uint8).reshape(stamp.shape), (3, 3))
        return np.asarray(
            cv2.blur(cv2.multiply(stamp, cv2.addWeighted(grain, 0.9, grain, 0, 15), scale=1 / 128), (2, 2))
        )

    def _stamp(self, x: int, y: int, stamp: Plane) -> None:
        half, edge = stamp.shape[0] // 2, self._haematoxylin.shape[0]
        if half <= x < edge - half and half <= y < edge - half:
            area = self._haematoxylin[y - half : y + half + 1, x - half : x + half + 1]
            np.maximum(area, stamp, out=area)


def stain(haematoxylin: Plane, eosin: Plane, rng: np.random.Generator) -> Plane:
    """RGB (edge, edge, 3) of the two planes by Beer-Lambert, with a random stain strength for each slide."""
    import cv2

    strength = rng.normal(1.0, 0.08, 2)
    glass = (243, 241, 245)
    steps = np.arange(256)
    channels = []
    for channel in range(3):
        by_h = 255 * np.exp(-_DENSITY * strength[0] * _HAEMATOXYLIN[channel] * steps)
        by_e = glass[channel] * np.exp(-_DENSITY * strength[1] * _EOSIN[channel] * 0.45 * steps)
        tables = [np.rint(table).astype(np.uint8) for table in (by_h, by_e)]
        channels.append(cv2.multiply(cv2.LUT(haematoxylin, tables[0]), cv2.LUT(eosin, tables[1]), scale=1 / 255))
    return np.asarray(cv2.merge(channels))


def draw_fold(rng: np.random.Generator, haematoxylin: Plane, eosin: Plane) -> None:
    """Folded tissue along a band: the density of both dyes is doubled."""
    import cv2

    band = np.zeros_like(eosin)
    cv2.polylines(band, [_curve(rng, eosin.shape[0])], False, 1, int(rng.integers(24, 60)), cv2.LINE_8)
    for plane in (haematoxylin, eosin):
        cv2.add(plane, plane, dst=plane, mask=band)


def blur_region(rng: np.random.Generator, picture: Plane) -> None:
    """One square region out of focus."""
    import cv2

    size = int(rng.integers(400, 700))
    x, y = rng.integers(0, picture.shape[0] - size, 2)
    area = picture[y : y + size, x : x + size]
    area[:] = cv2.GaussianBlur(area, (0, 0), 6)


def draw_pen(rng: np.random.Generator, picture: Plane) -> None:
    """A stroke of a felt pen on the glass."""
    import cv2

    colour = _PENS[int(rng.integers(len(_PENS)))]
    ink = np.zeros(picture.shape[:2], np.uint8)
    cv2.polylines(ink, [_curve(rng, picture.shape[0])], False, 1, int(rng.integers(50, 110)), cv2.LINE_8)
    cv2.addWeighted(picture, 0.12, np.full_like(picture, colour), 0.88, 0, dst=(inked := np.empty_like(picture)))
    cv2.copyTo(inked, ink, picture)


def _curve(rng: np.random.Generator, edge: int) -> Plane:
    """A wavy line across the picture, (n, 1, 2) int32."""
    along = np.linspace(-50, edge + 50, 40)
    across = rng.uniform(0.15, 0.85) * edge + rng.uniform(40, 160) * np.sin(along / rng.uniform(150, 500))
    line = np.stack([along, across + rng.uniform(-0.3, 0.3) * (along - edge / 2)], axis=1)
    return (line if rng.random() < 0.5 else line[:, ::-1]).astype(np.int32)[:, None]
