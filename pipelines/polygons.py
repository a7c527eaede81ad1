"""COCO's polygons as masks, pixel for pixel as pycocotools draws them, in memory that the image bounds.

pycocotools (common/maskApi.c, rleFrPoly) walks the whole outline at five times the scale, point by point, also where it
is far outside of the image: a few corners a million pixels away take gigabytes. Here it draws what it can draw well;
of any longer outline only the places are worked out where it crosses a column of the image, in the same arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from pipelines import rle
from pipelines.types import Int64, Rle

Float64 = NDArray[np.float64]

_SCALE = 5
"""pycocotools' points per pixel."""
_MOST_POINTS = 2**22
"""Points of an outline that pycocotools is left to walk; it takes 16 bytes for each."""
_FAR = 1e8
"""Coordinates near those at which pycocotools' 32-bit numbers overflow."""
_TOGETHER = 64
"""Polygons drawn together, each of which has runs of its own."""
_AT_ONCE = 2**18
"""Edges times columns looked at together."""


def draw(polygons: Sequence[Sequence[float]], height: int, width: int) -> Rle:
    """The union of polygons x1, y1, x2, y2, ... of three corners or more, each number finite and below 1e15."""
    if not polygons:
        return rle.from_runs([height * width], height, width)
    parts: list[Any] = []
    for start in range(0, len(polygons), _TOGETHER):
        some = polygons[start : start + _TOGETHER]
        short = [polygon for polygon in some if _is_short(polygon)]
        drawn: list[Any] = coco_mask.frPyObjects(short, height, width) if short else []
        drawn += [_draw_long(polygon, height, width) for polygon in some if not _is_short(polygon)]
        parts.append(coco_mask.merge(drawn))
    merged = coco_mask.merge(parts)
    return Rle(size=[height, width], counts=merged["counts"].decode("ascii"))


def _is_short(polygon: Sequence[float]) -> bool:
    """Whether pycocotools can be left to draw it."""
    low, high = min(polygon), max(polygon)
    if low < -_FAR or high > _FAR:
        return False
    if _SCALE * len(polygon) * (high - low) <= _MOST_POINTS:  # no edge is longer than the whole
        return True
    corners = np.array(polygon, np.float64).reshape(-1, 2)
    lengths = np.abs(corners - np.roll(corners, -1, axis=0)).max(1)
    return bool(_SCALE * lengths.sum() + len(lengths) <= _MOST_POINTS)


def _draw_long(polygon: Sequence[float], height: int, width: int) -> Rle:
    """One polygon, from where its outline crosses columns: each crossing turns all that is below it inside out."""
    edges = _edges(np.trunc(_SCALE * np.array(polygon, np.float64).reshape(-1, 2) + 0.5), width)
    parts = [np.zeros(0, np.int64)]
    if len(edges):
        first = max(0, int(edges[:, [0, 2]].min()) // _SCALE)
        stop = min(width, int(edges[:, [0, 2]].max()) // _SCALE + 1)
        step = max(1, _AT_ONCE // len(edges))
        for column in range(first, stop, step):
            columns = np.arange(column, min(stop, column + step))
            found, times = np.unique(_crossings(edges, columns, height), return_counts=True)
            parts.append(found[times % 2 == 1])
    places = np.concatenate(parts)
    # Ascending; the foot of a column, the head of the next one, may be there twice, which undoes itself.
    once = (np.diff(places, prepend=-1) > 0) & (np.diff(places, append=-1) != 0)
    places = places[once & (places < height * width)]
    return rle.from_runs(np.diff(places, prepend=0, append=height * width), height, width)


def _edges(points: Float64, width: int) -> Float64:
    """The edges that can cross a column: E x 4, x and y of one end and of the other.

    points: N x 2, whole numbers. pycocotools walks an edge along the longer of its sides (x where they are equal), from
    the end with the lesser coordinate.
    """
    x, y = points.T
    end_x, end_y = np.roll(x, -1), np.roll(y, -1)
    backwards = np.where(np.abs(end_x - x) >= np.abs(end_y - y), x > end_x, y > end_y)[:, None]
    edges: Float64 = np.where(backwards, np.stack([end_x, end_y, x, y], 1), np.stack([x, y, end_x, end_y], 1))
    left, right = edges[:, [0, 2]].min(1), edges[:, [0, 2]].max(1)
    near: Float64 = edges[(right > 2) & (left <= _SCALE * (width - 1) + 2)]
    return near


def _crossings(edges: Float64, columns: Int64, height: int) -> Int64:
    """Where edges cross the middles of columns, as places in the image read down its columns.

    A crossing lies at the upper of the two points of the outline that are beside the middle.
    """
    before = columns.astype(np.float64) * _SCALE + 2  # the last point left of each middle
    left, right = edges[:, [0, 2]].min(1)[:, None], edges[:, [0, 2]].max(1)[:, None]
    of_edge, of_column = np.nonzero((left <= before) & (right > before))
    crossing, before = edges[of_edge], before[of_column]
    flat = np.abs(crossing[:, 2] - crossing[:, 0]) >= np.abs(crossing[:, 3] - crossing[:, 1])
    point = np.empty(len(crossing))
    point[flat] = _y_of_flat(crossing[flat], before[flat])
    point[~flat] = _y_of_steep(crossing[~flat], before[~flat])
    rows = np.ceil(np.clip((point + 0.5) / _SCALE - 0.5, 0, height)).astype(np.int64)
    return columns[of_column] * height + rows


def _y_of_flat(edges: Float64, before: Float64) -> Float64:
    """Edges that are walked along x: y of each point is rounded."""
    x, y, end_x, end_y = edges.T
    slope, steps = (end_y - y) / (end_x - x), before - x
    upper: Float64 = np.minimum(np.trunc(y + slope * steps + 0.5), np.trunc(y + slope * (steps + 1) + 0.5))
    return upper


def _y_of_steep(edges: Float64, before: Float64) -> Float64:
    """Edges that are walked along y: x of each point is rounded, and the first one on the other side looked for."""
    x, y, end_x, end_y = edges.T
    slope, middle = (end_x - x) / (end_y - y), before + 1

    def short_of(steps: Float64) -> Float64:
        reached = x + slope * steps + 0.5
        short: Float64 = np.where(slope > 0, reached < middle, reached >= middle).astype(np.float64)
        return short

    guess = np.ceil((middle - 0.5 - x) / slope)  # off by one at most
    upper: Float64 = y + guess - 2 + short_of(guess - 1) + short_of(guess)
    return upper
