"""Painted slides: synthetic H&E pictures in pyramidal TIFF files, for cohorts without slides.

No picture shows a patient's tissue. Nuclear size, cell density and gland formation depend on the grade and oestrogen
receptor status of a patient, with noise as wide as one grade, so that a picture is only weakly informative. Stains are
added as optical densities (Beer-Lambert), so that haematoxylin and eosin mix as dyes do.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mcti import storage
from mcti.demo import tissue_drawing
from mcti.demo.tissue_drawing import Plane
from mcti.slides.pyramid_writer import write_pyramid

EDGE = 2048
"""Width and height in pixels."""
MPP = 0.5
"""Resolution of the finest level in µm/px."""


@dataclass(frozen=True)
class SlideTraits:
    """Traits of one picture. Lengths in pixels of 0.5 µm, shares between 0 and 1."""

    nucleus: float  # radius of a tumour nucleus
    variation: float  # spread of the radius, relative
    spacing: float  # distance between tumour nuclei
    tumour: float  # share of the tissue
    glands: int
    lymphocytes: float  # share of the candidate points
    fat: float  # share of the tissue
    pen: bool
    fold: bool
    blurred: bool


def draw_traits(rng: np.random.Generator, grade: int, er_positive: bool) -> SlideTraits:
    """Random traits for a grade (1-3) and a receptor status; each trait has noise about as wide as one grade."""
    aggressive = grade - 2 + (0.0 if er_positive else 0.5) + rng.normal(0.0, 0.9)
    return SlideTraits(
        nucleus=float(np.clip(8.5 + 0.9 * aggressive + rng.normal(0.0, 0.8), 6.0, 13.0)),
        variation=float(np.clip(0.14 + 0.05 * aggressive + rng.normal(0.0, 0.03), 0.05, 0.35)),
        spacing=float(np.clip(29.0 - 1.6 * aggressive + rng.normal(0.0, 2.0), 22.0, 36.0)),
        tumour=float(np.clip(0.45 + 0.08 * aggressive + rng.normal(0.0, 0.1), 0.15, 0.8)),
        glands=int(np.clip(round(14 - 6 * (grade - 2 + rng.normal(0.0, 0.9))), 0, 36)),
        lymphocytes=float(np.clip(0.05 + (0.0 if er_positive else 0.06) + rng.normal(0.0, 0.04), 0.0, 0.3)),
        fat=float(np.clip(rng.normal(0.12, 0.08), 0.0, 0.3)),
        pen=bool(rng.random() < 0.12),
        fold=bool(rng.random() < 0.15),
        blurred=bool(rng.random() < 0.15),
    )


def paint(out: Path, *, seed: int, grade: int, er_positive: bool) -> None:
    """Write one painted slide to `out`: 2048 x 2048 px at 0.5 µm/px, three levels of JPEG tiles, Aperio-like metadata.

    The same arguments give the same bytes. `grade` is the histological grade, 1 to 3.

    Raises OperationalError when `out` cannot be written.
    """
    rng = np.random.default_rng([seed, grade, int(er_positive)])
    picture = render(rng, draw_traits(rng, grade, er_positive))
    with storage.replacing(out) as draft:
        write_pyramid(draft, picture, MPP)


def render(rng: np.random.Generator, traits: SlideTraits) -> Plane:
    """The picture with these traits, RGB (2048, 2048, 3) uint8."""
    tissue, fat, tumour = _ground(rng, traits)
    haematoxylin, eosin = _stroma(rng, tissue, tumour)
    cells = tissue_drawing.CellPainter(rng, haematoxylin, eosin)
    free = tissue & ~fat
    _fat(rng, haematoxylin, eosin, fat)
    lumen = _glands(rng, traits, cells, free & tumour)
    _cells(rng, traits, cells, free & ~lumen, tumour)
    if traits.fold:
        tissue_drawing.draw_fold(rng, haematoxylin, eosin)
    picture = tissue_drawing.stain(haematoxylin, eosin, rng)
    if traits.blurred:
        tissue_drawing.blur_region(rng, picture)
    if traits.pen:
        tissue_drawing.draw_pen(rng, picture)
    return picture


def _ground(rng: np.random.Generator, traits: SlideTraits) -> tuple[Plane, Plane, Plane]:
    """Masks of tissue, fat and tumour, three (2048, 2048) bool planes."""
    # The dome restricts the tissue to the middle, with glass at the rim, as on a biopsy slide.
    x = np.linspace(-1.0, 1.0, 64)
    dome = 150.0 * np.clip(np.maximum(np.abs(x)[:, None], np.abs(x)[None, :]) - 0.55, 0.0, None)
    tissue = tissue_drawing.noise_field(rng, 7, EDGE, share=0.9, minus=dome)
    fat = tissue_drawing.noise_field(rng, 9, EDGE, share=traits.fat) & tissue
    tumour = tissue_drawing.noise_field(rng, 12, EDGE, share=traits.tumour)
    return tissue, fat, tumour


def _stroma(rng: np.random.Generator, tissue: Plane, tumour: Plane) -> tuple[Plane, Plane]:
    """Haematoxylin and eosin of the fibres, optical density in 1/100, (2048, 2048) uint8 each."""
    import cv2

    fibres = tissue_drawing.fibres(rng, EDGE)
    eosin = cv2.addWeighted(fibres, 0.55, fibres, 0.0, 12)
    # Sheets of tumour cells are paler than collagen and slightly blue.
    eosin[tumour] = cv2.addWeighted(fibres, 0.25, fibres, 0.0, 26)[tumour]
    haematoxylin = np.where(tumour, np.uint8(14), np.uint8(5))
    edge = cv2.blur(tissue.astype(np.uint8) * 255, (9, 9))
    return cv2.multiply(haematoxylin, edge, scale=1 / 255), cv2.multiply(eosin, edge, scale=1 / 255)


def _fat(rng: np.random.Generator, haematoxylin: Plane, eosin: Plane, fat: Plane) -> None:
    """Clear vacuoles with thin walls."""
    import cv2

    haematoxylin[fat], eosin[fat] = 3, 45
    for x, y in tissue_drawing.jittered_grid(rng, 74, fat):
        axes = (int(rng.integers(28, 39)), int(rng.integers(28, 39)))
        cv2.ellipse(eosin, (int(x), int(y)), axes, float(rng.integers(180)), 0, 360, 1, -1, cv2.LINE_AA)


def _glands(rng: np.random.Generator, traits: SlideTraits, cells: tissue_drawing.CellPainter, allowed: Plane) -> Plane:
    """Draw tubules (a clear lumen within a ring of cells); returns their mask, (2048, 2048) bool."""
    occupied = np.zeros((EDGE, EDGE), np.uint8)
    inside = allowed.copy()
    inside[:120] = inside[-120:] = inside[:, :120] = inside[:, -120:] = False
    candidates = tissue_drawing.jittered_grid(rng, 190, inside)
    for x, y in rng.permutation(candidates)[: traits.glands]:
        cells.gland(int(x), int(y), traits.nucleus, occupied)
    return occupied > 0


def _cells(
    rng: np.random.Generator, traits: SlideTraits, cells: tissue_drawing.CellPainter, allowed: Plane, tumour: Plane
) -> None:
    """Draw tumour cells in their sheets, fibroblasts between them, lymphocytes everywhere."""
    sheets = tissue_drawing.jittered_grid(rng, traits.spacing, allowed & tumour)
    cells.scatter(sheets[rng.random(len(sheets)) < 0.85], traits.nucleus, traits.variation, 0.78, 62)
    stroma = tissue_drawing.jittered_grid(rng, 58, allowed & ~tumour)
    cells.scatter(stroma[rng.random(len(stroma)) < 0.7], 10.5, 0.2, 0.3, 78)
    small = tissue_drawing.jittered_grid(rng, 21, allowed)
    cells.scatter(small[rng.random(len(small)) < traits.lymphocytes], 5.5, 0.06, 0.93, 100)
