"""Edge maps as the Berkeley benchmark takes them: thinned to one pixel, and matched one to one within a tolerance."""

from __future__ import annotations

import importlib
import math
from typing import Any

import cv2
import numpy as np

from pipelines.errors import SetupError
from pipelines.evaluation.predictions import Float64
from pipelines.evaluation.protocols import EDGE_TOLERANCE
from pipelines.types import Bool, Int64, UInt8

OUTLIER_COST = 100
"""What a pixel without a partner costs, over the tolerance: so much that as many as can are matched."""


def thin(edges: Bool) -> Bool:
    """Edges one pixel wide: parallel thinning until nothing changes.

    Guo and Hall, "Parallel thinning with two-subiteration algorithms", CACM 1989, algorithm A1, which is what MATLAB's
    bwmorph(edges, 'thin', inf) does.
    """
    current = edges.astype(np.uint8)
    while True:
        before = int(current.sum())
        for removable in _REMOVABLE:
            current[removable[_neighbourhoods(current)] & (current > 0)] = 0
        if int(current.sum()) == before:
            return current.astype(bool)


_WEIGHTS = np.array([[8, 4, 2], [16, 0, 1], [32, 64, 128]], np.float32)
"""Of each neighbour's bit: east first, then against the clock."""


def _neighbourhoods(image: UInt8) -> UInt8:
    """Each pixel's eight neighbours as bits; outside the image is background."""
    return np.asarray(cv2.filter2D(image, cv2.CV_8U, _WEIGHTS, borderType=cv2.BORDER_CONSTANT), np.uint8)


def _removable() -> tuple[Bool, Bool]:
    """By neighbourhood, whether a pixel goes in the first and in the second half of an iteration."""
    bits = (np.arange(256)[:, None] >> np.arange(8)) & 1  # x1 to x8 of the paper
    x = [bits[:, i % 8].astype(bool) for i in range(9)]
    crossings = sum((~x[i] & (x[i + 1] | x[(i + 2) % 8])).astype(int) for i in (0, 2, 4, 6))
    n1 = sum((x[i] | x[i + 1]).astype(int) for i in (0, 2, 4, 6))
    n2 = sum((x[i + 1] | x[(i + 2) % 8]).astype(int) for i in (0, 2, 4, 6))
    least = np.minimum(n1, n2)
    common = (crossings == 1) & (least >= 2) & (least <= 3)
    first = common & ~((x[1] | x[2] | ~x[7]) & x[0])
    second = common & ~((x[5] | x[6] | ~x[3]) & x[4])
    return first, second


_REMOVABLE = _removable()


def scipy(module: str) -> Any:
    """A module of scipy, untyped. Raises SetupError when it is not installed."""
    try:
        return importlib.import_module(f"scipy.{module}")
    except ModuleNotFoundError as error:
        raise SetupError("this needs the package scipy: install it with `pip install 'evsam[bsds]'`") from error


def match_edges(found: Bool, truth: Bool, tolerance: float = EDGE_TOLERANCE) -> tuple[Bool, Bool]:
    """Which pixels of each map have a partner in the other.

    One to one, at most `tolerance` diagonals of the image apart, as many as can, of these the nearest: the assignment
    of least total cost that the benchmark solves (Martin, Fowlkes and Malik, "Learning to Detect Natural Image
    Boundaries", PAMI 2004, appendix B). Raises SetupError when scipy is not installed.
    """
    sparse, graph = scipy("sparse"), scipy("sparse.csgraph")
    reach = tolerance * math.hypot(*found.shape)
    rows, columns, distances = _pairs(found, truth, reach)
    matched = np.zeros(found.shape, np.bool_), np.zeros(truth.shape, np.bool_)
    if not len(rows):
        return matched
    left, row = np.unique(rows, return_inverse=True)  # pixels without any candidate take no part
    right, column = np.unique(columns, return_inverse=True)
    alone = np.arange(len(left))  # each row's own column for staying without a partner
    cost = sparse.coo_array(
        (
            np.concatenate([distances + 1, np.full(len(left), OUTLIER_COST * reach + 1)]),
            (np.concatenate([row, alone]), np.concatenate([column, len(right) + alone])),
        ),
        shape=(len(left), len(right) + len(left)),
    ).tocsr()  # one more each, as a sparse 0 is no edge; every row takes one, so it changes nothing
    chosen, partner = graph.min_weight_full_bipartite_matching(cost)
    paired = partner < len(right)
    matched[0].ravel()[left[chosen[paired]]] = True
    matched[1].ravel()[right[partner[paired]]] = True
    return matched


def _pairs(found: Bool, truth: Bool, reach: float) -> tuple[Int64, Int64, Float64]:
    """Candidates: flat index of a pixel of each map, and their distance, of all pairs at most `reach` pixels apart."""
    width = found.shape[1]
    whole = math.floor(reach)
    padded = np.pad(truth, whole)
    y, x = np.nonzero(found)
    rows, columns, distances = [], [], []
    for dy in range(-whole, whole + 1):
        for dx in range(-whole, whole + 1):
            distance = math.hypot(dy, dx)
            if distance <= reach:
                hit = padded[y + dy + whole, x + dx + whole]
                rows.append(y[hit] * width + x[hit])
                columns.append((y[hit] + dy) * width + x[hit] + dx)
                distances.append(np.full(int(hit.sum()), distance))
    return np.concatenate(rows), np.concatenate(columns), np.concatenate(distances)
