"""From records or results to numbers, and to what comparisons and the report are made of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.evaluation.annotations import GroundTruth
from pipelines.evaluation.breakdown import Mistake, break_down
from pipelines.evaluation.detection import AGNOSTIC_LIMITS, COCO_LIMITS, LVIS_LIMITS, Evaluator, Scores
from pipelines.evaluation.matching import EVERYTHING, Matches, Scene, match, scenes
from pipelines.evaluation.miou import SIZES, ObjectScore, mean_iou, score_objects
from pipelines.evaluation.predictions import Float64, Predictions
from pipelines.evaluation.protocols import LARGE, SMALL, Protocol
from pipelines.evaluation.reasons import Metrics, notes_of_detections, notes_of_prompted
from pipelines.evaluation.stamp import ONE_CLASS
from pipelines.evaluation.weighted_ap import mean_ap, weighted_ap
from pipelines.records import Record

BOUNDARY_AREAS = {"": EVERYTHING, "s": (0.0, SMALL), "m": (SMALL, LARGE), "l": (LARGE, EVERYTHING[1])}


@dataclass(frozen=True)
class Scored:
    """One cell's score. metrics: family -> name -> value, on the scale of the tool that each family comes from.

    classes: category id -> mIoU or AP of the main family; objects: every object counted, with its mask or, for
    detections, the best one of its class; curves, mistakes, matches: of detections only. notes: see `pipelines.notes`.

    The first family is the main one.
    """

    metrics: Metrics
    classes: Mapping[int, float]
    objects: Sequence[ObjectScore]
    curves: Float64 | None = None
    mistakes: Sequence[Mistake] = ()
    matches: Matches | None = None
    notes: Sequence[str] = ()

    @property
    def of_detections(self) -> bool:
        return self.matches is not None

    @property
    def of_masks(self) -> bool:
        """Whether the objects were compared with masks, not with boxes."""
        return next(iter(self.metrics)) != "bbox"


@dataclass(frozen=True)
class CellScore:
    """One row of the table. prompt, sam: its names, sam "" for a results file. speed: see `runner.Cell`; notes: see
    `pipelines.notes`."""

    name: str
    prompt: str
    sam: str
    scored: Scored
    stamp: Mapping[str, Any]
    speed: Mapping[str, float]
    notes: Sequence[str] = ()

    @property
    def any_class(self) -> bool:
        """Whether it is of detections with all classes taken as one: no AP to be compared with that of classes."""
        return self.scored.of_detections and bool(self.stamp["classes"] == ONE_CLASS)


def score_prompted(truth: GroundTruth, records: Iterable[Record], protocol: Protocol) -> Scored:
    """mIoU and boundary mIoU, 0 to 100, of the masks that the truth's own objects were prompted for."""
    objects = list(score_objects(truth, records, protocol))
    of_class: dict[int, list[ObjectScore]] = defaultdict(list)
    for scored in objects:
        of_class[scored.object.category_id].append(scored)
    metrics = {
        "mIoU": {size: mean_iou(objects, protocol, size) for size in SIZES},
        "boundary mIoU": {size: mean_iou(objects, protocol, size, boundary=True) for size in SIZES},
    }
    classes = {id: 100 * float(np.mean([scored.iou for scored in mine])) for id, mine in sorted(of_class.items())}
    return Scored(metrics, classes, objects, notes=notes_of_prompted(truth, metrics, protocol))


def score_detections(
    truth: GroundTruth,
    predictions: Predictions,
    evaluator: Evaluator,
    *,
    lvis: bool = False,
    agnostic: bool = False,
    boundary: bool = False,
) -> Scored:
    """COCO's or LVIS's numbers, 0 to 1, for masks (where there are any) and boxes, class-agnostic recall and mistakes.

    agnostic: all numbers with the classes taken as one. boundary: boundary AP too, which takes minutes for many masks.
    Where the truth has objects without masks, metrics of masks have no value.
    """
    comparable = predictions.has_masks and truth.has_masks
    kinds = ("segm", "bbox") if comparable else ("bbox",)
    score = evaluator.agnostic if agnostic else evaluator.lvis if lvis else evaluator.coco
    scores = {kind: score(predictions, kind) for kind in kinds}
    metrics: dict[str, Mapping[str, float | None]] = {kind: scores[kind].metrics for kind in kinds}
    if predictions.has_masks and not comparable:
        metrics["segm"] = dict.fromkeys(metrics["bbox"])
    if not agnostic:
        metrics["class-agnostic"] = _recalls(evaluator.agnostic(predictions, kinds[0]))
    lvis = lvis and not agnostic
    limit = (AGNOSTIC_LIMITS if agnostic else LVIS_LIMITS if lvis else COCO_LIMITS)[-1]
    found = list(scenes(truth, predictions, kinds[0], limit, classes=not agnostic, lvis=lvis))
    matches = match(found, predictions)
    if boundary and predictions.has_masks:
        metrics["boundary"] = {"AP": None}
        if comparable:
            bands = list(scenes(truth, predictions, "boundary", limit, classes=not agnostic, lvis=lvis))
            metrics["boundary"] = _boundary_metrics(bands, predictions)
    notes = [*predictions.notes, *notes_of_detections(truth, metrics)]
    if boundary and not predictions.has_masks:
        notes.append("boundary AP needs masks, and the results have boxes alone")
    return Scored(
        metrics,
        scores[kinds[0]].class_ap,
        list(_best_masks(truth, found, predictions)),
        scores[kinds[0]].precision,
        break_down(found, matches, predictions),
        matches,
        notes,
    )


def _recalls(scores: Scores) -> dict[str, float | None]:
    return {name: value for name, value in scores.metrics.items() if name.startswith("AR")}


def _boundary_metrics(bands: Sequence[Scene], predictions: Predictions) -> dict[str, float | None]:
    metrics: dict[str, float | None] = {}
    for size, area in BOUNDARY_AREAS.items():
        by_class = weighted_ap(match(bands, predictions, area))
        wanted = {f"AP{size}": by_class}
        if not size:
            wanted |= {"AP50": by_class[:, :, :1], "AP75": by_class[:, :, 5:6]}
        for name, part in wanted.items():
            ap = float(mean_ap(part)[0])
            metrics[name] = None if np.isnan(ap) else ap
    return metrics


def _best_masks(truth: GroundTruth, found: Iterable[Scene], predictions: Predictions) -> Iterable[ObjectScore]:
    """Each object that is no crowd with the detection of its class that overlaps it most."""
    for scene, image_id in zip(found, sorted(truth.images), strict=True):
        nothing = truth.images[image_id].empty_mask
        overlaps = np.where(scene.det_classes[:, None] == scene.classes, scene.overlaps, 0)
        for index, object in enumerate(scene.objects):
            if object.crowd:
                continue
            column = overlaps[:, index]
            value = float(column.max(initial=0))
            mask = predictions.rles[scene.rows[column.argmax()]] if value and predictions.has_masks else nothing
            yield ObjectScore(image_id, object, mask, value)
