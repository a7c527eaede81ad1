"""Boxes for the category names of a data set, as text detectors are evaluated: the best pairs of box and name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from pipelines.boxes import clip, has_area, to_xyxy
from pipelines.detectors.text import TEXT_DETECTORS, load_text_model
from pipelines.detectors.text.contract import PRECISIONS, Pass, TextModel
from pipelines.device import check_device, check_precision
from pipelines.evaluation.annotations import GroundTruth
from pipelines.evaluation.config import CategoryNames
from pipelines.types import Detections, Image
from weights import digest


class CategoryDetector:
    """Category names -> boxes."""

    def __init__(self, model: TextModel, truth: GroundTruth, max_det: int) -> None:
        """Raises UsageError for a name that the model cannot read."""
        self.phrases = phrases_of(truth)
        self.batch = model.batch
        model.read(self.phrases, alone=False)
        self._model = model
        self._ids = np.array([category.id for category in truth.categories], np.int64)
        self._max_det = max_det

    def __call__(self, images: Sequence[Image]) -> list[Detections]:
        """One Detections per image, best pair first; a box may come several times, under several names."""
        return [self._best(passes, image) for passes, image in zip(self._model(images), images, strict=True)]

    def _best(self, passes: Sequence[Pass], image: Image) -> Detections:
        boxes = np.concatenate([np.repeat(found.boxes, found.scores.shape[1], axis=0) for found in passes])
        scores = np.concatenate([found.scores.ravel() for found in passes])
        phrases = np.concatenate([np.tile(found.phrases, len(found.boxes)) for found in passes])
        xyxy = to_xyxy(boxes, "cxcywh-normalised", width=image.width, height=image.height, allow_empty=True)
        xyxy = clip(xyxy, width=image.width, height=image.height)
        order = np.argsort(-scores, kind="stable")
        order = order[has_area(xyxy[order])][: self._max_det]
        return Detections(xyxy[order], scores[order], self._ids[phrases[order]])


def check_category_detector(config: CategoryNames, *, device: str = "cpu") -> None:
    """Raise what `build_category_detector` would and can be known without the weights; fetches nothing."""
    TEXT_DETECTORS[config.model].load()
    check_precision(config.precision, check_device(device), PRECISIONS)


def build_category_detector(
    config: CategoryNames, truth: GroundTruth, *, device: str, offline: bool | None
) -> tuple[CategoryDetector, dict[str, Any]]:
    """The detector, and what the stamp says of it. Raises as `pipelines.detectors.text.build_text_detector` does."""
    phrases = phrases_of(truth)
    model, weights = load_text_model(config.model, phrases, device=device, precision=config.precision, offline=offline)
    detector = CategoryDetector(model, truth, config.max_det)
    settings = {"kind": "CategoryNames", **asdict(config), "phrases": detector.phrases}
    return detector, {**settings, "sha256": digest.fingerprint(weights)}


def phrases_of(truth: GroundTruth) -> list[str]:
    """What a text detector is asked for, a phrase for each category."""
    return [phrase_of(category.name) for category in truth.categories]


def phrase_of(name: str) -> str:
    """A category's name as words: `car_(automobile)` -> `car (automobile)`; what is no text becomes a question mark."""
    return " ".join(name.encode("utf-8", "replace").decode().replace("_", " ").split())
