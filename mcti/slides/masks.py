"""Tissue masks as GeoJSON that QuPath opens and edits, and back as the mask of a slide.

Polygons with holes (RFC 7946), level-0 pixels with y downwards as QuPath has it, one Feature an island.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from mcti.slides.status import SlideError, Status
from mcti.slides.tissue import Mask, Overview

_COLOUR = (0, 160, 80)


def to_geojson(mask: Mask, view: Overview) -> dict[str, Any]:
    """The islands of a mask (h, w) as a FeatureCollection of annotations called Tissue."""
    import cv2

    outlines, tree = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    rings: dict[int, list[list[list[float]]]] = {i: [] for i in range(len(outlines)) if tree[0][i][3] < 0}
    for i, outline in enumerate(outlines):  # an island's own ring stands before its holes
        parent = int(tree[0][i][3])
        ring = _ring(outline[:, 0], view)
        rings[i].insert(0, ring) if parent < 0 else rings[parent].append(ring)
    return {"type": "FeatureCollection", "features": [_feature(polygon) for polygon in rings.values()]}


def from_geojson(path: Path, view: Overview) -> Mask:
    """The mask (h, w) that a GeoJSON file draws over a slide: polygons and multipolygons, holes left out.

    Raises
        SlideError: READ_ERROR for a file that is no GeoJSON, NO_TISSUE for one that covers nothing.
    """
    import cv2

    mask = np.zeros(view.picture.shape[:2], np.uint8)
    for polygon in _polygons(path):
        rings = [_pixels(ring, view, path) for ring in polygon]
        part = np.zeros_like(mask)
        cv2.fillPoly(part, rings[:1], 1)
        for hole in rings[1:]:  # a hole's outline runs over tissue, so it stays
            cv2.fillPoly(part, [hole], 0)
            cv2.polylines(part, [hole], True, 1)
        mask |= part
    if not mask.any():
        raise SlideError(Status.NO_TISSUE, f"the mask {path.name} covers nothing")
    return np.asarray(mask > 0)


def _ring(points: Any, view: Overview) -> list[list[float]]:
    """Pixel centres of the coarse picture as level-0 pixels, closed as GeoJSON wants it."""
    scaled = ((points + 0.5) * np.asarray(view.scale)).round(2).tolist()
    return [*scaled, scaled[0]]


def _pixels(ring: Any, view: Overview, path: Path) -> Any:
    try:
        points = np.asarray(ring, np.float64)[:, :2]
        if not np.isfinite(points).all():
            raise ValueError("a coordinate is not finite")
    except (ValueError, IndexError, TypeError) as error:
        raise SlideError(Status.READ_ERROR, f"the mask {path.name} has a ring without numbers ({error})") from error
    limit = 4.0 * max(view.picture.shape)  # far outside is outside; cv2 takes 32-bit integers
    return np.rint(np.clip(points / np.asarray(view.scale) - 0.5, -limit, limit)).astype(np.int32)


def _feature(polygon: list[list[list[float]]]) -> dict[str, Any]:
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": polygon},
        "properties": {"objectType": "annotation", "classification": {"name": "Tissue", "color": list(_COLOUR)}},
    }


def _polygons(path: Path) -> list[Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
        features = document["features"] if isinstance(document, dict) and "features" in document else document
        shapes = [f.get("geometry", f) for f in (features if isinstance(features, list) else [features])]
        polygons: list[Any] = []
        for shape in shapes:
            if shape is None:
                raise ValueError("an object without a geometry")
            if shape["type"] not in ("Polygon", "MultiPolygon"):
                raise ValueError(f"a {shape['type']} has no area")
            polygons += shape["coordinates"] if shape["type"] == "MultiPolygon" else [shape["coordinates"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        mend = "export annotations from QuPath as GeoJSON"
        raise SlideError(Status.READ_ERROR, f"the mask {path.name} is no GeoJSON of areas ({error})", mend) from error
    return polygons
