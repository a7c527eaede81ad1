"""Which masks stay, by the rules of segment-anything's automatic mask generator."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from torchvision.ops import nms

from pipelines.everything.crops import Crop
from pipelines.types import Bool, Float32, Instances, Int64

EDGE = 20
"""Pixels: a box's side this near to a crop's side, and not to the image's, was probably cut off by the crop."""


def suppress(boxes: Float32, scores: ArrayLike, overlap: float, device: torch.device) -> Int64:
    """Non-maximum suppression of N x 4 boxes, in their order of score: indices, best first, equal ones as they come."""
    order = torch.from_numpy(np.asarray(scores, np.float32))
    return nms(torch.from_numpy(boxes).to(device), order.to(device), overlap).cpu().numpy()


def outer_pixels(found: Instances) -> Float32:
    """Boxes as segment-anything counts them, from the centre of the first pixel to that of the last: N x 4 xyxy."""
    return found.detections.boxes - np.array([0, 0, 1, 1], np.float32)


def cut_off(boxes: Float32, crop: Crop, height: int, width: int) -> Bool:
    """Which of N x 4 boxes, `outer_pixels` in the image's frame, end at a side of `crop` inside the image: N bool."""
    near_crop = np.abs(boxes - np.array(crop[:4])) <= EDGE
    near_image = np.abs(boxes - np.array([0, 0, width, height])) <= EDGE
    cut: Bool = (near_crop & ~near_image).any(axis=1)
    return cut
