"""Prompts for training, drawn from masks: boxes with noise, foreground points, points that correct a prediction.

Coordinates are those of SAM's 1024 prompt frame; masks are square arrays that cover it, padding included.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.sam.prompt_encoder import PROMPT_SIDE
from pipelines.types import Float32, UInt8

_MOST_NOISE = 20.0  # pixels of the 1024 frame, as in SAM (arXiv 2304.02643, appendix A)


def bounding_boxes(masks: UInt8) -> Float32:
    """N x S x S masks (above half of 255: inside), none of them empty -> N x 4 xyxy in the 1024 frame."""
    edges = []
    for axis in (1, 2):  # columns, then rows
        marks = masks.max(axis) > 127
        edges.append((marks.argmax(1), marks.shape[1] - marks[:, ::-1].argmax(1)))
    (left, right), (top, bottom) = edges
    return (np.stack([left, top, right, bottom], 1) * (PROMPT_SIDE / masks.shape[-1])).astype(np.float32)


def jitter_boxes(rng: np.random.Generator, boxes: Float32, noise: float) -> Float32:
    """Move each side of N x 4 xyxy boxes by normal noise of `noise` times the box's width or height, at most 20 px.

    Boxes stay inside the frame and keep at least a fifth of each side.
    """
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    limit = np.minimum(_MOST_NOISE, 0.4 * sides)
    moved = boxes + (rng.standard_normal(boxes.shape) * noise * sides).clip(-limit, limit)
    return moved.clip(0, PROMPT_SIDE).astype(np.float32)


def draw_points(rng: np.random.Generator, masks: UInt8, count: int) -> Float32:
    """`count` random points inside each of N x S x S masks (with replacement) -> N x count x 2 (x, y)."""
    side = masks.shape[-1]
    points = np.empty((len(masks), count, 2), np.float32)
    for i, mask in enumerate(masks):
        inside: NDArray[np.intp] = np.flatnonzero(mask > 127)
        y, x = np.divmod(rng.choice(inside, count), side)
        points[i] = _centres(np.stack([x, y], 1).astype(np.float32), side)
    return points


def correction_points(predicted: Tensor, target: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """One point per mask, uniformly from where prediction and target differ, or from anywhere when nowhere.

    predicted, target: N x S x S bool. Returns points N x 1 x 2 and labels N x 1 (1: missed, 0: not on the object).
    """
    side = target.shape[-1]
    wrong = (predicted != target).flatten(1).float()
    chance = torch.rand(wrong.shape, generator=generator, device=target.device)
    place = (wrong + chance).argmax(1)  # wrong pixels score 1 to 2, the others less
    labels = target.flatten(1).gather(1, place[:, None]).long()
    points = torch.stack([place % side, place // side], dim=1).float()[:, None]
    return (points + 0.5) * (PROMPT_SIDE / side) - 0.5, labels


def _centres(points: Float32, side: int) -> Float32:
    """Pixel indices of a side x side array -> the 1024 frame, whose encoder adds half a pixel."""
    return (points + np.float32(0.5)) * np.float32(PROMPT_SIDE / side) - np.float32(0.5)
