"""Between the original image's frame and the model's: resize, normalise, pad; scale coordinates.

Families differ in how they fit an image into the network's square input, see `Fit`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from PIL import Image as Pil
from torch import Tensor

from pipelines.sam.prompt_encoder import PROMPT_SIDE
from pipelines.types import Int64, UInt8

MEAN = (123.675 / 255, 116.28 / 255, 103.53 / 255)
STD = (58.395 / 255, 57.12 / 255, 57.375 / 255)


Resample = Callable[[UInt8, int, int], Tensor]
"""H x W x 3 uint8, to a height and a width -> height x width x 3 float32, 0 to 1."""


def resized(height: int, width: int, longest: int) -> tuple[int, int]:
    """Height and width of an image scaled so that its longest side is `longest`, rounded as SAM does, not to 0."""
    scale = longest / max(height, width)
    return max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)


def truncated(height: int, width: int, longest: int) -> tuple[int, int]:
    """As `resized`, but the shorter side is cut to whole pixels."""
    return max(height * longest // max(height, width), 1), max(width * longest // max(height, width), 1)


def squeezed(height: int, width: int, longest: int) -> tuple[int, int]:
    """The whole square, whatever the image's shape."""
    return longest, longest


def bilinear(pixels: UInt8, height: int, width: int, method: Pil.Resampling = Pil.Resampling.BILINEAR) -> Tensor:
    """As Pillow does on whole numbers; where it makes smaller it averages."""
    small = Pil.fromarray(pixels).resize((width, height), method)
    return torch.from_numpy(np.array(small)).to(torch.float32).div_(255)


def bicubic(pixels: UInt8, height: int, width: int) -> Tensor:
    """As `bilinear`, with Pillow's other method."""
    return bilinear(pixels, height, width, Pil.Resampling.BICUBIC)


def bilinear_without_average(pixels: UInt8, height: int, width: int) -> Tensor:
    """As torch does on floats: between neighbours alone, also where it makes smaller."""
    wide = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].float().div_(255)
    return F.interpolate(wide, (height, width), mode="bilinear", align_corners=False)[0].permute(1, 2, 0)


@dataclass(frozen=True)
class Fit:
    """How images fit into a network's square, and its masks back into images; SAM's, where nothing is said.

    size: of the image in a square, by (height, width, side); at the right and the bottom of it are zeros. resample: to
    that size. evenly: prompts are scaled alike on both axes, as the longest side is; else each as its axis is. direct:
    low-res masks go to the image's size in one step; else by way of the 1024 frame. upscaling: torch's mode for that.
    """

    size: Callable[[int, int, int], tuple[int, int]] = resized
    resample: Resample = bilinear
    evenly: bool = False
    direct: bool = False
    upscaling: str = "bilinear"

    @property
    def squeezes(self) -> bool:
        """Whether an image takes the whole square, whatever its shape."""
        return self.size is squeezed


PADDED = Fit()


@dataclass(frozen=True)
class Frame:
    """One image's geometry: its original size, in pixels, and how it fits into the network's square."""

    height: int
    width: int
    fit: Fit = PADDED

    def to_prompt_frame(self, coordinates: Tensor) -> Tensor:
        """... x 2 (x, y) pixels of the original image -> the 1024 prompt frame, float32."""
        height, width = self.fit.size(self.height, self.width, PROMPT_SIDE)
        scales = [width / self.width, height / self.height]
        if self.fit.evenly:
            scales = [PROMPT_SIDE / max(self.height, self.width)] * 2
        return coordinates.float() * torch.tensor(scales, dtype=torch.float32, device=coordinates.device)

    def windows(self, boxes: ArrayLike, margin: float) -> Int64:
        """N x 4 xyxy boxes -> the pixels that they touch when enlarged on each side by `margin`, a share of their width
        or height: N x 4 (x0, y0, x1, y1), half-open, inside the image. A box outside of it has none: x0 = x1.
        """
        given = np.asarray(boxes, np.float64).reshape(-1, 2, 2)
        corners = np.stack([given.min(1), given.max(1)], 1)
        more = margin * (corners[:, 1] - corners[:, 0])
        reach = np.concatenate([np.floor(corners[:, 0] - more), np.ceil(corners[:, 1] + more)], 1)
        return reach.clip(0, [self.width, self.height] * 2).astype(np.int64)


def preprocess(pixels: UInt8, input_size: int, fit: Fit = PADDED) -> Tensor:
    """H x W x 3 uint8 RGB -> 1 x 3 x S x S float32: resize, normalise, zero-pad at right and bottom."""
    height, width = fit.size(pixels.shape[0], pixels.shape[1], input_size)
    rows = fit.resample(pixels, height, width)
    out = torch.zeros(1, 3, input_size, input_size).contiguous(memory_format=torch.channels_last)
    view = out[0].permute(1, 2, 0)
    view[:height, :width] = rows.sub_(torch.tensor(MEAN)).div_(torch.tensor(STD))
    return out
