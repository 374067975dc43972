"""Tissue and candidate tiles of a slide."""

import json

import numpy as np
import pytest

from mcti.params import ExtractParams, TissueParams
from mcti.slides import probe, tissue_tiles
from mcti.slides.status import SlideError, Status
from mcti.slides.tiles import Grid
from mcti.slides.tissue import Overview

VIEW = Overview(np.full((8, 8, 3), 200, np.uint8), np.zeros((8, 8), bool), (10.0, 10.0))
GRID = Grid(80, 80, 20, (20, 20), (20, 20))


def test_candidates_are_the_tiles_with_the_minimum_share_of_tissue():
    mask = np.zeros((8, 8), bool)
    mask[:, :3] = True  # the first column of tiles is full, the second half
    for minimum, columns in ((0.6, {0}), (0.4, {0, 20})):
        params = ExtractParams(tissue=TissueParams(min_tissue_fraction=minimum))
        tiles = tissue_tiles.candidate_tiles(VIEW, mask, GRID, params)
        assert set(tiles.corners[:, 0].tolist()) == columns
        assert len(tiles) == 4 * len(columns)
        assert tiles.tissue_fraction.min() >= minimum


def test_unreadable_parts_of_the_overview_are_candidates():
    view = Overview(VIEW.picture, np.eye(8, dtype=bool), VIEW.scale)
    params = ExtractParams(tissue=TissueParams(min_tissue_fraction=0.5))
    corners = tissue_tiles.candidate_tiles(view, np.zeros((8, 8), bool), GRID, params).corners
    assert corners.tolist() == [[0, 0], [20, 20], [40, 40], [60, 60]]


def test_a_slide_without_a_candidate_has_no_tissue():
    with pytest.raises(SlideError, match="no tile has a tissue fraction") as caught:
        tissue_tiles.candidate_tiles(VIEW, np.zeros((8, 8), bool), GRID, ExtractParams())
    assert caught.value.status is Status.NO_TISSUE


def test_a_drawn_mask_replaces_the_detected_tissue(painted, tmp_path):
    params = ExtractParams(tissue=TissueParams(masks=str(tmp_path)))
    assert tissue_tiles.drawn_mask_path("P1", params) is None
    assert tissue_tiles.drawn_mask_path("P1", ExtractParams()) is None
    ring = [[0, 0], [1024, 0], [1024, 512], [0, 512], [0, 0]]
    (tmp_path / "P1.geojson").write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    info = probe.examine(painted)
    with probe.open_reader(painted, info.reader) as reader:
        path = tissue_tiles.drawn_mask_path("P1", params)
        view, mask = tissue_tiles.detect_tissue(reader, info, params, path)
    assert mask.sum() * view.scale[0] * view.scale[1] == pytest.approx(1024 * 512)
