"""Heatmaps: colours at the positions of the tiles, scores as measurements, files that other programs open."""

import json

import cv2
import numpy as np
import openslide
import pytest
import tifffile

from mcti.errors import DataError
from mcti.slides import heatmap
from mcti.slides.heatmap import Scores
from mcti.slides.portable import PortableFeatures
from mcti.slides.tissue import Overview

VIEW = Overview(np.full((64, 64, 3), 200, np.uint8), np.zeros((64, 64), bool), (16.0, 16.0))
SCORES = Scores("risk", np.array([[0, 0], [256, 0], [0, 256]]), np.array([-1.0, 1.0, 0.0]), (256, 256), centre=0.0)


def test_colours_are_drawn_at_the_positions_of_the_tiles(tmp_path):
    heatmap.write_png(tmp_path / "a.png", VIEW, 0.5, SCORES)
    picture = cv2.cvtColor(cv2.imread(str(tmp_path / "a.png")), cv2.COLOR_BGR2RGB).astype(int)
    low, high, middle, bare = picture[8, 8], picture[8, 24], picture[24, 8], picture[24, 24]
    assert low[2] > low[0] + 20  # blue
    assert high[0] > high[2] + 20  # red
    assert np.ptp(middle) < 8  # white over grey
    assert bare.tolist() == [200, 200, 200]


def test_the_scale_bar_has_the_stated_length(tmp_path):
    """8 µm per pixel, a third of 420 px: 1 mm is 125 px."""
    heatmap.write_png(tmp_path / "a.png", VIEW, 0.5, SCORES)
    row = cv2.imread(str(tmp_path / "a.png"))[64 + 28, :200].max(axis=1)
    assert (row == 0).sum() == 126  # both ends drawn


def test_qupaths_measurements_are_the_scores(tmp_path):
    heatmap.write_geojson(tmp_path / "a.geojson", SCORES)
    features_of_file = json.loads((tmp_path / "a.geojson").read_text())["features"]
    assert [f["properties"]["measurements"]["risk"] for f in features_of_file] == [-1.0, 1.0, 0.0]
    assert features_of_file[1]["geometry"]["coordinates"][0][2] == [512, 256]


def test_the_overlay_opens_in_openslide_with_its_resolution_and_is_the_same_bytes_twice(tmp_path):
    for name in ("a.ome.tif", "b.ome.tif"):
        heatmap.write_ome_tiff(tmp_path / name, (20000, 10000), 0.5, SCORES, coarse=16)
    assert (tmp_path / "a.ome.tif").read_bytes() == (tmp_path / "b.ome.tif").read_bytes()
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        assert file.is_ome
        assert len(file.series[0].levels) >= 2
        assert 'PhysicalSizeX="8.0"' in file.ome_metadata
        assert file.asarray()[4, 20, 0] > 150  # red over the second tile
    with openslide.OpenSlide(tmp_path / "a.ome.tif") as slide:
        assert slide.dimensions == (1250, 625)
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(8.0)


def test_the_overlay_of_a_small_slide_is_a_pyramid_too(tmp_path):
    heatmap.write_ome_tiff(tmp_path / "a.ome.tif", (2220, 2967), 0.5, SCORES)
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        assert [level.shape[:2] for level in file.series[0].levels] == [
            (2967, 2220),
            (1483, 1110),
            (741, 555),
            (370, 277),
        ]


def test_scores_that_do_not_match_the_tiles_are_refused():
    with pytest.raises(DataError, match="2 scores for coords"):
        Scores("a", np.zeros((3, 2), np.int64), np.zeros(2), (1, 1))
    with pytest.raises(DataError, match="not finite"):
        Scores("a", np.zeros((1, 2), np.int64), np.array([np.nan]), (1, 1))


def test_equal_scores_of_all_tiles_are_drawn(tmp_path):
    heatmap.write_png(tmp_path / "a.png", VIEW, 0.5, Scores("a", SCORES.coords, np.ones(3), (256, 256)))
    assert (tmp_path / "a.png").stat().st_size > 0


def test_features_without_coordinates_or_tile_size_state_what_is_missing(tmp_path):
    (tmp_path / "s.csv").write_text("x,y,score\n0,0,1\n")
    vector = PortableFeatures("S1", np.ones((1, 3)), None, level="slide")
    with pytest.raises(DataError, match="one embedding of the whole slide: there is no heatmap"):
        heatmap.read_scores(tmp_path / "s.csv", vector)
    coords = np.array([[x * 512, y * 512] for y in range(4) for x in range(4)])
    for grid in ({}, {"patch_size_level0": 0}):
        with pytest.raises(DataError, match=r"--patch-size-level0.*neighbouring tiles are 512 px apart"):
            heatmap.read_scores(tmp_path / "s.csv", PortableFeatures("S1", np.ones((16, 3)), coords, grid))
