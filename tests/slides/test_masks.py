"""Masks to GeoJSON for QuPath and back."""

import json

import numpy as np
import pytest

from mcti.slides import masks
from mcti.slides.status import SlideError
from mcti.slides.tissue import Overview

VIEW = Overview(np.zeros((80, 100, 3), np.uint8), np.zeros((80, 100), bool), (16.0, 16.0))


def islands():
    mask = np.zeros((80, 100), bool)
    mask[10:60, 10:60] = True
    mask[20:40, 20:45] = False  # a hole
    mask[25:30, 25:30] = True  # an island in it
    mask[70:75, 80:95] = True
    return mask


def test_a_mask_survives_conversion_to_geojson_and_back(tmp_path):
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps(masks.to_geojson(islands(), VIEW)))
    np.testing.assert_array_equal(masks.from_geojson(path, VIEW), islands())


def test_the_geojson_is_closed_rings_in_level_0_pixels_with_qupaths_properties():
    document = masks.to_geojson(islands(), VIEW)
    assert len(document["features"]) == 3
    for feature in document["features"]:
        assert feature["properties"]["objectType"] == "annotation"
        for ring in feature["geometry"]["coordinates"]:
            assert ring[0] == ring[-1]
    corners = [f["geometry"]["coordinates"][0] for f in document["features"]]
    assert [10 * 16, 10 * 16] in [point for ring in corners for point in ring]
    assert sorted(len(f["geometry"]["coordinates"]) for f in document["features"]) == [1, 1, 2]


def test_a_drawn_multipolygon_covers_its_areas(tmp_path):
    boxes = [
        [[[0, 0], [320, 0], [320, 320], [0, 320], [0, 0]]],
        [[[800, 0], [960, 0], [960, 160], [800, 160], [800, 0]]],
    ]
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps([{"type": "Feature", "geometry": {"type": "MultiPolygon", "coordinates": boxes}}]))
    mask = masks.from_geojson(path, VIEW)
    assert mask[:19, :19].all()
    assert mask[:9, 51:59].all()
    assert mask.sum() == pytest.approx(20 * 20 + 10 * 10, rel=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        "not json",
        '{"type": "Point", "coordinates": [1, 2]}',
        '{"type": "Polygon", "coordinates": [[["a", "b"], ["c", "d"]]]}',
        '{"type": "Polygon", "coordinates": [[[NaN, 1], [2, 3], [4, 5]]]}',
        "[[1]]",
        '{"type": "Feature", "geometry": null}',
        '{"type": "FeatureCollection", "features": []}',
        '{"type": "Polygon", "coordinates": [[[1e300, 1e300], [1e300, 2e300], [2e300, 1e300]]]}',
    ],
)
def test_geometries_without_an_area_are_refused(tmp_path, text):
    path = tmp_path / "a.geojson"
    path.write_text(text)
    with pytest.raises(SlideError, match=r"a\.geojson"):
        masks.from_geojson(path, VIEW)


def test_a_byte_order_mark_is_accepted(tmp_path):
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps({"type": "Polygon", "coordinates": [[[0, 0], [99, 0], [99, 99], [0, 99]]]}), "utf-8-sig")
    assert masks.from_geojson(path, VIEW).any()


@pytest.mark.parametrize("scale", [16.0, 31.37])
def test_the_area_of_drawn_tissue_is_exact_on_any_grid(tmp_path, scale):
    """Circles of 10 to 300 level-0 px with holes, off the grid; oracle: the areas of the polygons that are drawn."""
    view = Overview(np.zeros((80, 100, 3), np.uint8), np.zeros((80, 100), bool), (scale, scale))
    angle = np.linspace(0, 2 * np.pi, 90, endpoint=False)[::-1]
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    unit = 45 * np.sin(2 * np.pi / 90)  # area of the polygon of 90 corners
    for radius in (10.0, 37.0, 120.0, 300.0):
        rings = [(circle * r + 511.3).tolist() for r in (radius, radius / 2)]
        boxes = [[rings[0], rings[1]], [[[700.1, 900.2], [800.6, 900.2], [800.6, 950.7], [700.1, 950.7]]]]
        path = tmp_path / "a.geojson"
        path.write_text(json.dumps({"type": "MultiPolygon", "coordinates": boxes}))
        area = masks.from_geojson(path, view).sum() * scale**2
        assert area == pytest.approx(unit * radius**2 * 0.75 + 100.5 * 50.5, rel=1e-4)


def test_adjacent_areas_add_up_and_overlapping_areas_do_not(tmp_path):
    path = tmp_path / "a.geojson"

    def area(*edges):
        boxes = [[[[x0, 3.0], [x1, 3.0], [x1, 67.0], [x0, 67.0], [x0, 3.0]]] for x0, x1 in edges]
        path.write_text(json.dumps({"type": "MultiPolygon", "coordinates": boxes}))
        return masks.from_geojson(path, VIEW).sum() * 256

    assert area((10, 50), (50, 90)) == pytest.approx(area((10, 90)), rel=1e-6)
    assert area((16, 96), (32, 64)) == pytest.approx(area((16, 96)), rel=5e-3)  # shared pixels at the upper edge


@pytest.mark.parametrize(("shift", "share"), [(0.0, 1.0), (0.5, 1.3150), (1.0, 1.6090), (2.0, 2.0)])
def test_the_area_of_overlapping_polygons_counts_once(tmp_path, shift, share):
    """Two circles at a distance of `shift` radii. Oracle: 2 - (2 acos(d/2) - d/2 sqrt(4 - d^2)) / pi, d = shift."""
    path = tmp_path / "a.geojson"
    angle = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    for radius in (100.0, 230.0):
        circles = [
            np.stack([600.3 + x + np.cos(angle) * radius, 500.7 + np.sin(angle) * radius], 1)
            for x in (0, shift * radius)
        ]
        features = [{"type": "Polygon", "coordinates": [circle.tolist()]} for circle in circles]
        path.write_text(json.dumps(features))
        area = masks.from_geojson(path, VIEW).sum() * 256
        assert area == pytest.approx(share * np.pi * radius**2, rel=5e-3)


def test_many_polygons_that_touch_and_contain_each_other_have_the_area_of_their_union(tmp_path):
    """A chessboard of 20 x 20 level-0 px without gaps, drawn twice, with a hole that another polygon fills."""
    squares = [
        [[x, y], [x + 20.5, y], [x + 20.5, y + 20.5], [x, y + 20.5]]
        for x in np.arange(100, 305, 20.5)
        for y in (110, 130.5)
    ]
    ring = [[400.0, 400.0], [700.0, 400.0], [700.0, 700.0], [400.0, 700.0]]
    hole = [[500.0, 500.0], [600.0, 500.0], [600.0, 600.0], [500.0, 600.0]]
    shapes = [[square] for square in squares * 2] + [[ring, hole], [hole[::-1]]]
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps({"type": "MultiPolygon", "coordinates": shapes}))
    expected = 10 * 2 * 20.5**2 + 300**2
    assert masks.from_geojson(path, VIEW).sum() * 256 == pytest.approx(expected, rel=5e-3)
