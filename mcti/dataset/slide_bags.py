"""The bag of a patient: the features of all slides, read from their feature files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from mcti.dataset.bags import SlideTiles
from mcti.slides.features import SlideFeatures, read_slide
from mcti.storage import Location, join


@dataclass(frozen=True)
class SlideBag:
    """The patches of all slides of a patient.

    patches     (N, D) float32, or None: no slides
    tiles       the slides in the order of their rows
    quality     tissue: mean share of tissue in a tile; blurred, failed: share of the candidate tiles that were left
                out as out of focus, as unreadable. Empty for files of other tools, which do not count them
    provenance  how the features of each slide were extracted
    """

    patches: torch.Tensor | None
    tiles: tuple[SlideTiles, ...] = ()
    quality: Mapping[str, float] = field(default_factory=dict)
    provenance: tuple[Mapping[str, Any], ...] = ()


def load_bag(features: Location | None, slides: Sequence[str]) -> SlideBag:
    """The bag of these slides, each feature file read once; empty without features or without a slide.

    Raises DataError when a file is not a feature file, naming it.
    """
    if features is None or not slides:
        return SlideBag(None)
    files = [read_slide(join(features, f"{slide}.h5")) for slide in slides]
    bags = [torch.from_numpy(file.features) for file in files]
    return SlideBag(
        patches=bags[0] if len(bags) == 1 else torch.cat(bags),
        tiles=tuple(SlideTiles(s, len(f.features), f.coordinates) for s, f in zip(slides, files, strict=True)),
        quality=_quality(files),
        provenance=tuple(file.provenance for file in files),
    )


def _quality(slides: Sequence[SlideFeatures]) -> dict[str, float]:
    """Quality of all slides of a patient together; empty where the tiles of one of them were not counted."""
    counts = [slide.tile_counts for slide in slides]
    if not all(counts):
        return {}
    kept, tiles = (sum(slide[name] for slide in counts) for name in ("kept", "candidate"))
    shares = {name: sum(slide[name] for slide in counts) / tiles for name in ("blurred", "failed")}
    return {"tissue": sum(slide["tissue"] for slide in counts) / kept, **shares}
