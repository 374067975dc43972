"""Tile maps pixel by pixel, PNG bytes, and the colours of the survival curve."""

import base64
import io

import numpy as np
from matplotlib.image import imread

from mcti.explanation import figures


def test_a_tile_map_has_one_pixel_per_tile_red_for_a_positive_and_blue_for_a_negative_score():
    """Corners 256 pixels apart; the tile at x = 256, y = 0 is missing. Scores at the limit have the full colour."""
    corners = np.array([[0, 0], [0, 256], [256, 256], [768, 0]])
    pixels = figures.tile_map(corners, np.array([1.0, -1.0, 0.0, 1.0]))
    assert pixels.shape == (2, 4, 4), "the gap between x = 256 and x = 768 keeps its width"
    assert pixels[0, 0].tolist() == [178, 24, 43, 255]
    assert pixels[1, 0].tolist() == [33, 102, 172, 255]
    assert pixels[1, 1].tolist() == [247, 247, 247, 255]
    assert pixels[0, 1].tolist() == [0, 0, 0, 0]


def test_a_png_address_holds_the_pixels_and_has_the_same_bytes_on_every_run():
    pixels = figures.tile_map(np.array([[0, 0], [5, 0]]), np.array([0.5, -1.0]))
    address = figures.png_address(pixels)
    assert address == figures.png_address(pixels)
    stored = imread(io.BytesIO(base64.b64decode(address.removeprefix("data:image/png;base64,"))))
    np.testing.assert_array_equal(np.rint(stored * 255).astype(np.uint8), pixels)


def test_the_survival_curve_takes_the_colours_of_the_page_and_dashes_the_cohort():
    points = [(12.0, 0.9, 0.85, 0.95), (36.0, 0.6, 0.5, 0.7)]
    svg = figures.survival_svg(points, {12.0: 0.8, 36.0: 0.5, 60.0: 0.4})
    assert svg == figures.survival_svg(points, {12.0: 0.8, 36.0: 0.5, 60.0: 0.4})
    assert "var(--line)" in svg
    assert "var(--soft)" in svg
    assert "stroke-dasharray" in svg
    assert figures.LINE not in svg
    assert "var(--soft)" not in figures.survival_svg(points, {})
