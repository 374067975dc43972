"""The grid covers the slide without overlap, and each footprint is exact within half a pixel."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcti.slides import probe
from mcti.slides.tiles import Grid, TileSource, sharpness
from mcti.slides.tissue import Overview

from .conftest import texture, write_tiff

sizes = st.integers(1, 5000)


@settings(deadline=None)  # no failure on a loaded machine
@given(sizes, sizes, st.floats(0.05, 2.5), st.floats(0.05, 2.5), st.sampled_from([32, 224, 256]))
def test_tiles_cover_the_slide_without_overlap_and_with_the_right_footprint(width, height, mpp, resolution, tile):
    grid = Grid.for_slide(width, height, (mpp, mpp), resolution, tile)
    corners = grid.corners()
    for axis, size in ((0, width), (1, height)):
        starts = np.unique(corners[:, axis])
        assert starts[0] == 0
        assert starts[-1] + grid.footprint[axis] >= size  # covered to the edge
        assert starts[-1] < size
        assert (np.diff(starts) == grid.footprint[axis]).all()  # no gap and no overlap
        assert abs(grid.footprint[axis] - max(tile * resolution / mpp, 1)) <= 0.5 + 1e-9
    order = np.lexsort((corners[:, 0], corners[:, 1]))
    assert (order == np.arange(len(corners))).all()
    assert len(np.unique(corners, axis=0)) == len(corners)


def test_the_step_is_reduced_by_the_overlap():
    grid = Grid.for_slide(1000, 1000, (0.25, 0.25), 0.5, 100, overlap=20)
    assert (grid.footprint, grid.step) == ((200, 200), (160, 160))


def test_tissue_fractions_are_shares_of_the_area():
    """A mask of 4 px whose left half is tissue; tiles of 30 level-0 px on a scale of 10."""
    mask = np.zeros((4, 4), bool)
    mask[:, :2] = True
    view = Overview(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), bool), (10.0, 10.0))
    grid = Grid(40, 40, 32, (30, 30), (30, 30))
    fractions = grid.tissue_fraction(grid.corners(), mask, view)
    np.testing.assert_allclose(fractions, [20 / 30, 0, 20 * 10 / 900, 0], atol=1e-6)


@pytest.mark.parametrize(
    ("resolution", "level", "footprint"), [(0.5, 0, 64), (1.0, 1, 128), (0.25, 0, 32), (0.7, 0, 90)]
)
def test_tiles_come_from_the_coarsest_level_that_is_fine_enough(tmp_path, resolution, level, footprint):
    import cv2
    import tifffile

    picture = texture(512, 512)
    path = tmp_path / "a.tif"
    options = {"tile": (64, 64), "photometric": "rgb", "resolution": (20000, 20000), "resolutionunit": 3}
    with tifffile.TiffWriter(path) as writer:
        writer.write(picture, **options)
        writer.write(cv2.resize(picture, (256, 256), interpolation=cv2.INTER_AREA), subfiletype=1, **options)
    with probe.open_reader(path, "tiff") as reader:
        grid = Grid.for_slide(512, 512, (0.5, 0.5), resolution, 64)
        assert grid.footprint == (footprint, footprint)
        source = TileSource(reader, grid)
        assert source._level == level
        tile = source.read(footprint, footprint)
    crop = picture[footprint : 2 * footprint, footprint : 2 * footprint]
    interpolation = cv2.INTER_AREA if footprint >= 64 else cv2.INTER_CUBIC
    expected = cv2.resize(crop, (64, 64), interpolation=interpolation)
    assert np.abs(tile.astype(int) - expected).max() <= 2  # rounded twice


def test_blur_lowers_the_sharpness(cmu):
    import cv2

    with probe.open_reader(cmu, "tiff") as reader:
        tile = reader.read(0, 700, 1500, 256, 256)
    assert sharpness(tile) > 100 > 10 > sharpness(cv2.GaussianBlur(tile, (0, 0), 6))


def test_pixels_beyond_the_edge_are_white(tmp_path):
    path = write_tiff(tmp_path / "a.tif", np.full((100, 100, 3), 9, np.uint8))
    with probe.open_reader(path, "tiff") as reader:
        tile = TileSource(reader, Grid.for_slide(100, 100, (0.5, 0.5), 0.5, 64)).read(64, 64)
    assert (tile[:36, :36] == 9).all()
    assert (tile[36:] == 255).all()
