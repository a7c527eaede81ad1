"""Small holes and islands: segment-anything's post-processing of masks (arXiv 2304.02643, appendix B)."""

from __future__ import annotations

import cv2
import numpy as np

from pipelines import rle
from pipelines.types import Bool, Rle


def without_small_regions(mask: Rle, min_area: int) -> Rle:
    """A mask without holes and islands of fewer than min_area pixels, 8-connected; the same object if it has none.

    Holes go first. The largest island stays, however small it is.
    """
    height, width = mask["size"]
    region, x0, y0 = rle.decode_region(mask)
    # Background that reaches out of a margin of min_area pixels has as many, so it is no hole; the rest is seen whole.
    left, top = min(min_area, x0), min(min_area, y0)
    right, bottom = (min(min_area, end) for end in (width - x0 - region.shape[1], height - y0 - region.shape[0]))
    region = np.pad(region, ((top, bottom), (left, right)))
    filled = ~_without_small(~region, min_area, keep_largest=False)
    cleaned = _without_small(filled, min_area, keep_largest=True)
    if (cleaned == region).all():
        return mask
    return rle.from_region(cleaned, x0 - left, y0 - top, height, width)


def _without_small(mask: Bool, min_area: int, *, keep_largest: bool) -> Bool:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA]
    keep = areas >= min_area
    if keep_largest and count > 1 and not keep[1:].any():
        keep[1 + areas[1:].argmax()] = True
    keep[0] = False  # label 0 is what is not in the mask
    kept: Bool = keep[labels]
    return kept
