"""Instances of a whole image: made, joined and picked from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipelines import rle
from pipelines.categories import OBJECT
from pipelines.types import Clicks, Detections, Float32, Image, Instances, Int64, Masks, Rle


def instances_of(
    rles: Sequence[Rle], predicted_iou: Float32, stability: Float32, points: Float32, crop_boxes: Float32
) -> Instances:
    """N masks that are not empty as instances: boxes are the masks', scores their predicted IoU.

    predicted_iou, stability: N. points: N x 2 and crop_boxes: N x 4 xyxy, pixels of the image.
    """
    boxes = np.array([rle.bbox(mask) for mask in rles], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    detections = Detections(boxes, predicted_iou, np.full(len(rles), OBJECT.id, np.int64))
    return Instances(detections, Masks(tuple(rles), predicted_iou, stability), Clicks(points, crop_boxes))


def take(found: Instances, index: Int64) -> Instances:
    """Those at `index`, in its order."""
    masks, clicks = _parts(found)
    return instances_of(
        [masks.rles[i] for i in index],
        masks.predicted_iou[index],
        masks.stability_score[index],
        clicks.points[index],
        clicks.crop_boxes[index],
    )


def replace_masks(found: Instances, rles: Sequence[Rle]) -> Instances:
    """The same instances with other masks."""
    masks, clicks = _parts(found)
    return instances_of(rles, masks.predicted_iou, masks.stability_score, clicks.points, clicks.crop_boxes)


def join(parts: Sequence[Instances]) -> Instances:
    """All of them, in order."""
    masks = [_parts(part)[0] for part in parts]
    clicks = [_parts(part)[1] for part in parts]
    none = np.zeros(0, np.float32)
    return instances_of(
        [mask for part in masks for mask in part.rles],
        np.concatenate([none, *(part.predicted_iou for part in masks)]),
        np.concatenate([none, *(part.stability_score for part in masks)]),
        np.concatenate([none.reshape(0, 2), *(part.points for part in clicks)]),
        np.concatenate([none.reshape(0, 4), *(part.crop_boxes for part in clicks)]),
    )


BLANK = "the image has one colour alone"
"""Why an image that `is_blank` has no masks."""


def is_blank(image: Image) -> bool:
    """Whether an image has one colour alone."""
    return bool((image.pixels == image.pixels[0, 0]).all())


def _parts(found: Instances) -> tuple[Masks, Clicks]:
    assert found.masks is not None and found.clicks is not None, "a search of the whole image gives both"
    return found.masks, found.clicks
