"""The parity gate: an exported network is used only when its masks are those of torch in fp32, on real photographs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipelines.errors import DataError, ImageError, UsageError
from pipelines.images import sample_photos
from pipelines.images.load import load
from pipelines.images.sources import resolve
from pipelines.sam.predictor import SamPredictor
from pipelines.types import Bool, Float32, UInt8

PHOTOS = 64
"""Enough to be shown, and to calibrate with."""
TIE = 0.01
"""Of three masks another may be chosen only if torch predicts IoUs for both that differ by less."""

MEAN, WORST = 0.99, 0.97
"""The least mask IoU: on average over all prompts, and for any one of them."""


@dataclass(frozen=True)
class Parity:
    """encoder_error: the largest over photos of |theirs - torch's| / |torch's|, Euclidean. mean_iou: of the masks that
    torch chooses; worst_iou: of the `steady` ones among them, whose stability score in torch is at least `stability`,
    or of all when none is; worst_iou_of_all: steady or not.
    same_choice: the share of prompts for which the same of three masks is chosen, or one that torch holds as good.
    int8_share: of the encoder's multiplications by weights.
    """

    photos: int
    prompts: int
    stability: float
    steady: int
    encoder_error: float
    mean_iou: float
    worst_iou: float
    worst_iou_of_all: float
    same_choice: float
    int8_share: float = 0.0

    @property
    def faults(self) -> tuple[str, ...]:
        """Why the gate stays shut; empty when it opens."""
        checks = {
            f"the embedding is off by {self.encoder_error:.3g} of its length": np.isfinite(self.encoder_error),
            f"mean mask IoU {self.mean_iou:.4f} < {MEAN}": self.mean_iou >= MEAN,
            f"worst mask IoU {self.worst_iou:.4f} < {WORST}": self.worst_iou >= WORST,
            f"the same mask is chosen for {self.same_choice:.1%} of prompts only": self.same_choice == 1,
        }
        return tuple(fault for fault, fine in checks.items() if not fine)

    def record(self) -> dict[str, Any]:
        """What the report's file holds. JSON has no NaN: an error without a number is null."""
        error = self.encoder_error if np.isfinite(self.encoder_error) else None
        return {"passed": not self.faults, **asdict(self), "faults": self.faults, "encoder_error": error}


def photographs(folder: Path | None = None, which: slice = slice(None)) -> Iterator[UInt8]:
    """The images in `folder`, at most PHOTOS of all parts of it, or the two that ultralytics ships, read one by one.

    which: picks among them. Raises UsageError when none are left, and DataError for one that cannot be read, before
    anything is done with the others.
    """
    sources = resolve([str(folder)] if folder else list(map(str, sample_photos())))
    picked = sources[:: math.ceil(len(sources) / PHOTOS)][which]
    if not picked:
        raise UsageError(f"{folder} holds too few photos: int8 is fitted to some and checked on others")
    for source in picked:
        try:
            load(source)
        except ImageError as error:
            raise DataError(f"{source.location} cannot be used: {error}") from error
    return (load(source).pixels for source in picked)


def compare(
    reference: SamPredictor, candidate: SamPredictor, photos: Iterable[UInt8], stability: float = 0.0
) -> Parity:
    """Run both on every photo, with boxes and clicks all over it.

    reference: torch in fp32. stability: masks with less do not count as the worst. A prompt on nothing has a mask
    without an outline, a large part of which comes or goes with one logit.
    """
    errors: list[float] = []
    ious: list[Float32] = []
    stabilities: list[Float32] = []
    same: list[Bool] = []
    for photo in photos:
        boxes, clicks = prompts_on(*photo.shape[:2])
        reference.set_image(photo)
        candidate.set_image(photo)
        errors.append(relative_error(candidate.image_embedding, reference.image_embedding))
        for prompts in ({"boxes": boxes}, {"points": clicks, "labels": np.ones(clicks.shape[:2])}):
            wanted, got = reference.predict(**prompts), candidate.predict(**prompts)
            every = np.arange(len(wanted.masks))
            best, other = wanted.predicted_iou.argmax(1), got.predicted_iou.argmax(1)
            ious.append(_iou(wanted.masks[every, best], got.masks[every, best]))
            low_res = torch.from_numpy(wanted.low_res_masks[every, best]).to(reference.device)
            stabilities.append(reference.image.upscaler.to_masks(low_res)[1])
            lost = wanted.predicted_iou[every, best] - wanted.predicted_iou[every, other]
            same.append(lost < TIE)
    iou, chosen = np.concatenate(ious), np.concatenate(same)
    worst, count = worst_of(iou, np.concatenate(stabilities) >= stability)
    error = float(np.max(errors))  # NaN where one is
    return Parity(
        photos=len(errors),
        prompts=len(iou),
        stability=stability,
        steady=count,
        encoder_error=error,
        mean_iou=float(iou.mean()),
        worst_iou=worst,
        worst_iou_of_all=float(iou.min()),
        same_choice=float(chosen.mean()),
    )


def worst_of(iou: Float32, steady: Bool) -> tuple[float, int]:
    """The least IoU of N masks that are steady, or of all when none is, and how many are."""
    return float(iou[steady].min() if steady.any() else iou.min()), int(steady.sum())


def prompts_on(height: int, width: int) -> tuple[Float32, Float32]:
    """Boxes N x 4: the whole image, its quarters and the cells of a 3 x 3 grid; clicks 9 x 1 x 2 on those cells."""
    boxes = [_cells(count) for count in (1, 2, 3)]
    clicks = boxes[-1].reshape(-1, 2, 2).mean(1, keepdims=True)
    size = np.array([width, height], np.float32)
    return np.concatenate(boxes) * np.tile(size, 2), clicks * size


def _cells(count: int) -> Float32:
    y, x = np.divmod(np.arange(count * count), count)
    return (np.stack([x, y, x + 1, y + 1], 1) / count).astype(np.float32)


def _iou(a: Bool, b: Bool) -> Float32:
    """N x H x W twice -> N; 1 where both are empty."""
    union = (a | b).sum((1, 2))
    return np.where(union, (a & b).sum((1, 2)) / np.maximum(union, 1), 1).astype(np.float32)


def relative_error(got: torch.Tensor, wanted: torch.Tensor) -> float:
    """|got - wanted| / |wanted|, Euclidean."""
    got, wanted = got.float().cpu(), wanted.float().cpu()
    return float((got - wanted).norm() / wanted.norm())
