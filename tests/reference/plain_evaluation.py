"""The evaluation protocols written down plainly, with loops and full-size masks: what the fast code must equal.

Sources: the evaluation scripts of EfficientViT-SAM (mIoU, clicks), pycocotools' COCOeval (AP), lvis-api's LVISEval,
Cheng et al. 2021 (boundary), Guo and Hall 1989 (thinning). Nothing here calls `pipelines.evaluation`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)


def decode(segmentation: Any, height: int, width: int) -> np.ndarray:
    if isinstance(segmentation, list):
        parts = coco_mask.frPyObjects(segmentation, height, width)
        return coco_mask.decode(parts).any(2)
    if isinstance(segmentation["counts"], list):
        segmentation = coco_mask.frPyObjects(segmentation, height, width)
    return coco_mask.decode(segmentation).astype(bool)


def published_miou(pairs: list[tuple[np.ndarray, dict]]) -> dict[str, float]:
    """pairs: predicted mask, annotation with its decoded "mask". EfficientViT-SAM's numbers, 0 to 100."""
    results = []
    for mask, annotation in pairs:
        if annotation["area"] < 1:
            continue
        truth = annotation["mask"]
        iou = np.sum(mask & truth) / (np.sum(mask | truth) + 1e-7) * 100
        results.append((annotation["area"], iou))
    buckets = {"all": [iou for _, iou in results]}
    buckets["large"] = [iou for area, iou in results if area >= 96**2]
    buckets["medium"] = [iou for area, iou in results if 32**2 <= area <= 96**2]
    buckets["small"] = [iou for area, iou in results if area <= 32**2]
    return {name: sum(ious) / len(ious) for name, ious in buckets.items() if ious}


def coco_miou(pairs: list[tuple[np.ndarray, dict]]) -> dict[str, float]:
    """The same without crowds, each object in one size, the plain IoU."""
    buckets: dict[str, list[float]] = {"all": [], "small": [], "medium": [], "large": []}
    for mask, annotation in pairs:
        if annotation.get("iscrowd"):
            continue
        union = np.sum(mask | annotation["mask"])
        iou = 100 * np.sum(mask & annotation["mask"]) / union if union else 0.0
        buckets["all"].append(iou)
        area = annotation["area"]
        buckets["small" if area < 1024 else "medium" if area < 9216 else "large"].append(iou)
    return {name: sum(ious) / len(ious) for name, ious in buckets.items() if ious}


def distances(region: np.ndarray) -> np.ndarray:
    """Each pixel's Euclidean distance to the nearest one outside the region; outside the picture counts as outside."""
    padded = np.pad(region, 1)
    outside = np.argwhere(~padded)
    found = np.zeros(padded.shape)
    for y, x in np.argwhere(padded):
        found[y, x] = math.sqrt(((outside - [y, x]) ** 2).sum(1).min())
    return found[1:-1, 1:-1]


def ritm_click(mask: np.ndarray, truth: np.ndarray, clicked: list[tuple[int, int]]) -> tuple[int, int, int]:
    missing, surplus = distances(truth & ~mask), distances(~truth & mask)
    for x, y in clicked:
        missing[y, x] = surplus[y, x] = 0
    positive = missing.max() > surplus.max()
    chosen = missing if positive else surplus
    y, x = np.argwhere(chosen == chosen.max())[0]
    return int(x), int(y), int(positive)


def boundary(mask: np.ndarray) -> np.ndarray:
    """The pixels of the mask from which a step of at most d, in rows and in columns, leaves the mask or the picture."""
    height, width = mask.shape
    d = max(1, round(0.02 * math.sqrt(height**2 + width**2)))
    padded = np.pad(mask, d)
    core = np.ones_like(mask)
    for dy in range(2 * d + 1):
        for dx in range(2 * d + 1):
            core &= padded[dy : dy + height, dx : dx + width]
    return mask & ~core


def overlap(one: np.ndarray, other: np.ndarray, crowd: bool) -> float:
    either = one.sum() if crowd else (one | other).sum()
    return float((one & other).sum() / either) if either else 0.0


def box_mask_overlap(one: list[float], other: list[float], crowd: bool) -> float:
    wide = max(0.0, min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0]))
    high = max(0.0, min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1]))
    either = one[2] * one[3] if crowd else one[2] * one[3] + other[2] * other[3] - wide * high
    return wide * high / either if either else 0.0


def precisions(
    truth: dict,
    results: list[dict],
    kind: str,
    *,
    area: tuple[float, float] = (0, 1e10),
    limit: int = 100,
    agnostic: bool = False,
    lvis: bool = False,
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """precision: 10 x 101 x K, recall: 10 x K, and the K category ids; -1 where a class has no object.

    truth: annotations hold their decoded "mask"; results: likewise, and "area".
    """
    classes = [0] if agnostic else sorted(category["id"] for category in truth["categories"])
    precision = -np.ones((10, 101, len(classes)))
    recall = -np.ones((10, len(classes)))
    images = sorted(truth["images"], key=lambda image: image["id"])
    if lvis:
        kept = []
        for image in images:
            mine = [one for one in results if one["image_id"] == image["id"]]
            kept += sorted(mine, key=lambda one: -one["score"])[:limit]
        results = kept
    for k, category in enumerate(classes):
        scores: list[float] = []
        right, ignored, wanted = [], [], 0
        for image in images:
            objects = [
                one
                for one in truth["annotations"]
                if one["image_id"] == image["id"] and (agnostic or one["category_id"] == category)
            ]
            found = [
                one
                for one in results
                if one["image_id"] == image["id"] and (agnostic or one["category_id"] == category)
            ]
            if agnostic:
                found.sort(key=lambda one: one["category_id"])
            if lvis and not objects and category not in image["neg_category_ids"]:
                found = []
            partly = lvis and category in image["not_exhaustive_category_ids"]
            found = sorted(found, key=lambda one: -one["score"])[: None if lvis else limit]
            hidden = [bool(one.get("iscrowd")) or not area[0] <= one["area"] <= area[1] for one in objects]
            order = sorted(range(len(objects)), key=lambda g: hidden[g])
            wanted += hidden.count(False)
            before = len(scores)
            scores += [one["score"] for one in found]
            right += [[False] * 10 for _ in found]
            ignored += [[False] * 10 for _ in found]
            for t, threshold in enumerate(THRESHOLDS):
                taken = set()
                for d, one in enumerate(found):
                    best, best_overlap = None, min(threshold, 1 - 1e-10)
                    for g in order:
                        crowd = bool(objects[g].get("iscrowd"))
                        if g in taken and not crowd:
                            continue
                        if best is not None and not hidden[best] and hidden[g]:
                            break
                        value = _value(one, objects[g], kind, crowd)
                        if value >= best_overlap:
                            best, best_overlap = g, value
                    if best is not None:
                        taken.add(best)
                    out = not area[0] <= one["area"] <= area[1]
                    ignore = hidden[best] if best is not None else out or partly
                    row = before + d
                    right[row][t], ignored[row][t] = best is not None and not ignore, ignore
        if not wanted:
            continue
        ranking = sorted(range(len(scores)), key=lambda row: -scores[row])
        for t in range(10):
            points, hits, wrong = [], 0, 0
            for row in ranking:
                if not ignored[row][t]:
                    hits, wrong = hits + right[row][t], wrong + (not right[row][t])
                points.append((hits / wanted, hits / (hits + wrong) if hits + wrong else 0.0))
            recall[t, k] = points[-1][0] if points else 0
            for r, level in enumerate(RECALLS):
                precision[t, r, k] = max((p for reached, p in points if reached >= level), default=0)
    return precision, recall, classes


def _value(one: dict, other: dict, kind: str, crowd: bool) -> float:
    if kind == "bbox":
        return box_mask_overlap(one["bbox"], other["bbox"], crowd)
    value = overlap(one["mask"], other["mask"], crowd)
    if kind == "boundary" and not crowd:
        for entry in (one, other):
            if "band" not in entry:
                entry["band"] = boundary(entry["mask"])
        value = min(value, overlap(one["band"], other["band"], False))
    return value


def average(values: np.ndarray) -> float:
    counted = values[values > -1]
    return float(counted.mean()) if counted.size else math.nan
