"""Masks out to QuPath and back."""

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


def test_a_mask_survives_the_way_to_geojson_and_back(tmp_path):
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
    assert [10.5 * 16, 10.5 * 16] in [point for ring in corners for point in ring]
    assert sorted(len(f["geometry"]["coordinates"]) for f in document["features"]) == [1, 1, 2]


def test_a_multipolygon_drawn_by_hand_covers_its_areas(tmp_path):
    boxes = [
        [[[0, 0], [320, 0], [320, 320], [0, 320], [0, 0]]],
        [[[800, 0], [960, 0], [960, 160], [800, 160], [800, 0]]],
    ]
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps([{"type": "Feature", "geometry": {"type": "MultiPolygon", "coordinates": boxes}}]))
    mask = masks.from_geojson(path, VIEW)
    assert mask[:19, :19].all()
    assert mask[:9, 51:59].all()
    assert mask.sum() < 1.15 * (20 * 20 + 10 * 10)  # outlines are part of the area


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
def test_what_is_no_area_is_refused_by_name(tmp_path, text):
    path = tmp_path / "a.geojson"
    path.write_text(text)
    with pytest.raises(SlideError, match=r"a\.geojson"):
        masks.from_geojson(path, VIEW)


def test_a_byte_order_mark_is_no_obstacle(tmp_path):
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps({"type": "Polygon", "coordinates": [[[0, 0], [99, 0], [99, 99], [0, 99]]]}), "utf-8-sig")
    assert masks.from_geojson(path, VIEW).any()
