"""A simulated user who clicks where the mask is most wrong.

Sofiiuk et al., "Reviving Iterative Training with Mask Guidance for Interactive Segmentation" (RITM), 2021, section 3.1,
in the form that EfficientViT-SAM is evaluated with: the next click is the pixel farthest from the edge of a region of
errors; every round sends all clicks so far and no mask; of equally far pixels the first in reading order is taken.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from pipelines import rle
from pipelines.sam.encoded import Encoded
from pipelines.types import Bool, Float32, Masks, Rle


def next_click(mask: Bool, truth: Bool, clicked: Sequence[tuple[int, int]]) -> tuple[int, int, int]:
    """(x, y, label) of the next click; label 1 adds to the mask, 0 takes away from it.

    mask, truth: H x W bool. clicked: (x, y) of earlier clicks, never clicked again. Distances are Euclidean, to the
    nearest pixel that is not of the region; outside the image is not of any.
    """
    missing = _depth(truth & ~mask, clicked)
    surplus = _depth(mask & ~truth, clicked)
    positive = bool(missing.max() > surplus.max())
    y, x = np.unravel_index(int((missing if positive else surplus).argmax()), mask.shape)
    return int(x), int(y), int(positive)


def _depth(region: Bool, clicked: Sequence[tuple[int, int]]) -> Float32:
    padded = np.pad(region.view(np.uint8), 1)
    depth = np.asarray(cv2.distanceTransform(padded, cv2.DIST_L2, 0), np.float32)[1:-1, 1:-1]
    for x, y in clicked:
        depth[y, x] = 0
    return depth


def click_rounds(encoded: Encoded, truths: Sequence[Rle], rounds: Sequence[int]) -> list[Masks]:
    """Click on every object of an image; the masks after each number of clicks in `rounds`.

    Objects are clicked side by side, so that one round is one call. rounds: ascending, each at least 1.
    """
    shapes = [rle.decode(truth) for truth in truths]
    masks = [np.zeros_like(shape) for shape in shapes]
    clicks: list[list[tuple[int, int, int]]] = [[] for _ in truths]
    found: list[Masks] = []
    for number in range(1, rounds[-1] + 1):
        for mask, shape, done in zip(masks, shapes, clicks, strict=True):
            done.append(next_click(mask, shape, [(x, y) for x, y, _ in done]))
        given = np.array(clicks, np.float32)  # N x number x (x, y, label)
        predicted = encoded.segment_points(given[:, :, :2], given[:, :, 2])
        if number in rounds:
            found.append(predicted)
        if number < rounds[-1]:
            masks = [rle.decode(mask) for mask in predicted.rles]
    return found
