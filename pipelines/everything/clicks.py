"""The masks of clicks in one crop that pass the filters.

Every filter stands where it is cheapest: predicted IoU before the decoder's upscaling, a bound on the stability score
on low-res logits, the score itself only on the region that can hold the mask, and run lengths of what is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

import numpy as np
from torch import Tensor

from pipelines.everything.config import GridConfig
from pipelines.everything.filters import cut_off, outer_pixels
from pipelines.everything.funnel import Funnel
from pipelines.everything.instances import instances_of, join, take
from pipelines.everything.search import Part
from pipelines.sam.encoded import Candidates
from pipelines.types import Float32, Instances, Int64


def ask_clicks(points: Float32, part: Part, config: GridConfig, funnel: Funnel) -> Instances:
    """The masks of clicks, N x 2 pixels of the crop, that pass the filters."""
    return join([found for found, _ in passing(points, part, config, funnel)])


def passing(points: Float32, part: Part, config: GridConfig, funnel: Funnel) -> Iterator[tuple[Instances, Tensor]]:
    """As `ask_clicks`, some clicks at a time, with the low-res logits of the masks: M x 256 x 256."""
    image, upscaler = part.image, part.encoded.upscaler
    chunks = part.encoded.candidates(
        points, min_iou=config.pred_iou_thresh or -inf, at_once=config.points_per_batch, tell=part.tell
    )
    for candidates in chunks:
        found, kept = _stable(candidates, points, part, config)
        funnel.masks += candidates.clicks * candidates.each
        funnel.likely += len(candidates.prompts)
        funnel.best_iou = max(funnel.best_iou, candidates.best_iou)
        funnel.stable += len(kept)
        if len(candidates.prompts) and not funnel.stable:
            bounds = upscaler.stability_bound(candidates.low_res, config.stability_score_offset)
            funnel.best_stability = max(funnel.best_stability, float(bounds.max(initial=0)))
        whole = np.flatnonzero(~cut_off(outer_pixels(found), part.crop, image.height, image.width))
        yield take(found, whole), candidates.low_res[kept[whole]]


def _stable(candidates: Candidates, points: Float32, part: Part, config: GridConfig) -> tuple[Instances, Int64]:
    """Those that are stable and not empty, and which candidates they are."""
    image, crop = part.image, part.crop
    kept, rles, stabilities = part.encoded.upscaler.stable_masks(
        candidates.low_res,
        config.stability_score_offset,
        config.stability_score_thresh,
        image.height,
        image.width,
        crop.x0,
        crop.y0,
    )
    crop_boxes = np.tile(np.array(crop[:4], np.float32), (len(kept), 1))
    clicked = points[candidates.prompts[kept]] + crop_boxes[:, :2]
    found = instances_of(rles, candidates.predicted_iou[kept], stabilities, clicked, crop_boxes)
    return found, kept
