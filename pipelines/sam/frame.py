"""Between the original image's frame and the model's: resize, normalise, pad; scale coordinates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from PIL import Image as Pil
from torch import Tensor

from pipelines.sam.prompt_encoder import FRAME
from pipelines.types import Int64, UInt8

MEAN = (123.675 / 255, 116.28 / 255, 103.53 / 255)
STD = (58.395 / 255, 57.12 / 255, 57.375 / 255)


def resized(height: int, width: int, longest: int) -> tuple[int, int]:
    """Height and width of an image scaled so that its longest side is `longest`, rounded as SAM does, not to 0."""
    scale = longest / max(height, width)
    return max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)


@dataclass(frozen=True)
class Frame:
    """One image's geometry: its original size, in pixels."""

    height: int
    width: int

    def to_prompt_frame(self, coordinates: Tensor) -> Tensor:
        """... x 2 (x, y) pixels of the original image -> the 1024 prompt frame, float32."""
        height, width = resized(self.height, self.width, FRAME)
        return coordinates.float() * torch.tensor(
            [width / self.width, height / self.height], dtype=torch.float32, device=coordinates.device
        )

    def windows(self, boxes: ArrayLike, margin: float) -> Int64:
        """N x 4 xyxy boxes -> the pixels that they touch when enlarged on each side by `margin`, a share of their width
        or height: N x 4 (x0, y0, x1, y1), half-open, inside the image. A box outside of it has none: x0 = x1.
        """
        given = np.asarray(boxes, np.float64).reshape(-1, 2, 2)
        corners = np.stack([given.min(1), given.max(1)], 1)
        more = margin * (corners[:, 1] - corners[:, 0])
        reach = np.concatenate([np.floor(corners[:, 0] - more), np.ceil(corners[:, 1] + more)], 1)
        return reach.clip(0, [self.width, self.height] * 2).astype(np.int64)


def preprocess(pixels: UInt8, input_size: int) -> Tensor:
    """H x W x 3 uint8 RGB -> 1 x 3 x S x S float32: PIL bilinear resize, normalise, zero-pad at right and bottom."""
    height, width = resized(pixels.shape[0], pixels.shape[1], input_size)
    small = Pil.fromarray(pixels).resize((width, height), Pil.Resampling.BILINEAR)
    rows = torch.from_numpy(np.array(small)).to(torch.float32).div_(255)
    out = torch.zeros(1, 3, input_size, input_size).contiguous(memory_format=torch.channels_last)
    view = out[0].permute(1, 2, 0)
    view[:height, :width] = rows.sub_(torch.tensor(MEAN)).div_(torch.tensor(STD))
    return out
