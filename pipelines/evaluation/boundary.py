"""The band inside a mask's outline. Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation
Evaluation", CVPR 2021, section 4: the mask's pixels within d of its outline, where d is 2 % of the image's diagonal.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from pipelines import rle
from pipelines.types import Rle

RATIO = 0.02
"""Width of the band over the image's diagonal."""


def band_width(height: int, width: int) -> int:
    """d in pixels, at least 1."""
    return max(1, round(RATIO * math.hypot(height, width)))


def boundary(mask: Rle) -> Rle:
    """The mask without the pixels from which a square of 2 d + 1 fits into it; the image's border is an outline too.

    Works on the mask's bounding box alone. Raises DataError for a damaged mask.
    """
    height, width = mask["size"]
    region, x0, y0 = rle.decode_region(mask)
    side = 2 * band_width(height, width) + 1
    if min(region.shape) < side:
        return mask
    solid = np.pad(region.view(np.uint8), 1)
    core = cv2.erode(solid, np.ones((side, side), np.uint8))[1:-1, 1:-1]
    band = region & (core == 0)
    return rle.from_region(band, x0, y0, height, width)
