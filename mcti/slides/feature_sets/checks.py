"""Checks of a whole feature set: one level, one width, one encoder, one resolution and one tile size.

Only what the files state is compared, so that nothing is assumed of a slide whose file does not state it. Tile sizes
are compared in micrometres where every slide's mpp is known, else in pixels at one magnification, else in level-0
pixels: two scanners need their mpp, or equal tiles differ in level-0 pixels.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mcti.errors import DataError
from mcti.slides.portable import PortableFeatures

_LISTED = 10
_SAME_MICROMETRES = 1.25
"""Largest ratio of tile edges of one set: scanners of one magnification differ by up to a fifth (0.22 to 0.26 µm/px at
40x), magnifications by a factor of two."""
_SAME_PIXELS = 1.02
_MIN_STEPS = 8


@dataclass(frozen=True)
class SetFacts:
    """What one file states: level, width, encoder, resolution (µm/px of the patches), patch size (px), edge and step.

    edge, step  edge of a tile and distance of neighbours in level-0 pixels;  mpp, magnification  of level 0
    """

    name: str
    level: str
    width: int
    encoder: str | None
    resolution: float | None
    patch_size: int | None
    edge: float | None
    step: float | None
    mpp: float | None
    magnification: float | None

    @classmethod
    def of(cls, slide: PortableFeatures) -> "SetFacts":
        """The facts of a slide."""
        encoder = slide.attributes.get("encoder")
        return cls(
            slide.slide_id,
            slide.level,
            int(slide.features.shape[1]),
            None if encoder in (None, "", "unknown") else str(encoder),
            _positive(slide.attributes.get("target_mpp")),
            None if (size := _positive(slide.grid.get("patch_size"))) is None else int(size),
            _positive(slide.grid.get("patch_size_level0")),
            None if slide.coords is None else tile_step(slide.coords),
            _positive(slide.attributes.get("mpp_x")),
            _positive(slide.grid.get("level0_magnification")),
        )


def check_set(facts: Sequence[SetFacts]) -> None:
    """Refuse a set that mixes levels, widths, encoders, resolutions, patch sizes, tile edges or tile distances.

    Raises DataError with the values and the slides that differ from the majority.
    """
    # A single vector without coordinates fits both levels.
    _check_equal("level (patch, slide or patient)", facts, lambda f: f.level or None)
    _check_equal("number of features", facts, lambda f: f.width)
    _check_equal("encoder", facts, lambda f: f.encoder)
    _check_equal("patch size in pixels", facts, lambda f: f.patch_size)
    _check_equal("resolution of the patches (µm/px)", facts, lambda f: f.resolution and round(f.resolution, 2))
    _check_lengths("edge of the tiles", facts, lambda f: f.edge)
    _check_lengths("distance of neighbouring tiles", facts, lambda f: f.step)


def tile_step(coords: NDArray[np.int64]) -> float | None:
    """Distance of neighbouring tiles in level-0 pixels, from corners (N, 2): the most frequent distance in a row.

    None where it is not clear: few tiles, or tiles that are no grid.
    """
    order = np.lexsort((coords[:, 0], coords[:, 1]))
    x, y = coords[order].T
    steps = np.diff(x)[np.diff(y) == 0]
    steps = steps[steps > 0]
    if len(steps) < _MIN_STEPS:
        return None
    values, counts = np.unique(steps, return_counts=True)
    frequent = int(counts.argmax())
    return float(values[frequent]) if 2 * counts[frequent] >= len(steps) else None


def _positive(value: Any) -> float | None:
    """A stated size or resolution; None for an unknown one."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) and number > 0 else None


def _check_equal(aspect: str, facts: Sequence[SetFacts], value: Callable[[SetFacts], Hashable | None]) -> None:
    stated = {f.name: v for f in facts if (v := value(f)) is not None}
    groups = Counter(stated.values())
    if len(groups) > 1:
        usual = groups.most_common(1)[0][0]
        raise _mixed(aspect, usual, {name: v for name, v in stated.items() if v != usual}, len(stated))


def _check_lengths(aspect: str, facts: Sequence[SetFacts], length: Callable[[SetFacts], float | None]) -> None:
    stated = [(f, pixels) for f in facts if (pixels := length(f)) is not None]
    unit, ratio, scale = "level-0 px, since the mpp is not known", _SAME_PIXELS, [1.0] * len(stated)
    if all(f.mpp for f, _ in stated):
        unit, ratio, scale = "µm", _SAME_MICROMETRES, [f.mpp or 1.0 for f, _ in stated]
    elif all(f.magnification for f, _ in stated):
        unit, ratio = "µm at 10 µm/px per magnification", _SAME_PIXELS
        scale = [10.0 / (f.magnification or 1.0) for f, _ in stated]
    lengths = {f.name: pixels * factor for (f, pixels), factor in zip(stated, scale, strict=True)}
    if not lengths or max(lengths.values()) <= ratio * min(lengths.values()):
        return
    usual = float(np.median(list(lengths.values())))
    low, high = usual / ratio**0.5, usual * ratio**0.5
    other = {name: f"{value:g}" for name, value in lengths.items() if not low <= value <= high}
    raise _mixed(f"{aspect} ({unit})", f"{usual:g}", other, len(lengths))


def _mixed(aspect: str, usual: Hashable, other: dict[str, Any], total: int) -> DataError:
    listing = [f"{name}: {value}" for name, value in sorted(other.items())]
    more = f" and {len(listing) - _LISTED} more" if len(listing) > _LISTED else ""
    what = f"the set mixes values of {aspect}: {usual} in {total - len(other)} slides, {len(other)} differ"
    hint = "import each set separately" + ("; enter mpp in the table of slides" if "level-0" in aspect else "")
    return DataError(what, ", ".join(listing[:_LISTED]) + more, hint)
