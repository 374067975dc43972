"""Converts tissue masks to GeoJSON, which QuPath opens and edits, and back to the mask of a slide.

Polygons with holes (RFC 7946), level-0 pixels with y downwards as in QuPath, one Feature per island.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from mcti.slides import polygons
from mcti.slides.polygons import Coverage
from mcti.slides.status import SlideError, Status
from mcti.slides.tissue import Mask, Overview

_COLOUR = (0, 160, 80)


def to_geojson(mask: Mask, view: Overview) -> dict[str, Any]:
    """The islands of a mask (h, w) as a FeatureCollection of annotations called Tissue, outlined along the pixels."""
    islands = polygons.outlines(mask)
    features = [_feature([_ring(ring, view) for ring in island]) for island in islands]
    return {"type": "FeatureCollection", "features": features}


def from_geojson(path: Path, view: Overview) -> Coverage:
    """The share (h, w) of each pixel that the polygons and multipolygons of a GeoJSON file cover, without holes.

    The area is exact, independent of the pixel size; where polygons overlap, see polygons.union.
    Raises SlideError: READ_ERROR when the file is no GeoJSON of areas, NO_TISSUE when it covers no pixel.
    """
    height, width = view.picture.shape[:2]
    shapes = [[_points(ring, view, path) for ring in polygon] for polygon in _polygons(path) if polygon]
    covered = polygons.union(shapes, (height, width))
    if not covered.any():
        raise SlideError(Status.NO_TISSUE, f"the mask {path.name} covers no pixel")
    return covered.astype(np.float32)


def mostly_covered(covered: Mask | Coverage) -> Mask:
    """The pixels (h, w) of which at least half is covered, for outlines and previews."""
    return np.asarray(covered >= 0.5)


def _ring(points: Any, view: Overview) -> list[list[float]]:
    """Corners of overview pixels in level-0 pixels, as the closed ring that GeoJSON requires."""
    scaled = (points * np.asarray(view.scale)).round(2).tolist()
    return [*scaled, scaled[0]]


def _points(ring: Any, view: Overview, path: Path) -> Any:
    try:
        points = np.asarray(ring, np.float64)[:, :2]
        if not np.isfinite(points).all():
            raise ValueError("a coordinate is not finite")
    except (ValueError, IndexError, TypeError) as error:
        raise SlideError(Status.READ_ERROR, f"the mask {path.name} has a ring without numbers ({error})") from error
    return points / np.asarray(view.scale)


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
        rings: list[Any] = []
        for shape in shapes:
            if shape is None:
                raise ValueError("a feature without a geometry")
            if shape["type"] not in ("Polygon", "MultiPolygon"):
                raise ValueError(f"a {shape['type']} has no area")
            rings += shape["coordinates"] if shape["type"] == "MultiPolygon" else [shape["coordinates"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        hint = "export annotations from QuPath as GeoJSON"
        raise SlideError(Status.READ_ERROR, f"the mask {path.name} is no GeoJSON of areas ({error})", hint) from error
    return rings
