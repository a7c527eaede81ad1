"""Images as Grounding DINO sees them.

Liu et al., "Grounding DINO: Marrying DINO with Grounded Pre-Training for Open-Set Object Detection" (ECCV 2024); the
sizes are those of its inference code: the short side 800 pixels, the long one at most 1333.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from pipelines.types import Image, UInt8

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SHORT, LONG = 800, 1333
_LEAST_SIDE = 64  # of the canvas: below it the model has fewer places than the 900 boxes it chooses


class Canvas(NamedTuple):
    """B images of different sizes, at the top left of one canvas.

    pixels: B x 3 x H x W float32, normalised, 0 in the padding; padding: B x H x W bool, True where there is no image.
    """

    pixels: Tensor
    padding: Tensor


def scaled_size(height: int, width: int, short: int = SHORT, long: int = LONG) -> tuple[int, int]:
    """The (height, width) that the model sees of an image."""
    least, most = min(height, width), max(height, width)
    side = short if most / least * short <= long else round(long * least / most)
    sizes = (side, int(side * most / least)) if side else (1, long)
    return sizes if height <= width else sizes[::-1]


def place(images: Sequence[Image], device: torch.device, short: int = SHORT, long: int = LONG) -> Canvas:
    """Scale the images and put them on one canvas."""
    scaled = [scale(image, *scaled_size(image.height, image.width, short, long)) for image in images]
    height = max(_LEAST_SIDE, *(len(pixels) for pixels in scaled))
    width = max(_LEAST_SIDE, *(pixels.shape[1] for pixels in scaled))
    canvas = torch.zeros(len(images), 3, height, width)
    padding = torch.ones(len(images), height, width, dtype=torch.bool)
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    for row, pixels in enumerate(scaled):
        corner = np.s_[row, ..., : pixels.shape[0], : pixels.shape[1]]
        canvas[corner] = torch.from_numpy(pixels).permute(2, 0, 1).float().div_(255).sub_(mean).div_(std)
        padding[corner] = False
    return Canvas(canvas.to(device), padding.to(device))


def scale(image: Image, height: int, width: int) -> UInt8:
    """height x width x 3, by PIL's bilinear filter, which is antialiased."""
    return np.array(PIL.Image.fromarray(image.pixels).resize((width, height), PIL.Image.Resampling.BILINEAR))
