"""Segment everything by a grid of clicks: segment-anything's automatic mask generator, mask for mask.

Every filter stands where it is cheapest: predicted IoU before the decoder's upscaling, a bound on the stability score
on low-res logits, the score itself only on the region that can hold the mask, and run lengths of what is left.
Reference: arXiv 2304.02643, appendix B, and segment_anything/automatic_mask_generator.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from math import inf
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipelines.everything.config import GridConfig
from pipelines.everything.crops import Crop, clicks, crops, points_per_side
from pipelines.everything.filters import cut_off, outer_pixels, suppress
from pipelines.everything.funnel import Funnel
from pipelines.everything.instances import BLANK, instances_of, is_blank, join, replace_masks, take
from pipelines.everything.job import SearchJob
from pipelines.run.stages import StageClock
from pipelines.sam import SamConfig
from pipelines.sam.predictor import Candidates, SamPredictor
from pipelines.sam.regions import without_small_regions
from pipelines.types import Detections, Float32, Image, Instances, Int64

Ask = Callable[[SamPredictor, Crop, Image, Any, Funnel], Instances]
"""(sam, crop, image, config, funnel) -> the masks in one crop, which the predictor has been given, in the image's
frame. The funnel is told what the filters do."""


def grid(sam: SamConfig, config: GridConfig, *, offline: bool | None) -> SearchJob:
    """All masks that clicks on a grid find, best predicted IoU first."""
    return grid_of(sam.build(offline=offline), config)


def grid_of(sam: SamPredictor, config: GridConfig) -> SearchJob:
    """As `grid`, with a SAM that is built."""
    return SearchJob(sam, partial(search, config=config, ask=ask_grid))


def search(sam: SamPredictor, image: Image, clock: StageClock, *, config: GridConfig, ask: Ask) -> Instances:
    """What `ask` finds in each crop, every thing once; smaller crops go before larger ones, as they see more.

    An image of one colour holds nothing.
    """
    if is_blank(image):
        return replace(join([]), detections=Detections.empty(BLANK))
    parts, funnel = [], Funnel()
    places = crops(image.height, image.width, config)
    count = clock.counter([(image.name, sum(points_per_side(crop, config) ** 2 for crop in places))])
    for crop in places:
        with clock("encode"):
            sam.set_image(np.ascontiguousarray(image.pixels[crop.y0 : crop.y1, crop.x0 : crop.x1]))
        with clock("decode"), sam.telling(count):
            part = ask(sam, crop, image, config, funnel)
            kept = suppress(outer_pixels(part), part.detections.scores, config.box_nms_thresh, sam.device)
            parts.append(take(part, kept))
    with clock("filter"):
        found = join(parts)
        if not len(found):
            return replace(found, detections=Detections.empty(funnel.why_none(config)))
        if len(parts) > 1:
            found = take(
                found, suppress(outer_pixels(found), 1 / _crop_areas(found), config.crop_nms_thresh, sam.device)
            )
        if config.min_mask_region_area:
            found = _clean(found, config, sam.device)
    return found


def ask_grid(sam: SamPredictor, crop: Crop, image: Image, config: GridConfig, funnel: Funnel) -> Instances:
    """The masks of a grid of clicks in one crop."""
    return ask_clicks(sam, clicks(crop, points_per_side(crop, config)), crop, image, config, funnel)


def ask_clicks(
    sam: SamPredictor, points: Float32, crop: Crop, image: Image, config: GridConfig, funnel: Funnel
) -> Instances:
    """The masks of clicks, N x 2 pixels of the crop, that pass the filters."""
    return join([part for part, _ in passing(sam, points, crop, image, config, funnel)])


def passing(
    sam: SamPredictor, points: Float32, crop: Crop, image: Image, config: GridConfig, funnel: Funnel
) -> Iterator[tuple[Instances, Tensor]]:
    """As `ask_clicks`, some clicks at a time, with the low-res logits of the masks: M x 256 x 256."""
    min_iou = config.pred_iou_thresh or -inf
    for candidates in sam.candidates(points, min_iou=min_iou, at_once=config.points_per_batch):
        part, kept = _stable(sam, candidates, points, crop, image, config)
        funnel.masks += candidates.clicks * candidates.each
        funnel.likely += len(candidates.prompts)
        funnel.best_iou = max(funnel.best_iou, candidates.best_iou)
        funnel.stable += len(kept)
        if len(candidates.prompts) and not funnel.stable:
            bounds = sam.upscaler.stability_bound(candidates.low_res, config.stability_score_offset)
            funnel.best_stability = max(funnel.best_stability, float(bounds.max(initial=0)))
        whole = np.flatnonzero(~cut_off(outer_pixels(part), crop, image.height, image.width))
        yield take(part, whole), candidates.low_res[kept[whole]]


def _stable(
    sam: SamPredictor, candidates: Candidates, points: Float32, crop: Crop, image: Image, config: GridConfig
) -> tuple[Instances, Int64]:
    """Those that are stable and not empty, and which candidates they are."""
    kept, rles, stabilities = sam.upscaler.stable(
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


def _crop_areas(found: Instances) -> Float32:
    assert found.asked is not None
    sides = found.asked.crop_boxes[:, 2:] - found.asked.crop_boxes[:, :2]
    areas: Float32 = sides.prod(axis=1)
    return areas


def _clean(found: Instances, config: GridConfig, device: torch.device) -> Instances:
    """Without small holes and islands; of masks that this makes alike, one that needed no change stays."""
    rles = [without_small_regions(mask, config.min_mask_region_area) for mask in found.rles]
    unchanged = [new is old for new, old in zip(rles, found.rles, strict=True)]
    cleaned = replace_masks(found, rles)
    overlap = max(config.box_nms_thresh, config.crop_nms_thresh)
    return take(cleaned, suppress(outer_pixels(cleaned), unchanged, overlap, device))
