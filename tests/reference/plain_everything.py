"""Segment everything written the plain, slow way: what `grid` must equal.

Step by step as arXiv 2304.02643 (appendix B) and segment-anything's automatic mask generator do it: every click in
every crop is decoded by `plain_sam`, all three masks are upscaled to the crop's size before any is thrown away, every
mask is a dense array. It shares with evsam the image encoder and prompt encoder (checked elsewhere) and nothing else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from reference import plain_sam

from pipelines.everything.config import GridConfig
from pipelines.sam.frame import Frame
from pipelines.sam.predictor import SamPredictor


@dataclass
class Found:
    """One mask of the image. box: xyxy of its first and last pixels, or all 0 for an empty mask; crop: xyxy."""

    mask: np.ndarray
    box: list[int]
    iou: float
    stability: float
    point: tuple[float, float]
    crop: tuple[int, int, int, int]


@torch.inference_mode()
def everything(sam: SamPredictor, rgb: np.ndarray, config: GridConfig) -> list[Found]:
    height, width = rgb.shape[:2]
    found: list[Found] = []
    layers = crop_layers(height, width, config)
    for layer, boxes in enumerate(layers):
        side = int(config.points_per_side / config.crop_n_points_downscale_factor**layer)
        for box in boxes:
            inside = one_crop(sam, rgb, box, side, config)
            found += [inside[i] for i in nms(inside, [f.iou for f in inside], config.box_nms_thresh)]
    if sum(map(len, layers)) > 1:
        scores = [1 / ((f.crop[2] - f.crop[0]) * (f.crop[3] - f.crop[1])) for f in found]
        found = [found[i] for i in nms(found, scores, config.crop_nms_thresh)]
    if config.min_mask_region_area > 0:
        found = clean(found, config)
    return found


def crop_layers(height: int, width: int, config: GridConfig) -> list[list[tuple[int, int, int, int]]]:
    layers = [[(0, 0, width, height)]]
    for layer in range(config.crop_n_layers):
        n = 2 ** (layer + 1)
        overlap = int(config.crop_overlap_ratio * min(height, width) * 2 / n)
        crop_width = math.ceil((width + overlap * (n - 1)) / n)
        crop_height = math.ceil((height + overlap * (n - 1)) / n)
        boxes = []
        for i in range(n):
            for j in range(n):
                x, y = i * (crop_width - overlap), j * (crop_height - overlap)
                boxes.append((x, y, min(width, x + crop_width), min(height, y + crop_height)))
        layers.append(boxes)
    return layers


def one_crop(sam: SamPredictor, rgb: np.ndarray, crop: tuple[int, int, int, int], side: int, config: GridConfig) -> Any:
    height, width = rgb.shape[:2]
    x0, y0, x1, y1 = crop
    sam.set_image(np.ascontiguousarray(rgb[y0:y1, x0:x1]))
    ticks = np.linspace(1 / (2 * side), 1 - 1 / (2 * side), side)
    points = np.array([(x * (x1 - x0), y * (y1 - y0)) for y in ticks for x in ticks])
    found = []
    for start in range(0, len(points), config.points_per_batch):
        part = points[start : start + config.points_per_batch]
        clicks = Frame(y1 - y0, x1 - x0).to_prompt_frame(torch.from_numpy(part)[:, None])
        sparse, dense = sam.model.prompt_encoder(clicks, torch.ones(len(part), 1))
        low_res, iou = plain_sam.decode(sam.model, sam.image_embedding, sparse, dense)
        logits = plain_sam.upscale(low_res[:, 1:], y1 - y0, x1 - x0).flatten(0, 1)
        iou = iou[:, 1:].flatten()
        owners = torch.from_numpy(part.repeat(3, axis=0))
        if config.pred_iou_thresh > 0:
            keep = iou > config.pred_iou_thresh
            logits, iou, owners = logits[keep], iou[keep], owners[keep]
        inner = (logits > config.stability_score_offset).sum((1, 2))
        outer = (logits > -config.stability_score_offset).sum((1, 2))
        stability = inner / outer
        if config.stability_score_thresh > 0:
            keep = stability >= config.stability_score_thresh
            logits, iou, owners, stability = logits[keep], iou[keep], owners[keep], stability[keep]
        for mask, score, point, stable in zip((logits > 0).numpy(), iou, owners, stability, strict=True):
            full = np.zeros((height, width), bool)
            full[y0:y1, x0:x1] = mask
            box = pixel_box(full) if mask.any() else [x0, y0, x0, y0]
            if not near_crop_edge(box, crop, (0, 0, width, height)):
                at = (float(point[0]) + x0, float(point[1]) + y0)
                found.append(Found(full, box, float(score), float(stable), at, crop))
    return found


def pixel_box(mask: np.ndarray) -> list[int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])] if len(rows) else [0, 0, 0, 0]


def near_crop_edge(box: list[int], crop: tuple[int, ...], image: tuple[int, ...]) -> bool:
    return any(abs(b - c) <= 20 and abs(b - i) > 20 for b, c, i in zip(box, crop, image, strict=True))


def nms(found: list[Found], scores: list[float], threshold: float) -> list[int]:
    """Greedy; of equal scores the earlier goes first."""
    boxes = np.array([f.box for f in found], np.float32).reshape(-1, 4)
    kept: list[int] = []
    for i in sorted(range(len(found)), key=lambda i: -np.float32(scores[i])):
        if all(not box_iou(boxes[i], boxes[j]) > threshold for j in kept):
            kept.append(i)
    return kept


def box_iou(a: np.ndarray, b: np.ndarray) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, np.float32(0)) * max(height, np.float32(0))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    return both / union if union else 0.0


def clean(found: list[Found], config: GridConfig) -> list[Found]:
    untouched = []
    for f in found:
        mask = small_filled(small_filled(f.mask, config.min_mask_region_area, holes=True), config.min_mask_region_area)
        untouched.append(float((mask == f.mask).all()))
        f.mask = mask
        f.box = pixel_box(mask)
    return [found[i] for i in nms(found, untouched, max(config.box_nms_thresh, config.crop_nms_thresh))]


def small_filled(mask: np.ndarray, least: int, holes: bool = False) -> np.ndarray:
    """Without its small parts or, on request, with its small holes filled; the largest part stays."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats((mask ^ holes).astype(np.uint8), connectivity=8)
    parts = [(int(stats[i, cv2.CC_STAT_AREA]), i) for i in range(1, count)]
    if holes:
        small = [i for area, i in parts if area < least]
        return mask | np.isin(labels, small)
    large = [i for area, i in parts if area >= least] or [max(parts, key=lambda part: part[0])[1]]
    return np.isin(labels, large)
