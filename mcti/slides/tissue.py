"""Where the tissue is: a coarse picture of the slide, told from glass, padding, pen and ink.

Otsu's threshold alone splits a blank slide into "tissue" and glass and takes pen for tissue. Here the threshold is
held within limits learned from stained tissue, a picture without two separable classes has no tissue, and ink is found
by its colour first. Picture: RGB uint8 (h, w, 3) at about 8 µm/px; masks: bool (h, w).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mcti.params import TissueParams
from mcti.slides.decoding import Pixels
from mcti.slides.reader import Level, Reader
from mcti.slides.status import RegionError, SlideError, Status

Mask = NDArray[np.bool_]

METHOD = "otsu-chroma-1"
"""Name of the method in the feature files; the number rises with each change of what it finds."""

# Chroma (largest minus smallest channel, grey levels). Below 10 lie glass, shadow and dust; eosin starts near 25.
_CHROMA_LIMITS = (10.0, 24.0)
_MIN_CONTRAST = 14.0  # between the means of the two classes; a blank slide has 2 to 5
_MIN_SEPARABILITY = 0.35  # share of the variance that lies between the classes; a single hump has less
_DARK = 45  # a brightfield picture whose median is darker is none
_MAX_PICTURE = 120_000_000
_BAND = 512  # rows worked on at once


@dataclass(frozen=True)
class Overview:
    """The slide at a coarse resolution. `scale`: level-0 pixels in one of its pixels, across and down."""

    picture: Pixels
    unreadable: Mask
    scale: tuple[float, float]


def overview(reader: Reader, mpp: tuple[float, float], resolution: float) -> Overview:
    """The whole slide at `resolution` µm/px or a little finer; what cannot be decoded is marked, never painted.

    Memory holds one block of the level and the coarse picture, however large the slide is.

    Raises
        SlideError: the coarse picture would be larger than any slide's.
    """
    first = reader.levels[0]
    wanted = [max(resolution / m, 1.0) for m in mpp]
    if first.width / wanted[0] * first.height / wanted[1] > _MAX_PICTURE:
        raise SlideError(Status.READ_ERROR, f"{first.width}x{first.height} px are more than a slide holds", "check mpp")
    level = best_level(reader, min(wanted))
    here = reader.levels[level]
    # A whole number of the level's pixels in each of ours: no second resampling, no stretch at the rim.
    shrink = max(int(min(w / d for w, d in zip(wanted, here.downsample, strict=True)) + 0.01), 1)
    picture, unreadable = _shrunk(reader, level, shrink)
    return Overview(picture, unreadable, (shrink * here.downsample[0], shrink * here.downsample[1]))


def best_level(reader: Reader, downsample: float, *, exact: bool = False) -> int:
    """The coarsest level that is no coarser than `downsample` (1 % of grace for levels of odd sizes).

    exact: only of those whose own pixels every reader gives at every position (Level.exact), as tiles need them.
    """
    return coarsest_fitting(reader.levels, downsample, exact=exact)


def coarsest_fitting(levels: Sequence[Level], downsample: float, *, exact: bool = False) -> int:
    """As `best_level`, of a list of levels."""
    usable = [(i, level) for i, level in enumerate(levels) if level.exact or not exact]
    fitting = [i for i, level in usable if max(level.downsample) <= downsample * 1.01]
    return max(fitting, key=lambda i: levels[i].downsample[0], default=0)


def _shrunk(reader: Reader, level: int, shrink: int) -> tuple[Pixels, Mask]:
    """A level made smaller by a whole number, block by block, and where it could not be read."""
    import cv2

    here = reader.levels[level]
    width, height = -(-here.width // shrink), -(-here.height // shrink)
    picture, unreadable = np.full((height, width, 3), 255, np.uint8), np.zeros((height, width), bool)
    across, down = (np.lcm(tile, shrink) if np.lcm(tile, shrink) <= 2048 else shrink for tile in here.tile)
    across, down = across * max(1, 2048 // across), down * max(1, 512 // down)
    for y in range(0, here.height, down):
        for x in range(0, here.width, across):
            block, lost = _block(reader, level, x, y, across, down)
            area = np.s_[y // shrink : (y + down) // shrink, x // shrink : (x + across) // shrink]
            fine = cv2.resize(block, (across // shrink, down // shrink), interpolation=cv2.INTER_AREA)
            target = picture[area]
            target[:] = fine[: target.shape[0], : target.shape[1]]
            if lost is not None:
                holes = cv2.resize(lost, (across // shrink, down // shrink), interpolation=cv2.INTER_AREA) > 0
                unreadable[area] = holes[: target.shape[0], : target.shape[1]]
    return picture, unreadable


def _block(reader: Reader, level: int, x: int, y: int, width: int, height: int) -> tuple[Pixels, Pixels | None]:
    """One block; where it cannot be read as a whole, its native tiles one by one, and a mask of the lost ones."""
    try:
        return reader.read(level, x, y, width, height), None
    except RegionError:
        across, down = reader.levels[level].tile
        block, lost = np.full((height, width, 3), 255, np.uint8), np.zeros((height, width), np.uint8)
    for top in range(y // down * down, y + height, down):
        for left in range(x // across * across, x + width, across):
            x0, y0, x1, y1 = max(left, x), max(top, y), min(left + across, x + width), min(top + down, y + height)
            area = np.s_[y0 - y : y1 - y, x0 - x : x1 - x]
            try:
                block[area] = reader.read(level, x0, y0, x1 - x0, y1 - y0)
            except RegionError:
                lost[area] = 255
    return block, lost


def detect(picture: Pixels, resolution: float, params: TissueParams, unreadable: Mask | None = None) -> Mask:
    """The tissue of a coarse picture at `resolution` µm/px.

    Raises
        SlideError: NOT_HE for a dark background, NO_TISSUE for glass, ink and dust alone.
    """
    import cv2

    smooth = cv2.medianBlur(picture, 5 if min(picture.shape[:2]) >= 5 else 1)
    known = ~padding(picture) if unreadable is None else ~(padding(picture) | unreadable)
    if not known.any():
        raise SlideError(Status.NO_TISSUE, "nothing but padding")
    if np.median(smooth[known].max(axis=1)) < _DARK:
        raise SlideError(Status.NOT_HE, "the background is dark: not a brightfield picture")
    chroma = smooth.max(axis=2) - smooth.min(axis=2)
    marks = ink(smooth)
    usable = known & ~marks
    mask = _cleaned(usable & (chroma > _threshold(chroma[usable])), resolution, params) & usable
    mask = _without_halo(mask, marks)
    if not mask.any():
        raise SlideError(Status.NO_TISSUE, f"no tissue of {params.min_area_mm2:g} mm² on the glass")
    return mask


def _threshold(chroma: NDArray[np.uint8]) -> float:
    """Otsu's threshold within limits, or infinity where there are no two classes and the picture is pale.

    Otsu, IEEE Trans Syst Man Cybern 9:62-66, 1979; the separability is his eta.
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
    at = int(between.argmax())
    spread = (counts * (levels - mean) ** 2).sum() / total
    threshold = float(np.clip(at, low, high))
    above = counts[int(threshold) + 1 :]
    if not above.sum():
        return np.inf
    foreground = (above * levels[int(threshold) + 1 :]).sum() / above.sum()
    rest = counts[: int(threshold) + 1]
    background = (rest * levels[: len(rest)]).sum() / rest.sum() if rest.sum() else 0.0
    two_classes = spread > 0 and between[at] / spread >= _MIN_SEPARABILITY
    # A section that fills the picture is one class too, but a colourful one.
    return threshold if foreground - background >= _MIN_CONTRAST and (two_classes or mean > high) else np.inf


def padding(picture: Pixels) -> Mask:
    """Pixels that no scanner sees on glass: pure white or pure black, as stitching leaves them."""
    return np.asarray((picture.min(axis=2) == 255) | (picture.max(axis=2) == 0))


def ink(picture: Pixels) -> Mask:
    """Felt pen and tissue ink: green, blue, red, black and brown marks with their soft edges."""
    import cv2

    # Band by band: the sums need sixteen bits, and a large slide's picture has ten million pixels.
    found = np.concatenate([_inked(picture[y : y + _BAND]) for y in range(0, len(picture), _BAND)])
    # Single pixels are noise or pigment; a mark has a body. Its edge fades over a few pixels.
    body = cv2.morphologyEx(found, cv2.MORPH_OPEN, _disc(3))
    return np.asarray(cv2.dilate(body, _disc(7)) > 0)


def _inked(picture: Pixels) -> Pixels:
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
    found = np.zeros(picture.shape[:2], np.uint8)
    for mark in marks.values():
        found |= mark.astype(np.uint8)
    return found


def _without_halo(mask: Mask, marks: Mask) -> Mask:
    """The mask without islands that lie mostly along a mark: the soft edge of a stroke, not tissue beside it."""
    import cv2

    near = cv2.dilate(marks.astype(np.uint8), _disc(21))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    along = np.bincount(labels[(near > 0) & mask], minlength=count)
    share = along / np.maximum(stats[:, cv2.CC_STAT_AREA], 1)
    share[0] = 1.0
    return np.asarray((share < 0.6)[labels])


def _cleaned(mask: Mask, resolution: float, params: TissueParams) -> Mask:
    """Closed over gaps of about 30 µm, without islands and holes under the limits."""
    import cv2

    reach = max(3, 2 * round(15.0 / resolution) + 1)
    work = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, _disc(reach))
    work = cv2.morphologyEx(work, cv2.MORPH_OPEN, _disc(3))
    pixel = (resolution / 1000.0) ** 2  # mm²
    work = 1 - _without_small(1 - work, params.max_hole_mm2 / pixel)
    return np.asarray(_without_small(work, params.min_area_mm2 / pixel) > 0)


def _without_small(mask: Pixels, least: float) -> Pixels:
    """The islands of at least `least` pixels."""
    import cv2

    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    keep = stats[:, cv2.CC_STAT_AREA] >= least
    keep[0] = False
    return np.asarray(keep[labels], np.uint8)


def _disc(size: int) -> Any:
    import cv2

    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
