"""Which detection finds which object, at every threshold: COCO's greedy rule, kept detection by detection.

The numbers of `detection.py` come from an evaluator that forgets who found what. Comparisons between runs, error
breakdowns and boundary AP need it, so it is worked out once more here; both give the same AP.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import hotcoco
import numpy as np

from pipelines.evaluation.annotations import GroundTruth, TruthObject
from pipelines.evaluation.boundary import boundary
from pipelines.evaluation.detection import IOU_THRESHOLDS
from pipelines.evaluation.predictions import Float64, Predictions, as_dicts
from pipelines.types import Bool, Int64, Rle

EVERYTHING = (0.0, 1e10)
"""The range of areas, in pixels, that all objects are in."""


@dataclass(frozen=True)
class Scene:
    """One image: its D detections that count, best first, and its G objects.

    rows: D int64, in the predictions; det_classes, classes: D and G int64; overlaps: D x G float64, IoU of `kind`,
    for a crowd the share of the detection that lies in it; partly: classes whose objects are not all annotated.
    """

    image: int
    rows: Int64
    det_classes: Int64
    objects: Sequence[TruthObject]
    classes: Int64
    overlaps: Float64
    partly: frozenset[int]


@dataclass(frozen=True)
class Matches:
    """D detections that count, and all objects in the order of the truth.

    rows, images, classes: D int64, row in the predictions, place of the image in the truth, class; scores: D float64.
    found: D x T int64, the object that a detection is matched to at each of T thresholds (`IOU_THRESHOLDS`), -1 for
    none; ignored: D x T bool, detections that count neither as right nor as wrong. object_images,
    object_classes: int64, one per object; counted: whether it is to be found at all (crowds are not).
    """

    rows: Int64
    images: Int64
    classes: Int64
    scores: Float64
    found: Int64
    ignored: Bool
    object_images: Int64
    object_classes: Int64
    counted: Bool
    image_count: int


Overlap = Callable[[Any, Sequence[TruthObject]], Float64]
"""From D detections' shapes and G objects to D x G overlaps."""


def mask_overlap(rles: Sequence[Rle], objects: Sequence[TruthObject]) -> Float64:
    """IoU of masks; of a crowd, the share of the detection inside it."""
    if not rles or not objects:
        return np.zeros((len(rles), len(objects)))
    crowds = [found.crowd for found in objects]
    return hotcoco.mask.iou(as_dicts(rles), as_dicts([found.rle for found in objects]), crowds)


def box_overlap(boxes: Any, objects: Sequence[TruthObject]) -> Float64:
    """IoU of D x 4 xywh boxes, crowds as in `mask_overlap`."""
    if not len(boxes) or not objects:
        return np.zeros((len(boxes), len(objects)))
    crowds = [found.crowd for found in objects]
    return hotcoco.mask.iou(np.asarray(boxes), np.array([found.bbox for found in objects]), crowds)


def boundary_overlap(rles: Sequence[Rle], objects: Sequence[TruthObject]) -> Float64:
    """The lesser of the masks' IoU and their boundaries', as boundary AP takes it; crowds by their masks alone."""
    whole = mask_overlap(rles, objects)
    if not whole.size:
        return whole
    touching = np.flatnonzero((whole >= IOU_THRESHOLDS[0]).any(1))  # the others cannot match anything
    crowds = np.array([found.crowd for found in objects])
    bands = [boundary(found.rle) for found in objects]
    if len(touching):
        thin = hotcoco.mask.iou(
            as_dicts([boundary(rles[row]) for row in touching.tolist()]), as_dicts(bands), [False] * len(objects)
        )
        whole[touching] = np.where(crowds, whole[touching], np.minimum(whole[touching], thin))
    return whole


OVERLAPS: dict[str, Overlap] = {"segm": mask_overlap, "bbox": box_overlap, "boundary": boundary_overlap}


def scenes(
    truth: GroundTruth, predictions: Predictions, kind: str, limit: int, *, classes: bool = True, lvis: bool = False
) -> Iterator[Scene]:
    """The images in the order of their ids, as COCO's evaluation takes them.

    kind: a name of `OVERLAPS`. limit: detections that count, per image and class, for LVIS per image. classes: False
    takes all classes as one. lvis: leave out classes that an image was not searched for, and detections without area.
    """
    shapes: Any = predictions.boxes if kind == "bbox" else predictions.rles
    by_image, areas = predictions.by_image(), predictions.areas_of(kind)
    for place, image_id in enumerate(sorted(truth.images)):
        image, objects = truth.images[image_id], truth.objects[image_id]
        rows = by_image.get(image_id, np.zeros(0, np.int64))
        det_classes = predictions.category_ids[rows]
        object_classes = np.array([found.category_id for found in objects], np.int64)
        if lvis:
            searched = {*object_classes.tolist(), *(image.absent or ())}
            kept = np.isin(det_classes[:limit], sorted(searched)) & (areas[rows[:limit]] > 0)
            rows, det_classes = rows[:limit][kept], det_classes[:limit][kept]
        if not classes:  # COCO puts equal scores in the order of their classes
            rows = rows[np.lexsort((det_classes, -predictions.scores[rows]))]
            det_classes, object_classes = np.zeros_like(det_classes), np.zeros_like(object_classes)
        if not lvis:
            kept = _first_of_each(det_classes, limit)
            rows, det_classes = rows[kept], det_classes[kept]
        partly = frozenset(image.partly) if lvis else frozenset()
        overlaps = OVERLAPS[kind]([shapes[row] for row in rows], objects)
        yield Scene(place, rows, det_classes, objects, object_classes, overlaps, partly)


def _first_of_each(classes: Int64, limit: int) -> Bool:
    """Which entries are among the first `limit` of their class."""
    order = np.argsort(classes, kind="stable")
    ordered = classes[order]
    rank = np.empty(len(classes), np.int64)
    rank[order] = np.arange(len(classes)) - np.searchsorted(ordered, ordered)
    return rank < limit


def match(
    scenes: Iterator[Scene] | Sequence[Scene], predictions: Predictions, area: tuple[float, float] = EVERYTHING
) -> Matches:
    """Match the detections of every image. area: objects outside this range are not to be found."""
    parts: list[tuple[Int64, ...]] = []
    found_parts, ignored_parts, counted_parts = [], [], []
    object_parts: list[tuple[Int64, Int64]] = []
    objects_before = images = 0
    low, high = area
    for scene in scenes:
        outside = (predictions.areas[scene.rows] < low) | (predictions.areas[scene.rows] > high)
        ignore = np.array([o.crowd or not low <= o.area <= high for o in scene.objects], bool)
        found, ignored = _match_scene(scene, ignore)
        ignored |= (found < 0) & (outside | np.isin(scene.det_classes, sorted(scene.partly)))[:, None]
        found_parts.append(np.where(found < 0, -1, found + objects_before))
        ignored_parts.append(ignored)
        counted_parts.append(~ignore)
        parts.append((scene.rows, np.full(len(scene.rows), scene.image), scene.det_classes))
        object_parts.append((np.full(len(scene.objects), scene.image), scene.classes))
        objects_before += len(scene.objects)
        images += 1
    rows, places, classes = (np.concatenate(column) for column in zip(*parts, strict=True))
    object_images, object_classes = (np.concatenate(column) for column in zip(*object_parts, strict=True))
    return Matches(
        rows,
        places,
        classes,
        predictions.scores[rows],
        np.concatenate(found_parts),
        np.concatenate(ignored_parts),
        object_images,
        object_classes,
        np.concatenate(counted_parts),
        images,
    )


def _match_scene(scene: Scene, ignore: Bool) -> tuple[Int64, Bool]:
    """D x 10: each detection's object or -1, and whether that object is to be ignored.

    COCO's rule (pycocotools, COCOeval.evaluateImg): best detection first, each takes the object of its class that it
    overlaps most, the last of equals, if that is above the threshold and free; crowds are always free; objects to be
    ignored are taken only by detections that find no other.
    """
    found = np.full((len(scene.rows), len(IOU_THRESHOLDS)), -1, np.int64)
    if not scene.objects:
        return found, np.zeros(found.shape, np.bool_)
    near = (scene.overlaps >= IOU_THRESHOLDS[0] - 1e-9) & (scene.det_classes[:, None] == scene.classes)
    order = np.argsort(ignore, kind="stable")  # objects to be ignored come last
    candidates = [
        (row, [(int(g), float(scene.overlaps[row, g])) for g in order if near[row, g]])
        for row in np.flatnonzero(near.any(1))
    ]
    for index, threshold in enumerate(IOU_THRESHOLDS):
        taken: set[int] = set()
        for row, reachable in candidates:
            best, best_overlap = -1, min(threshold, 1 - 1e-10)
            for g, overlap in reachable:
                if g in taken and not scene.objects[g].crowd:
                    continue
                if best >= 0 and not ignore[best] and ignore[g]:
                    break
                if overlap >= best_overlap:
                    best, best_overlap = g, overlap
            if best >= 0:
                found[row, index] = best
                taken.add(best)
    return found, (found >= 0) & ignore[found]
