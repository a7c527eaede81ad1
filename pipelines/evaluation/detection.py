"""Average precision and recall as COCO and LVIS count them, by hotcoco, whose arrays equal pycocotools' exactly."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import hotcoco
import numpy as np
from numpy.typing import NDArray

from pipelines.evaluation.annotations import GroundTruth
from pipelines.evaluation.predictions import Float64, Predictions, as_dicts
from pipelines.types import Int64

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
COCO_LIMITS = (1, 10, 100)
"""Detections counted per image and class: COCO's AR1, AR10 and AR100; AP takes the last."""
AGNOSTIC_LIMITS = (10, 100, 1000)
"""Detections counted per image when classes are taken as one."""
LVIS_LIMITS = (300,)
"""Detections counted per image, over all classes."""
FREQUENCIES = {"APr": "r", "APc": "c", "APf": "f"}
"""LVIS's AP of rare, common and frequent classes."""


@dataclass(frozen=True)
class Scores:
    """metrics: name -> 0 to 1, None where no object could count. class_ap: category id -> AP, of classes with objects.

    precision: 10 x 101 float64, by `IOU_THRESHOLDS` and `RECALLS`: the mean over classes, objects of all sizes; NaN
    where there is no object.
    """

    metrics: Mapping[str, float | None]
    class_ap: Mapping[int, float]
    precision: Float64


class Evaluator:
    """Scores predictions against one truth. kind: "segm" or "bbox".

    hotcoco is given numbers in place of ids, 1 for the least: it keeps those of predictions as floats, which skip whole
    numbers from 2^53 on. Their order, which decides between equal scores, stays that of the ids. It is given no names.
    """

    def __init__(self, truth: GroundTruth) -> None:
        self._truth = truth
        self._image_ids = np.array(sorted(truth.images), np.int64)
        self._category_ids = np.array(sorted(category.id for category in truth.categories), np.int64)
        self._coco = hotcoco.COCO(self._document())

    def _document(self) -> dict[str, Any]:
        """The truth in COCO's form, masks as RLE."""
        truth, category_ids = self._truth, set(self._category_ids.tolist())

        def numbers(ids: Iterable[int]) -> list[int]:
            found = _numbers(self._category_ids, [id for id in ids if id in category_ids])
            return [int(number) for number in found]

        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for image, number in zip(truth.images.values(), _numbers(self._image_ids, list(truth.images)), strict=True):
            entry: dict[str, Any] = {
                "id": int(number),
                "file_name": str(number),
                "width": image.width,
                "height": image.height,
            }
            if image.absent is not None:
                entry["neg_category_ids"] = numbers(image.absent)
                entry["not_exhaustive_category_ids"] = numbers(image.partly)
            images.append(entry)
            objects = truth.objects[image.id]
            for found, category in zip(objects, numbers(found.category_id for found in objects), strict=True):
                annotation = {
                    "id": len(annotations) + 1,
                    "image_id": int(number),
                    "category_id": category,
                    "bbox": list(found.bbox),
                    "area": found.area,
                    "iscrowd": int(found.crowd),
                    "segmentation": found.rle,
                }
                annotations.append(annotation)
        categories = [{"id": number, "name": str(number)} for number in numbers(self._category_ids.tolist())]
        return {"images": images, "annotations": annotations, "categories": categories}

    def coco(self, predictions: Predictions, kind: str) -> Scores:
        """COCO's 12 numbers."""
        return self._score(hotcoco.COCOeval(self._coco, self._results(predictions, kind), kind), COCO_LIMITS)

    def agnostic(self, predictions: Predictions, kind: str) -> Scores:
        """The 12 numbers with all classes taken as one, at 10, 100 and 1000 detections per image."""
        evaluation = hotcoco.COCOeval(self._coco, self._results(predictions, kind), kind)
        evaluation.params.use_cats = False
        return self._score(evaluation, AGNOSTIC_LIMITS)

    def lvis(self, predictions: Predictions, kind: str) -> Scores:
        """LVIS's 13 numbers. A class counts only on images that were searched for it, as the file says.

        Detections without area are left out, as by lvis-api: they take up an image's limit, but are not wrong.
        """
        best = [rows[: LVIS_LIMITS[-1]] for rows in predictions.by_image().values()]
        rows = np.sort(np.concatenate([np.zeros(0, np.int64), *best]))
        counted = predictions.take(rows[predictions.areas_of(kind)[rows] > 0])
        return self._score(hotcoco.LVISeval(self._coco, self._results(counted, kind), kind), LVIS_LIMITS)

    def _results(self, predictions: Predictions, kind: str) -> hotcoco.COCO:
        images = _numbers(self._image_ids, predictions.image_ids)
        categories = _numbers(self._category_ids, predictions.category_ids)
        table = np.column_stack([images, predictions.boxes, predictions.scores, categories])
        if kind == "bbox":
            return self._coco.load_res(table)
        results = self._coco.load_res(table, segmentation=list(as_dicts(predictions.rles)))
        if len(predictions):
            results.update_anns(ids=np.arange(1, len(predictions) + 1), area=predictions.areas)
        return results

    def _score(self, evaluation: hotcoco.COCOeval, limits: Sequence[int]) -> Scores:
        evaluation.params.max_dets = list(limits)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that other limits than COCO's are no leaderboard's: the names say so
            evaluation.evaluate()
            evaluation.accumulate()
        assert evaluation.eval is not None
        arrays = evaluation.eval
        numbers = evaluation.params.cat_ids if evaluation.params.use_cats else []
        classes = [int(self._category_ids[number - 1]) for number in numbers]
        return Scores(
            self._metrics(arrays, limits, classes),
            _by_class(arrays["precision"], classes),
            _mean_curve(arrays["precision"]),
        )

    def _metrics(
        self, arrays: Mapping[str, Any], limits: Sequence[int], classes: Sequence[int]
    ) -> dict[str, float | None]:
        """precision: threshold x recall x class x size x limit; recall: threshold x class x size x limit."""
        precision, recall = arrays["precision"][..., -1], arrays["recall"]
        metrics = {
            "AP": mean(precision[..., 0]),
            "AP50": mean(precision[0, ..., 0]),
            "AP75": mean(precision[5, ..., 0]),
        }
        metrics |= {f"AP{size}": mean(precision[..., index]) for index, size in enumerate("sml", 1)}
        if limits is LVIS_LIMITS:
            for name, frequency in FREQUENCIES.items():
                metrics[name] = mean(precision[:, :, [id in self._of(frequency) for id in classes], 0])
        metrics |= {f"AR{limit}": mean(recall[..., 0, index]) for index, limit in enumerate(limits)}
        return metrics | {f"AR{size}": mean(recall[..., index, -1]) for index, size in enumerate("sml", 1)}

    def _of(self, frequency: str) -> set[int]:
        return {id for id, letter in self._truth.frequencies.items() if letter == frequency}


def _numbers(known: Int64, ids: Sequence[int] | Int64) -> Int64:
    """Ids -> their places among those known, which are ascending, from 1."""
    return np.searchsorted(known, np.asarray(ids, np.int64)) + 1


def mean(values: NDArray[Any]) -> float | None:
    """The mean of an evaluation's array, whose -1 say that no object could count; None when all are."""
    counted = values[values > -1]
    return float(counted.mean()) if counted.size else None


def _by_class(precision: NDArray[Any], classes: Sequence[int]) -> dict[int, float]:
    found = {id: mean(precision[:, :, index, 0, -1]) for index, id in enumerate(classes)}
    return {id: ap for id, ap in found.items() if ap is not None}


def _mean_curve(precision: NDArray[Any]) -> Float64:
    curves = precision[:, :, :, 0, -1]
    counted = curves[:, :, curves[0, 0] > -1]
    return counted.mean(2) if counted.size else np.full(curves.shape[:2], np.nan)
