"""Exact areas: coverage compared with the shoelace formula and matplotlib, outlines with the pixels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Outline

from mcti.slides import polygons


def shoelace(ring):
    x, y = np.asarray(ring, float).T
    return abs((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()) / 2


def star(seed, points, centre, radius):
    """A simple polygon: angles in order, radii at random."""
    rng = np.random.default_rng(seed)
    angle = (np.arange(points) + rng.uniform(0, 0.9, points)) * 2 * np.pi / points  # a full turn, so no edges cross
    length = rng.uniform(0.3, 1.0, points) * radius
    return np.stack([centre[0] + length * np.cos(angle), centre[1] + length * np.sin(angle)], axis=1)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(5, 60), st.floats(20, 80), st.floats(20, 60), st.floats(0.3, 19))
def test_the_area_of_a_polygon_is_exact(seed, points, x, y, radius):
    ring = star(seed, points, (x, y), radius)
    for one in (ring, ring[::-1]):
        covered = polygons.coverage(one, (80, 100))
        assert covered.sum() == pytest.approx(shoelace(ring), abs=1e-6)
        assert covered.min() >= 0
        assert covered.max() <= 1


def test_each_pixel_has_its_covered_share():
    """Oracle: the share of 40 x 40 points in each pixel, by matplotlib's point-in-polygon test."""
    ring = star(3, 12, (15, 11), 14)  # partly outside on the left and at the top
    step = (np.arange(40) + 0.5) / 40
    x, y = np.meshgrid(*(np.add.outer(np.arange(n), step).ravel() for n in (30, 20)))
    inside = Outline(ring).contains_points(np.stack([x.ravel(), y.ravel()], axis=1)).reshape(20, 40, 30, 40)
    np.testing.assert_allclose(polygons.coverage(ring, (20, 30)), inside.mean(axis=(1, 3)), atol=0.02)


@pytest.mark.parametrize(
    ("ring", "area"),
    [
        ([(-5, -5), (3, -5), (3, 4), (-5, 4)], 12),
        ([(8, 6), (99, 6), (99, 99), (8, 99)], 4),
        ([(-5, -5), (50, -5), (50, 50), (-5, 50)], 80),
        ([(20, 1), (30, 1), (30, 5)], 0),
        ([(1e300, 1e300), (1e300, 2e300), (2e300, 1e300)], 0),
        ([(2, 2), (2, 2), (2, 2)], 0),
        ([(2, 2), (7, 2)], 0),
        ([(2.25, 3.5), (2.75, 3.5), (2.75, 3.75), (2.25, 3.75)], 0.125),
    ],
)
def test_areas_outside_of_the_mask_are_ignored(ring, area):
    covered = polygons.coverage(np.asarray(ring, float), (8, 10))
    assert covered.sum() == pytest.approx(area, abs=1e-9)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 12), st.floats(0.2, 0.8))
def test_outlines_cover_exactly_the_pixels_of_the_mask(seed, height, width, density):
    mask = np.random.default_rng(seed).random((height, width)) < density
    covered = np.zeros(mask.shape)
    for island in polygons.outlines(mask):
        outer, *holes = (polygons.coverage(ring.astype(float), mask.shape) for ring in island)
        covered += outer - sum(holes)
    np.testing.assert_allclose(covered, mask, atol=1e-9)


def test_a_large_outline_has_only_its_corners():
    mask = np.zeros((500, 600), bool)
    mask[10:400, 20:500] = True
    ((ring,),) = polygons.outlines(mask)
    assert sorted(map(tuple, ring.tolist())) == [(20, 10), (20, 400), (500, 10), (500, 400)]
