"""Detects the tissue of a slide and selects the tiles on it."""

from pathlib import Path

import numpy as np

from mcti.params import ExtractParams
from mcti.slides import masks, tissue
from mcti.slides.polygons import Coverage
from mcti.slides.probe import SlideInfo
from mcti.slides.reader import Reader
from mcti.slides.status import SlideError, Status
from mcti.slides.tile_blocks import CandidateTiles
from mcti.slides.tiles import Grid
from mcti.slides.tissue import Mask, Overview


def drawn_mask_path(slide_id: str, params: ExtractParams) -> Path | None:
    """The mask that a user drew for a slide (extract.tissue.masks); None when there is none."""
    if params.tissue.masks is None:
        return None
    path = Path(params.tissue.masks, f"{slide_id}.geojson")
    return path if path.exists() else None


def detect_tissue(
    reader: Reader, info: SlideInfo, params: ExtractParams, drawn_mask: Path | None
) -> tuple[Overview, Mask | Coverage]:
    """The overview picture and its tissue (h, w): the drawn mask as coverage of pixels, else the detected mask.

    Raises SlideError when there is no tissue, the picture is no brightfield picture, or the mask file is broken.
    """
    view = tissue.overview(reader, info.mpp, params.tissue.resolution)
    if drawn_mask is not None:
        return view, masks.from_geojson(drawn_mask, view)
    try:
        return view, tissue.detect(view.picture, info.mpp[0] * view.scale[0], params.tissue, view.unreadable)
    except SlideError as error:
        undecoded = view.unreadable.mean()
        if error.status is Status.NO_TISSUE and undecoded > params.max_failed_tiles_share:
            what = f"{undecoded:.0%} of the slide does not decode"
            raise SlideError(Status.READ_ERROR, what, "copy it again") from error
        raise


def candidate_tiles(view: Overview, mask: Mask | Coverage, grid: Grid, params: ExtractParams) -> CandidateTiles:
    """The tiles on tissue.

    Parts of the overview that could not be read count as tissue: their tiles are tried, and fail individually.
    Raises SlideError (NO_TISSUE) when no tile has the minimum share of tissue.
    """
    corners = grid.corners()
    tissue_fraction = grid.tissue_fraction(corners, np.maximum(mask, view.unreadable), view)
    keep = tissue_fraction >= params.tissue.min_tissue_fraction
    if not keep.any():
        minimum = f"{params.tissue.min_tissue_fraction:.0%}"
        raise SlideError(Status.NO_TISSUE, f"no tile has a tissue fraction of {minimum} or more")
    return CandidateTiles(corners[keep], tissue_fraction[keep])
