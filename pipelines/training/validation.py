"""Box and one-click mIoU of a network in training, by the published protocol (EfficientViT-SAM, tables 2 and 3).

Multi-mask output, the mask of the highest predicted IoU, IoU at the photo's own size, mean over annotations; one click
is the point farthest from the object's edge.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.errors import DataError
from pipelines.evaluation.clicks import next_click
from pipelines.sam.frame import Frame, preprocess
from pipelines.sam.model import Features, Sam
from pipelines.sam.prompt_encoder import PROMPT_SIDE
from pipelines.training.sources import DataSource
from pipelines.types import Bool

_PROMPTS_AT_ONCE = 32


def check_objects(source: DataSource, photos: int) -> None:
    """Raise DataError when there is nothing to validate on in the first `photos` photos of `source`."""
    regions = (region for i in range(min(photos, len(source))) for region in source[i].regions)
    if all(region.crowd for region in regions):
        raise DataError(f"the validation set {source.name} has no object in its first {photos} photos")


@torch.no_grad()
def mean_ious(
    model: Sam, source: DataSource, photos: int, size: int, told: list[tuple[str, str]] | None = None
) -> dict[str, float]:
    """{"box_miou", "point_miou"}, 0 to 1, on the first `photos` photos of `source` at input size `size`.

    Crowds are left out, and annotations of less than one pixel. told: gets the notes of photos, with the photos' names.
    """
    was_training = model.training
    model.eval()
    box_ious: list[float] = []
    point_ious: list[float] = []
    for i in range(min(photos, len(source))):
        photo = source[i]
        image = photo.image()
        if told is not None:
            told += [(note, image.name) for note in image.notes]
        height, width = image.height, image.width
        masks = [photo.mask(region, height, width) for region in photo.regions if not region.crowd]
        masks = [mask for mask in masks if mask.any()]
        if not masks:
            continue
        device = next(model.parameters()).device
        fit = model.conventions.fit
        features = model.encode(preprocess(image.pixels, size, fit).to(device))
        frame = Frame(height, width, fit)
        boxes = torch.tensor([_box(mask) for mask in masks], device=device).reshape(-1, 2, 2)
        clicks = torch.tensor([_click(mask) for mask in masks], device=device)[:, None]
        box_ious += _ious(model, features, frame, masks, boxes=frame.to_prompt_frame(boxes).reshape(-1, 4))
        point_ious += _ious(model, features, frame, masks, points=frame.to_prompt_frame(clicks))
    model.train(was_training)
    return {"box_miou": float(np.mean(box_ious)), "point_miou": float(np.mean(point_ious))}


def _ious(
    model: Sam,
    features: Features,
    frame: Frame,
    masks: list[Bool],
    boxes: Tensor | None = None,
    points: Tensor | None = None,
) -> list[float]:
    pe = model.prompt_encoder.dense_pe(features[0].shape[-1])
    ious = []
    for start in range(0, len(masks), _PROMPTS_AT_ONCE):
        part = slice(start, start + _PROMPTS_AT_ONCE)
        some_points = None if points is None else points[part]
        labels = None if some_points is None else some_points.new_ones(some_points.shape[:2])
        prompts = model.prompt_encoder(some_points, labels, None if boxes is None else boxes[part])
        index = torch.zeros(len(prompts.sparse), dtype=torch.long, device=pe.device)
        low, scores = model.decode(features, prompts, pe, index)
        best = low[torch.arange(len(low)), scores[:, 1:].argmax(1) + 1]
        for logits, mask in zip(best, masks[part], strict=True):
            predicted = _full_size(logits, frame) > 0
            actual = torch.from_numpy(mask).to(predicted.device)
            ious.append(float((predicted & actual).sum() / (predicted | actual).sum()))
    return ious


def _full_size(logits: Tensor, frame: Frame) -> Tensor:
    """Low-res logits of the whole input -> the image's height x width, as its `Fit` says."""
    wide, side, mode = logits[None, None].float(), PROMPT_SIDE, frame.fit.upscaling
    if frame.fit.direct:
        side = len(logits)
    else:
        wide = F.interpolate(wide, (side, side), mode=mode, align_corners=False)
    rows, columns = frame.fit.size(frame.height, frame.width, side)
    wide = wide[..., :rows, :columns]
    return F.interpolate(wide, (frame.height, frame.width), mode=mode, align_corners=False)[0, 0]


def _box(mask: Bool) -> list[float]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)]


def _click(mask: Bool) -> list[float]:
    x, y, _ = next_click(np.zeros_like(mask), mask, ())
    return [float(x), float(y)]
