"""What a prompt of clicks and a box becomes: points with labels, by a rule of the model's family.

Labels: 1 on the object, 0 off it, 2 and 3 a box's top-left and bottom-right corner, -1 padding. Coordinates are (x, y)
in the 1024 prompt frame. Shapes: N prompts, P points each.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.errors import UsageError

CORNERS = (2.0, 3.0)
PADDING = -1
MOST = 6
"""Points that EfficientSAM sees of a prompt, always."""

Points = tuple[Tensor, Tensor]
"""Coordinates N x P x 2 and labels N x P, float32."""
PointRule = Callable[[Tensor | None, Tensor | None, Tensor | None], Points]
"""Of points N x P x 2 with labels N x P, and boxes N x 4 xyxy: one of them at least."""


def as_given(points: Tensor | None, labels: Tensor | None, boxes: Tensor | None) -> Points:
    """The clicks, then the corners of the box."""
    parts: list[Points] = []
    if points is not None and labels is not None:
        parts.append((points, labels))
    if boxes is not None:
        parts.append((boxes.reshape(-1, 2, 2), boxes.new_tensor([CORNERS]).expand(len(boxes), -1)))
    coords, kinds = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
    return coords, kinds


def padded_without_box(points: Tensor | None, labels: Tensor | None, boxes: Tensor | None) -> Points:
    """As SAM does: the clicks, then the corners of the box, or else a padding point."""
    return as_given(points, labels, boxes) if boxes is not None else _padded(*as_given(points, labels, None), 1, 0)


def always_six(points: Tensor | None, labels: Tensor | None, boxes: Tensor | None) -> Points:
    """As EfficientSAM does (arXiv 2312.00863), which cuts off what is more. Raises UsageError for more than six."""
    coords, kinds = as_given(points, labels, boxes)
    missing = MOST - coords.shape[1]
    if missing < 0:
        raise UsageError(
            f"EfficientSAM sees {MOST} points of a prompt, two of them a box's, and here are {MOST - missing}"
        )
    return _padded(torch.where(coords < 0, -1, coords), kinds, missing, -1)


def _padded(coords: Tensor, kinds: Tensor, more: int, place: int) -> Points:
    """With `more` padding points, at (place, place)."""
    return F.pad(coords, (0, 0, 0, more), value=place), F.pad(kinds, (0, more), value=PADDING)
