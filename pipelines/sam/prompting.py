"""Prompts as people give them, in pixels of the image, and as the network takes them."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from pipelines.device import send
from pipelines.errors import UsageError
from pipelines.sam.axis import LOW_RES_SIDE
from pipelines.sam.frame import Frame
from pipelines.sam.network import Prompts

_SHAPES: dict[str, tuple[str, tuple[int | None, ...]]] = {
    "boxes": ("N x 4", (4,)),
    "points": ("N x P x 2", (None, 2)),
    "labels": ("N x P", (None,)),
    "mask_input": (f"N x 1 x {LOW_RES_SIDE} x {LOW_RES_SIDE}", (1, LOW_RES_SIDE, LOW_RES_SIDE)),
}
"""Of each part of prompts: its shape in words, and what follows N in it."""


@dataclass(frozen=True)
class PixelPrompts:
    """N prompts on one image; prompt i is made of the i-th entry of everything given.

    boxes: N x 4 xyxy pixels. points: N x P x 2 (x, y) pixels with labels: N x P (1 on, 0 off, -1 padding). mask_input:
    N x 1 x 256 x 256 logits, as an earlier `low_res_masks`.
    """

    boxes: ArrayLike | None = None
    points: ArrayLike | None = None
    labels: ArrayLike | None = None
    mask_input: ArrayLike | None = None

    def in_frame(self, frame: Frame, device: torch.device) -> Prompts:
        """The prompts in the network's frame. Raises UsageError for parts of other shapes, or that do not fit."""
        parts = {field.name: _tensor(field.name, getattr(self, field.name)) for field in fields(self)}
        given = {name: part for name, part in parts.items() if part is not None}
        if not given:
            raise UsageError("a prompt is needed: boxes, points with labels, or mask_input")
        if ("points" in given) != ("labels" in given) or (
            "points" in given and given["points"].shape[:2] != given["labels"].shape
        ):
            raise UsageError("points (N x P x 2) and labels (N x P) come together and of one length")
        lengths = {name: len(part) for name, part in given.items()}
        if len(set(lengths.values())) > 1:
            raise UsageError(f"prompts differ in number: {lengths}")
        if "boxes" in given:
            given["boxes"] = frame.to_prompt_frame(given["boxes"].reshape(-1, 2, 2)).reshape(-1, 4)
        if "points" in given:
            given["points"] = frame.to_prompt_frame(given["points"])
        given = {name: send(part, device) for name, part in given.items()}
        return Prompts(given.get("points"), given.get("labels"), given.get("boxes"), given.get("mask_input"))


def one_prompt(
    box: ArrayLike | None, point_coords: ArrayLike | None, point_labels: ArrayLike | None, mask_input: ArrayLike | None
) -> PixelPrompts:
    """A prompt in segment-anything's own names, each part without N."""
    parts = (None if part is None else np.asarray(part)[None] for part in (box, point_coords, point_labels, mask_input))
    return PixelPrompts(*parts)


def _tensor(name: str, value: ArrayLike | None) -> Tensor | None:
    if value is None:
        return None
    text, shape = _SHAPES[name]
    array = np.asarray(value, dtype=np.float32)
    if array.size == 0:
        array = array.reshape(0, *(size or 0 for size in shape))
    fits = array.ndim == len(shape) + 1 and all(
        want in (None, got) for want, got in zip(shape, array.shape[1:], strict=True)
    )
    if not fits or not np.isfinite(array).all():
        raise UsageError(f"{name}: expected finite numbers of shape {text}, got shape {array.shape}")
    return torch.from_numpy(array)
