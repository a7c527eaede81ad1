"""Masks as polygons: the outlines of their pixels, corner for corner, and several outlines joined into one.

A pixel (x, y) is the square from (x, y) to (x + 1, y + 1), as everywhere here, so the polygons fill exactly the mask's
pixels. Pixels that meet in a corner alone belong to different parts.

Tools fill polygons in two ways. Some count a pixel in by its middle (pycocotools, rasterio); others round corners down
to pixels and fill these with the edges between them (OpenCV, Pillow; so ultralytics, LabelMe). Corners moved a little
into the mask, as `Ring.inset` gives them, fill exactly the mask's pixels for both.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines import rle
from pipelines.types import Bool, Int64, Rle

Float64 = NDArray[np.float64]

_INSET = 0.05
"""Pixels. pycocotools rounds to fifths of a pixel, and files keep some digits."""
_MOST_CANDIDATES = 4096
"""Corners among which the shortest bridges are looked for; of more, every other one, every third one and so on."""


@dataclass(frozen=True)
class Ring:
    """A closed outline, first corner not repeated. corners: N x 2 int64 (x, y) pixels; inward: N x 2 int64 of -1 and 1,
    the diagonal on which the mask lies at each corner.

    Of the outside of a part, the area by the shoelace formula is positive, of a hole negative. It may touch itself.
    """

    corners: Int64
    inward: Int64

    @property
    def inset(self) -> Float64:
        """N x 2 float64: the corners, moved a twentieth of a pixel into the mask."""
        return (self.corners + _INSET * self.inward).round(2)

    @property
    def is_hole(self) -> bool:
        return _signed_area(self.corners) < 0


Part = list[Ring]
"""Pixels that are joined by their sides: the ring around them, then those of its holes."""


def outlines(mask: Rle) -> list[Part]:
    """The parts of a mask, those that begin higher first; none for a mask without pixels."""
    region, x0, y0 = rle.decode_region(mask)
    if not region.size:
        return []
    labels = cv2.connectedComponents(region.view(np.uint8), connectivity=4)[1]
    parts: dict[int, Part] = {}
    for ring in _trace(region):
        x, y = ring.corners[0]  # none is higher, or as high and farther left
        part = parts.setdefault(int(labels[y - 1, x] if ring.is_hole else labels[y, x]), [])
        part.append(Ring(ring.corners + np.array([x0, y0]), ring.inward))
    return list(parts.values())


def _trace(region: Bool) -> list[Ring]:
    """Every ring, in the order of their first corners: a part's outside before its holes.

    Of the corners on a horizontal line, the first and second are the ends of an edge, the third and fourth, and so on;
    likewise on a vertical line. A ring goes along edges of both kinds by turns.
    """
    corners, turns, inward = _corners(region)
    (x, y), (right, down) = corners.T, turns.T
    across, along = _partners(np.lexsort((right, x, y))), _partners(np.lexsort((down, y, x)))
    rings, seen = [], [False] * len(corners)
    for first in np.lexsort((x, y)).tolist():
        if seen[first]:
            continue
        ring, at = [], first
        while not seen[at]:
            seen[at] = seen[across[at]] = True
            ring += [at, across[at]]
            at = along[across[at]]
        left, top = corners[first]
        if not region[top, left]:  # a hole
            ring[1:] = ring[:0:-1]
        rings.append(Ring(corners[ring], inward[ring]))
    return rings


def _corners(region: Bool) -> tuple[Int64, Int64, Int64]:
    """N x 2 each: where the outline turns; on which side of that its horizontal and vertical edge lie, -1 or 1; and
    where the mask lies."""
    padded = np.pad(region, 1).view(np.uint8)
    around = padded[:-1, :-1] | padded[:-1, 1:] << 1 | padded[1:, :-1] << 2 | padded[1:, 1:] << 3
    y, x = np.nonzero(_IS_CORNER[around])
    kinds, places = around[y, x], np.stack([x, y], axis=1)
    twice = _IS_CORNER_TWICE[kinds]
    turns = np.concatenate([_TURNS[kinds], -_TURNS[kinds[twice]]])
    inward = np.concatenate([_INWARD[kinds], -_INWARD[kinds[twice]]])
    return np.concatenate([places, places[twice]]), turns, inward


def _tables() -> tuple[Bool, Bool, Int64, Int64]:
    """By which of the four pixels around a place are on the mask, 1 for the upper left, 2, 4, 8 for the lower right:
    whether the outline turns there, whether twice, and what `_corners` says of the turn, or of the first of two, which
    are opposite."""
    turns, inward = np.zeros((16, 2), np.int64), np.zeros((16, 2), np.int64)
    for pixel, side in {1: (-1, -1), 2: (1, -1), 4: (-1, 1), 8: (1, 1)}.items():
        turns[pixel] = inward[pixel] = turns[15 - pixel] = side
        inward[15 - pixel] = -turns[pixel]
    for pixels, first in {1 + 8: 1, 2 + 4: 2}.items():
        turns[pixels] = inward[pixels] = turns[first]
    return turns[:, 0] != 0, np.isin(np.arange(16), (1 + 8, 2 + 4)), turns, inward


_IS_CORNER, _IS_CORNER_TWICE, _TURNS, _INWARD = _tables()


def _partners(order: Int64) -> list[int]:
    """The other of each two that follow each other in the order."""
    partners = np.empty_like(order)
    partners[order[::2]], partners[order[1::2]] = order[1::2], order[::2]
    others: list[int] = partners.tolist()
    return others


def _signed_area(corners: Int64) -> float:
    """By the shoelace formula."""
    (x, y), (next_x, next_y) = corners.T, np.roll(corners, -1, axis=0).T
    return float((x * next_y - next_x * y).sum()) / 2


def simple(ring: Ring) -> list[Ring]:
    """The ring in pieces that do not touch themselves: cut where it comes back to a corner."""
    rings, path, places = [], list[int](), dict[tuple[int, int], int]()
    for index, (x, y) in enumerate([*ring.corners.tolist(), ring.corners[0].tolist()]):
        if (start := places.get((x, y))) is not None:
            piece = path[start:]
            rings.append(Ring(ring.corners[piece], ring.inward[piece]))
            for gone in path[start + 1 :]:
                del places[tuple(ring.corners[gone].tolist())]
            del path[start + 1 :]
        else:
            places[x, y] = len(path)
            path.append(index)
    return rings


def joined(rings: Sequence[Ring]) -> Ring:
    """Rings as one, which goes to the next ring by a bridge and comes back on it: a keyhole.

    Bridges enclose no area. They are the shortest between corners that join all (Prim's algorithm).
    """
    tree = _shortest_bridges(rings)
    inner: dict[int, list[tuple[int, Int64]]] = defaultdict(list)  # by ring: those that hang on its corners
    for child, start, parent, place in reversed(tree):
        inner[parent].append((place, _walk(rings[child], start, inner[child], close=True)))
    corners, inward = np.split(_walk(rings[0], 0, inner[0], close=False), 2, axis=1)
    return Ring(corners, inward)


def _walk(ring: Ring, start: int, inner: Sequence[tuple[int, Int64]], *, close: bool) -> Int64:
    """Around a ring, and around what hangs on its corners. close: come back to the corner that it starts at."""
    own = np.concatenate([ring.corners, ring.inward], axis=1)
    turned, pieces, done = np.roll(own, -start, axis=0), [], 0
    for place, walk in sorted((((place - start) % len(own), walk) for place, walk in inner), key=lambda each: each[0]):
        pieces += [turned[done : place + 1], walk]
        done = place
    return np.concatenate([*pieces, turned[done:], turned[: int(close)]])


def _shortest_bridges(rings: Sequence[Ring]) -> list[tuple[int, int, int, int]]:
    """A ring and the place of its corner, and an earlier ring and the place of its: for each ring but the first."""
    step = ceil(sum(len(ring.corners) for ring in rings) / _MOST_CANDIDATES)
    places = np.concatenate([np.arange(0, len(ring.corners), step) for ring in rings])
    owners = np.repeat(np.arange(len(rings)), [len(range(0, len(ring.corners), step)) for ring in rings])
    x, y = np.concatenate([ring.corners[::step] for ring in rings]).T.astype(np.float32)
    nearest, distances = np.zeros(len(x), np.int64), np.full(len(x), np.inf, np.float32)
    outside, tree, new = np.ones(len(x), np.bool_), [], 0
    for _ in rings[1:]:
        outside &= owners != new
        mine, others = np.flatnonzero(owners == new), np.flatnonzero(outside)
        squares = (x[others, None] - x[mine]) ** 2 + (y[others, None] - y[mine]) ** 2
        closest = squares.argmin(axis=1)
        squares = squares[np.arange(len(others)), closest]
        better = squares < distances[others]
        distances[others[better]], nearest[others[better]] = squares[better], mine[closest[better]]
        end = others[distances[others].argmin()]
        new = int(owners[end])
        tree.append((new, int(places[end]), int(owners[nearest[end]]), int(places[nearest[end]])))
    return tree
