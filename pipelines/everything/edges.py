"""An edge map from masks: SAM's zero-shot edge detection (arXiv 2304.02643, appendix D.2; RepViT-SAM's too).

The borders of all masks of a sparse grid, as steep as the masks are sure, thinned. Thinning: Canny's non-maximum
suppression, across the direction in which the map itself runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import cv2
import numpy as np
from torch import Tensor

from pipelines import rle
from pipelines.attempts import FAULTS, failure
from pipelines.errors import ImageError
from pipelines.everything.clicks import passing
from pipelines.everything.config import EdgesConfig, GridConfig
from pipelines.everything.crops import Crop, clicks
from pipelines.everything.filters import outer_pixels, suppress
from pipelines.everything.funnel import Funnel
from pipelines.everything.instances import join, take
from pipelines.everything.search import Part, SearchJob, nothing_in
from pipelines.run import Finish, Result
from pipelines.run.stages import StageClock
from pipelines.sam import SamConfig
from pipelines.sam.encoded import Encoded
from pipelines.sam.masks import Upscaler
from pipelines.types import Float32, Image, Instances

_LONGEST_SIDE = 32_766
"""What OpenCV can sample from."""
_AROUND = np.ones((3, 3), np.uint8)
_SMOOTH = 1.0
"""Standard deviation, in pixels, of the window in which an edge's direction is read."""


def edges(sam: SamConfig, config: EdgesConfig, *, offline: bool | None) -> SearchJob:
    """The masks of a sparse grid, none filtered but those alike, and the edge map they give."""
    return SearchJob(sam.build(offline=offline), partial(find_edges, config=config), no_edges)


def no_edges(image: Image) -> Instances:
    """Of an image of one colour."""
    return replace(nothing_in(image), edges=np.zeros((image.height, image.width), np.uint8))


def find_edges(image: Image, encoded: Encoded, clock: StageClock, *, config: EdgesConfig) -> Finish:
    """One image's masks, best predicted IoU first, and its edge map. Raises ImageError for sides too long to thin."""
    if max(image.height, image.width) > _LONGEST_SIDE:
        raise ImageError(f"edges are found in images of at most {_LONGEST_SIDE:,} pixels a side: scale it down")
    whole = Crop(0, 0, image.width, image.height, 0)
    unfiltered = GridConfig(pred_iou_thresh=0, stability_score_thresh=0, points_per_batch=config.points_per_batch)
    part = Part(image, whole, encoded, clock.counter([(image.name, config.points_per_side**2)]))
    with clock("decode"):
        chunks = list(passing(clicks(whole, config.points_per_side), part, unfiltered, Funnel()))
    return partial(_finish, part, chunks, config, clock)


def _finish(part: Part, chunks: Sequence[tuple[Instances, Tensor]], config: EdgesConfig, clock: StageClock) -> Result:
    """The masks, those alike once, and the map of their borders."""
    image, upscaler = part.image, part.encoded.upscaler
    try:
        with clock("edges"):
            found = join([some for some, _ in chunks])
            device = part.encoded.decoding.device
            kept = suppress(outer_pixels(found), found.detections.scores, config.box_nms_thresh, device)
            found = take(found, kept)
            low_res = [logits for _, chunk in chunks for logits in chunk]
            strength = np.zeros((image.height, image.width), np.float32)
            for place, mask in zip(kept, found.rles, strict=True):
                _add_border(strength, upscaler, low_res[place], rle.bbox(mask))
            strength /= strength.max() or 1
            return replace(found, edges=np.rint(255 * thin(strength)).astype(np.uint8))
    except FAULTS as error:
        return failure(image, error)


def _add_border(strength: Float32, upscaler: Upscaler, logits: Tensor, box: list[int]) -> None:
    """Raise `strength`, H x W, just outside a mask to the slope of its probability there. box: the mask's, xywh."""
    height, width = strength.shape
    x0, y0, x1, y1 = (
        max(box[0] - 2, 0),
        max(box[1] - 2, 0),
        min(box[0] + box[2] + 2, width),
        min(box[1] + box[3] + 2, height),
    )
    part = upscaler.logit_window(logits, x0, x1, y0, y1).logits.T
    mask = (part > 0).astype(np.uint8)
    probability = (1 + np.tanh(part / 2)) / 2
    slope = np.hypot(cv2.Sobel(probability, cv2.CV_32F, 1, 0), cv2.Sobel(probability, cv2.CV_32F, 0, 1))
    outside = cv2.dilate(mask, _AROUND) > mask
    np.maximum(strength[y0:y1, x0:x1], slope * outside, out=strength[y0:y1, x0:x1])


def thin(strength: Float32) -> Float32:
    """An edge map, H x W, with 0 where a neighbour across the edge is stronger."""
    dx, dy = cv2.Sobel(strength, cv2.CV_32F, 1, 0), cv2.Sobel(strength, cv2.CV_32F, 0, 1)
    xx, yy, xy = (cv2.GaussianBlur(product, (0, 0), _SMOOTH) for product in (dx * dx, dy * dy, dx * dy))
    angle = np.arctan2(2 * xy, xx - yy) / 2  # of the structure tensor's main axis, which lies across the edge
    across = np.stack([np.cos(angle), np.sin(angle)])
    y, x = np.mgrid[: strength.shape[0], : strength.shape[1]].astype(np.float32)
    sides = [
        cv2.remap(
            strength, x + sign * across[0], y + sign * across[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT
        )
        for sign in (1, -1)
    ]
    return np.where((strength >= sides[0]) & (strength >= sides[1]), strength, 0)
