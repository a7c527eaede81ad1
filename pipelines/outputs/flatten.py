"""One id per pixel: overlapping masks as a label map, without specks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines import rle
from pipelines.types import Rle

LabelMap = NDArray[np.int32]


@dataclass(frozen=True)
class Flat:
    """labels: H x W, 0 where nothing is, i + 1 on mask i. filled: pixels of holes, removed: pixels of islands."""

    labels: LabelMap
    filled: int
    removed: int


def flatten(rles: Sequence[Rle], order: Sequence[int], height: int, width: int, min_area: int) -> Flat:
    """Paint masks in `order`, later ones over earlier ones, then remove islands and fill holes, 8-connected.

    An island is a visible part of fewer than min_area pixels, unless it is most of its mask. A hole is a part of fewer
    than min_area pixels that no mask covers; it goes to the neighbour with the longest border.
    """
    labels = np.zeros((height, width), np.int32)
    for i in order:
        region, x0, y0 = rle.decode_region(rles[i])
        labels[y0 : y0 + region.shape[0], x0 : x0 + region.shape[1]][region] = i + 1
    removed = sum(_remove_islands(labels, i + 1, mask, min_area) for i, mask in enumerate(rles) if rle.area(mask))
    return Flat(labels, _fill_holes(labels, min_area), removed)


def _remove_islands(labels: LabelMap, label: int, mask: Rle, min_area: int) -> int:
    """Set a label's islands to 0, in place; how many pixels that were."""
    x, y, w, h = rle.bbox(mask)
    window = labels[y : y + h, x : x + w]
    _, parts, stats, _ = cv2.connectedComponentsWithStats((window == label).astype(np.uint8), connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA]
    island = (areas < min_area) & (2 * areas <= rle.area(mask))
    island[0] = False  # part 0 is everything else
    window[island[parts]] = 0
    return int(areas[island].sum())


def _fill_holes(labels: LabelMap, min_area: int) -> int:
    """Give small unlabelled parts to a neighbour, in place; how many pixels that were."""
    count, parts, stats, _ = cv2.connectedComponentsWithStats((labels == 0).astype(np.uint8), connectivity=8)
    filled = 0
    for part in range(1, count):
        x, y, w, h, area = stats[part].tolist()
        if area < min_area:
            around = slice(max(y - 1, 0), y + h + 1), slice(max(x - 1, 0), x + w + 1)
            hole = parts[around] == part
            border = cv2.dilate(hole.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(np.bool_) & ~hole
            if border.any():
                labels[around][hole] = np.bincount(labels[around][border]).argmax()
                filled += area
    return filled
