"""Detects tissue in an overview picture of the slide and separates it from glass, padding, pen and ink.

Otsu's threshold alone splits a blank slide into "tissue" and glass, and takes pen marks for tissue. Therefore the
threshold is limited to values measured on stained tissue, a picture without two separable classes has no tissue, and
ink is excluded first by its colour. Pictures: RGB uint8 (h, w, 3) at about 8 µm/px; masks: bool (h, w).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mcti.params import TissueParams
from mcti.slides.decoding import Pixels
from mcti.slides.reader import Reader
from mcti.slides.status import RegionError, SlideError, Status

Mask = NDArray[np.bool_]

METHOD = "otsu-chroma-1"
"""Name of the method in the feature files; the number rises when its results change."""

# Chroma (largest minus smallest channel, grey levels). Glass, shadow and dust are below 10; eosin starts near 25.
_CHROMA_LIMITS = (10.0, 24.0)
_MIN_CONTRAST = 14.0  # between the means of the two classes; a blank slide has 2 to 5
_MIN_SEPARABILITY = 0.35  # share of the variance between the classes; a single mode has less
_DARK = 45  # maximum channel; a picture with a darker median is no brightfield picture
_MAX_PICTURE = 120_000_000
_BAND = 512  # rows per step


@dataclass(frozen=True)
class Overview:
    """The slide at a coarse resolution.

    picture     RGB uint8 (h, w, 3);  unreadable  bool (h, w), pixels that did not decode
    scale       level-0 pixels per pixel, across and down
    """

    picture: Pixels
    unreadable: Mask
    scale: tuple[float, float]


def overview(reader: Reader, mpp: tuple[float, float], resolution: float) -> Overview:
    """The whole slide at `resolution` µm/px or slightly finer; areas that do not decode are marked.

    The memory is that of the overview and one block of the level, independent of the slide size.
    Raises SlideError when the overview would be larger than that of any real slide.
    """
    first = reader.levels[0]
    target = [max(resolution / m, 1.0) for m in mpp]  # downsample across and down
    if first.width / target[0] * first.height / target[1] > _MAX_PICTURE:
        what = f"{first.width}x{first.height} px are more than a slide can have"
        raise SlideError(Status.READ_ERROR, what, "check mpp")
    level = best_level(reader, min(target))
    downsample = reader.levels[level].downsample
    # A whole number of level pixels per overview pixel: no second resampling, no distortion at the edges.
    shrink = max(int(min(t / d for t, d in zip(target, downsample, strict=True)) + 0.01), 1)
    picture, unreadable = _read_level(reader, level, shrink)
    return Overview(picture, unreadable, (shrink * downsample[0], shrink * downsample[1]))


def best_level(reader: Reader, downsample: float, *, exact: bool = False) -> int:
    """Index of the coarsest level that is no coarser than `downsample` (1 % tolerance for levels of odd sizes).

    exact: only levels whose stored pixels every reader returns at every position (Level.exact), as tiles need them.
    """
    levels = reader.levels
    usable = [(i, level) for i, level in enumerate(levels) if level.exact or not exact]
    fitting = [i for i, level in usable if max(level.downsample) <= downsample * 1.01]
    return max(fitting, key=lambda i: levels[i].downsample[0], default=0)


def _read_level(reader: Reader, level: int, shrink: int) -> tuple[Pixels, Mask]:
    """A level, `shrink` times smaller, read block by block, and its pixels that did not decode."""
    import cv2

    size = reader.levels[level]
    width, height = -(-size.width // shrink), -(-size.height // shrink)
    picture, unreadable = np.full((height, width, 3), 255, np.uint8), np.zeros((height, width), bool)
    across, down = (np.lcm(tile, shrink) if np.lcm(tile, shrink) <= 2048 else shrink for tile in size.tile)
    across, down = across * max(1, 2048 // across), down * max(1, 512 // down)
    for y in range(0, size.height, down):
        for x in range(0, size.width, across):
            block, failed = _block(reader, level, x, y, across, down)
            area = np.s_[y // shrink : (y + down) // shrink, x // shrink : (x + across) // shrink]
            fine = cv2.resize(block, (across // shrink, down // shrink), interpolation=cv2.INTER_AREA)
            target = picture[area]
            target[:] = fine[: target.shape[0], : target.shape[1]]
            if failed is not None:
                holes = cv2.resize(failed, (across // shrink, down // shrink), interpolation=cv2.INTER_AREA) > 0
                unreadable[area] = holes[: target.shape[0], : target.shape[1]]
    return picture, unreadable


def _block(reader: Reader, level: int, x: int, y: int, width: int, height: int) -> tuple[Pixels, Pixels | None]:
    """One block; if it does not decode, its stored tiles one by one, and a mask of those that do not decode."""
    try:
        return reader.read(level, x, y, width, height), None
    except RegionError:
        across, down = reader.levels[level].tile
        block, unreadable = np.full((height, width, 3), 255, np.uint8), np.zeros((height, width), np.uint8)
    for top in range(y // down * down, y + height, down):
        for left in range(x // across * across, x + width, across):
            x0, y0, x1, y1 = max(left, x), max(top, y), min(left + across, x + width), min(top + down, y + height)
            area = np.s_[y0 - y : y1 - y, x0 - x : x1 - x]
            try:
                block[area] = reader.read(level, x0, y0, x1 - x0, y1 - y0)
            except RegionError:
                unreadable[area] = 255
    return block, unreadable


def detect(picture: Pixels, resolution: float, params: TissueParams, unreadable: Mask | None = None) -> Mask:
    """The tissue mask (h, w) of an overview picture (h, w, 3) at `resolution` µm/px.

    Raises SlideError: NOT_HE for a dark background, NO_TISSUE when there is only glass, ink and dust.
    """
    import cv2

    smooth = cv2.medianBlur(picture, 5 if min(picture.shape[:2]) >= 5 else 1)
    scanned = ~padding(picture) if unreadable is None else ~(padding(picture) | unreadable)
    if not scanned.any():
        raise SlideError(Status.NO_TISSUE, "the picture is only padding")
    if np.median(smooth[scanned].max(axis=1)) < _DARK:
        raise SlideError(Status.NOT_HE, "the background is dark: not a brightfield picture")
    chroma = smooth.max(axis=2) - smooth.min(axis=2)
    marks = ink(smooth)
    usable = scanned & ~marks
    mask = _cleaned(usable & (chroma > _threshold(chroma[usable])), resolution, params) & usable
    mask = _without_halo(mask, marks)
    if not mask.any():
        raise SlideError(Status.NO_TISSUE, f"no tissue area of at least {params.min_area_mm2:g} mm²")
    return mask


def _threshold(chroma: NDArray[np.uint8]) -> float:
    """Otsu's threshold within limits; infinity for a pale picture without two classes.

    Otsu, IEEE Trans Syst Man Cybern 9:62-66, 1979; the separability is eta of that paper.
    """
    low, high = _CHROMA_LIMITS
    counts = np.bincount(chroma, minlength=256).astype(np.float64)
    total = counts.sum()
    if not total:
        return np.inf
    levels = np.arange(256)
    mean, below = (counts * levels).sum() / total, np.cumsum(counts) / total
    under = np.cumsum(counts * levels) / total
    with np.errstate(divide="ignore", invalid="ignore"):
        between = np.nan_to_num((mean * below - under) ** 2 / (below * (1 - below)))
    best = int(between.argmax())
    spread = (counts * (levels - mean) ** 2).sum() / total
    threshold = float(np.clip(best, low, high))
    above = counts[int(threshold) + 1 :]
    if not above.sum():
        return np.inf
    foreground = (above * levels[int(threshold) + 1 :]).sum() / above.sum()
    rest = counts[: int(threshold) + 1]
    background = (rest * levels[: len(rest)]).sum() / rest.sum() if rest.sum() else 0.0
    two_classes = spread > 0 and between[best] / spread >= _MIN_SEPARABILITY
    # A section that fills the picture is also a single class, but a coloured one.
    return threshold if foreground - background >= _MIN_CONTRAST and (two_classes or mean > high) else np.inf


def padding(picture: Pixels) -> Mask:
    """Pixels (h, w) that are pure white or pure black: padding of the stitching, never glass."""
    return np.asarray((picture.min(axis=2) == 255) | (picture.max(axis=2) == 0))


def ink(picture: Pixels) -> Mask:
    """Pixels (h, w) of pen and tissue ink: green, blue, red, black and brown marks with their soft edges."""
    import cv2

    # Band by band: the sums need 16 bits, and the overview of a large slide has ten million pixels.
    inked = np.concatenate([_ink_colours(picture[y : y + _BAND]) for y in range(0, len(picture), _BAND)])
    # Single pixels are noise or pigment; a mark is larger. Its edge fades over a few pixels.
    body = cv2.morphologyEx(inked, cv2.MORPH_OPEN, _disc(3))
    return np.asarray(cv2.dilate(body, _disc(7)) > 0)


def _ink_colours(picture: Pixels) -> Pixels:
    """1 where a pixel has the colour of a mark."""
    red, green, blue = (picture[:, :, i].astype(np.int16) for i in range(3))
    bright, dark = picture.max(axis=2).astype(np.int16), picture.min(axis=2).astype(np.int16)
    marks = {
        "green": (green > red + 12) & (green > blue - 14),
        "blue": (blue > red + 70) & (blue > green + 40) & (red < 110),
        "red": (red > 150) & (green < 85) & (blue < green + 25) & (red > green + 90),
        "black": (bright < 95) & (bright - dark < 34),
        "brown": (red > blue + 34) & (green > blue + 12) & (bright < 190),
    }
    inked = np.zeros(picture.shape[:2], np.uint8)
    for mark in marks.values():
        inked |= mark.astype(np.uint8)
    return inked


def _without_halo(mask: Mask, marks: Mask) -> Mask:
    """The mask without islands that are mostly close to a mark: they are the soft edge of a stroke, not tissue."""
    import cv2

    close = cv2.dilate(marks.astype(np.uint8), _disc(21))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    along = np.bincount(labels[(close > 0) & mask], minlength=count)
    share = along / np.maximum(stats[:, cv2.CC_STAT_AREA], 1)
    share[0] = 1.0
    return np.asarray((share < 0.6)[labels])


def _cleaned(mask: Mask, resolution: float, params: TissueParams) -> Mask:
    """The mask with gaps of about 30 µm closed, without islands and holes below the limits."""
    import cv2

    reach = max(3, 2 * round(15.0 / resolution) + 1)
    work = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, _disc(reach))
    work = cv2.morphologyEx(work, cv2.MORPH_OPEN, _disc(3))
    pixel = (resolution / 1000.0) ** 2  # mm²
    work = 1 - _without_small(1 - work, params.max_hole_mm2 / pixel)
    return np.asarray(_without_small(work, params.min_area_mm2 / pixel) > 0)


def _without_small(mask: Pixels, min_pixels: float) -> Pixels:
    """The islands of at least `min_pixels` pixels."""
    import cv2

    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    keep = stats[:, cv2.CC_STAT_AREA] >= min_pixels
    keep[0] = False
    return np.asarray(keep[labels], np.uint8)


def _disc(size: int) -> Any:
    import cv2

    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
