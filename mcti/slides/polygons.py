"""Converts polygons to pixels and back with exact areas: coverage of pixels, and outlines along their edges.

Coordinates are pixels of the mask with the origin at the upper left corner of the first pixel, y downwards.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Coverage = NDArray[np.float32]
"""(h, w) share of each pixel that lies inside, 0 to 1."""

_FINE_PIXELS, _FINEST = 4_000_000, 16  # pixels and factor of the finer grid for polygons that overlap
_RIGHT, _DOWN, _LEFT, _UP = (1, 0), (0, 1), (-1, 0), (0, -1)


def coverage(ring: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.float64]:
    """Share (h, w) of each pixel inside a closed ring (n, 2) of x, y, exact up to rounding.

    Green's theorem: each edge, cut at the pixel borders, adds its height to all pixels to its right and a part of it to
    the pixel that it crosses. Parts outside of the mask are ignored.
    """
    height, width = shape
    start, end = ring, np.roll(ring, -1, axis=0)
    x0, y0, x1, y1, sign = _pieces_in_rows(start, end, height)
    row, column, share, inside = _pieces_in_columns(x0, y0, x1, y1, width)
    weight = sign[row] * share
    line = np.floor(np.minimum(y0, y1)[row]).astype(np.int64)
    sums = np.zeros((height, width + 2))
    np.add.at(sums, (line, column), weight * (1 - inside))
    np.add.at(sums, (line, column + 1), weight * inside)
    return np.clip(np.abs(np.cumsum(sums, axis=1)[:, :width]), 0.0, 1.0)


def union(shapes: list[list[NDArray[np.float64]]], size: tuple[int, int]) -> NDArray[np.float64]:
    """Share (h, w) of each pixel inside at least one polygon; each is its outer ring and the rings of its holes.

    Exact for polygons whose boxes do not overlap. The others are drawn up to 16 times finer, because two shares of a
    pixel do not state their overlap: areas are within 0.5 % from a diameter of 12 px on, also for equal polygons.
    """
    covered = np.zeros(size)
    boxes = np.array([_box(shape[0], size) for shape in shapes]).reshape(-1, 4)
    for group in _overlapping(boxes):
        x0, y0 = boxes[group, :2].min(axis=0)
        x1, y1 = boxes[group, 2:].max(axis=0)
        if x1 > x0 and y1 > y0:
            local = [[ring - (x0, y0) for ring in shapes[i]] for i in group]
            covered[y0:y1, x0:x1] += _union_in_box(local, (int(y1 - y0), int(x1 - x0)))
    return np.minimum(covered, 1.0)


def _box(ring: NDArray[np.float64], size: tuple[int, int]) -> list[int]:
    """The pixels of the mask that a ring may touch: first x, first y, end of x, end of y."""
    limits = (size[1], size[0])
    first, end = np.floor(ring.min(axis=0)), np.ceil(ring.max(axis=0))
    return [int(np.clip(edge[i], 0, limits[i])) for edge in (first, end) for i in (0, 1)]


def _overlapping(boxes: NDArray[np.int64]) -> Iterator[list[int]]:
    """Groups of polygons: each shares pixels of its box with another polygon of its group, and with none outside."""
    rest = set(range(len(boxes)))
    while rest:
        group, new = list[int](), [min(rest)]
        rest.discard(new[0])
        while new:
            group.append(new.pop())
            low, high = boxes[group[-1], :2], boxes[group[-1], 2:]
            touching = np.flatnonzero(((boxes[:, :2] < high) & (boxes[:, 2:] > low)).all(axis=1)).tolist()
            new += [i for i in touching if i in rest]
            rest.difference_update(touching)
        yield sorted(group)


def _union_in_box(shapes: list[list[NDArray[np.float64]]], size: tuple[int, int]) -> NDArray[np.float64]:
    height, width = size
    factor = 1 if len(shapes) == 1 else max(min(int((_FINE_PIXELS / (height * width)) ** 0.5), _FINEST), 1)
    fine = np.zeros((height * factor, width * factor))
    for outer, *holes in shapes:
        inside = coverage(outer * factor, fine.shape)
        for hole in holes:
            inside -= coverage(hole * factor, fine.shape)
        # Adjacent areas, as QuPath's eraser leaves them, add up; the overlap of two areas counts once.
        fine = np.minimum(fine + np.maximum(inside, 0), 1)
    return np.asarray(fine.reshape(height, factor, width, factor).mean(axis=(1, 3)), np.float64)


def _pieces_in_rows(start: Any, end: Any, height: int) -> tuple[Any, ...]:
    """Edges cut at whole y, as (x0, y0, x1, y1, sign) with y0 < y1; without horizontal edges and edges outside."""
    down = start[:, 1] < end[:, 1]
    upper, lower = np.where(down[:, None], start, end), np.where(down[:, None], end, start)
    sign = np.where(down, 1.0, -1.0)
    first = np.clip(np.floor(upper[:, 1]), 0, height).astype(np.int64)
    last = np.clip(np.ceil(lower[:, 1]), 0, height).astype(np.int64)
    edge, row = _ranges(first, last)
    y0 = np.maximum(upper[edge, 1], row)
    y1 = np.minimum(lower[edge, 1], row + 1)
    slope = (lower[edge, 0] - upper[edge, 0]) / np.where(lower[edge, 1] == upper[edge, 1], 1, (lower - upper)[edge, 1])
    x0, x1 = (upper[edge, 0] + (y - upper[edge, 1]) * slope for y in (y0, y1))
    keep = y1 > y0
    return x0[keep], y0[keep], x1[keep], y1[keep], sign[edge][keep]


def _pieces_in_columns(x0: Any, y0: Any, x1: Any, y1: Any, width: int) -> tuple[Any, ...]:
    """Pieces cut at whole x, as (piece, column 0 to width, height, mean position in the pixel 0 to 1).

    A piece left of the mask counts fully from the first column on, a piece right of the mask does not count.
    """
    left, right = np.minimum(x0, x1), np.maximum(x0, x1)
    first = np.clip(np.floor(left), -1, width).astype(np.int64)
    last = np.clip(np.ceil(right), 0, width + 1).astype(np.int64)
    piece, column = _ranges(first, np.maximum(last, first + 1))
    a = np.where(column < 0, left[piece], np.maximum(left[piece], column))
    b = np.where(column >= width, right[piece], np.minimum(right[piece], column + 1))
    long = (right - left)[piece]
    share = np.where(long > 0, (b - a) / np.where(long > 0, long, 1), 1.0) * (y1 - y0)[piece]
    middle = np.where(column < 0, 0.0, np.where(column >= width, 0.0, (a + b) / 2 - column))
    return piece, np.clip(column, 0, width), share, middle


def _ranges(first: NDArray[np.int64], last: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each i the numbers first[i] to last[i] - 1: (i, number) as two flat arrays."""
    counts = np.maximum(last - first, 0)
    index = np.repeat(np.arange(len(first)), counts)
    steps = np.arange(len(index)) - np.repeat(np.cumsum(counts) - counts, counts)
    return index, first[index] + steps


def outlines(mask: NDArray[np.bool_]) -> list[list[NDArray[np.int64]]]:
    """The islands of a mask (h, w), each as its outer ring and the rings of its holes, (n, 2) of x, y, not closed.

    Rings follow the borders of pixels, so that their area is that of the pixels. Pixels that touch only at a corner
    belong to different islands.
    """
    import cv2

    _, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    islands: dict[int, list[NDArray[np.int64]]] = {}
    for ring, inside in _rings(mask):
        island = islands.setdefault(int(labels[inside[1], inside[0]]), [])
        island.insert(0, ring) if _area(ring) > 0 else island.append(ring)
    return list(islands.values())


def _rings(mask: NDArray[np.bool_]) -> list[tuple[NDArray[np.int64], tuple[int, int]]]:
    """Closed rings along the borders with the mask on their right, each with a mask pixel at its first step."""
    steps = _steps(mask)
    rings = []
    while steps:
        corner = next(iter(steps))
        heading = next(iter(steps[corner]))
        inside = _right_of(corner, heading)
        rings.append((_walk(steps, corner, heading), inside))
    return rings


def _steps(mask: NDArray[np.bool_]) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """{corner: directions} of all unit steps along a border; two directions where two pixels touch at the corner."""
    padded = np.pad(mask, 1)
    inner = padded[1:-1, 1:-1]
    borders = (
        (_RIGHT, inner & ~padded[:-2, 1:-1], (0, 0)),
        (_DOWN, inner & ~padded[1:-1, 2:], (1, 0)),
        (_LEFT, inner & ~padded[2:, 1:-1], (1, 1)),
        (_UP, inner & ~padded[1:-1, :-2], (0, 1)),
    )
    steps: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for heading, border, (right, down) in borders:
        y, x = np.nonzero(border)
        for corner in zip((x + right).tolist(), (y + down).tolist(), strict=True):
            steps.setdefault(corner, []).append(heading)
    return steps


def _walk(
    steps: dict[tuple[int, int], list[tuple[int, int]]], start: tuple[int, int], heading: tuple[int, int]
) -> NDArray[np.int64]:
    """The corners at which a ring turns; its steps are removed from `steps`."""
    corner, previous, turns = start, (0, 0), []
    while corner in steps:
        directions = steps[corner]
        right = (-previous[1], previous[0])  # with two directions, continue around the same pixel
        if previous != (0, 0):
            heading = right if right in directions else directions[0]
        directions.remove(heading)
        if not directions:
            del steps[corner]
        if heading != previous:
            turns.append(corner)
        corner, previous = (corner[0] + heading[0], corner[1] + heading[1]), heading
        if corner == start and (corner not in steps or (-previous[1], previous[0]) not in steps[corner]):
            break
    return np.asarray(turns, np.int64)


def _right_of(corner: tuple[int, int], heading: tuple[int, int]) -> tuple[int, int]:
    """The pixel to the right of a step."""
    shift = {_RIGHT: (0, 0), _DOWN: (-1, 0), _LEFT: (-1, -1), _UP: (0, -1)}[heading]
    return corner[0] + shift[0], corner[1] + shift[1]


def _area(ring: NDArray[np.int64]) -> float:
    """Signed area (shoelace): positive with the inside on the right, as y points down."""
    x, y = ring[:, 0].astype(np.float64), ring[:, 1].astype(np.float64)
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)
