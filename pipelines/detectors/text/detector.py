"""Which boxes stay, and what each is called.

The rules, in order. A box must exceed the threshold of a phrase. It is given to the phrase that scores it highest, of
those that exceed both their own threshold and the text threshold. Of boxes that overlap, the best stays. A box that
covers nearly the whole image and contains another is dropped. Of what is left, the best `max_det` stay.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torchvision.ops import batched_nms

from pipelines.boxes import clip, has_area, to_xyxy
from pipelines.detectors.text.contract import Pass, TextConfig, TextModel
from pipelines.errors import ImageError
from pipelines.memory import out_of_memory
from pipelines.types import Bool, Category, Detections, Float32, Image, Int64

_CONTAINED = 0.9  # of a box's area inside another


class TextDetector:
    """A `pipelines.detectors.Detector` that looks for phrases.

    counts: how many images were searched so far, and what the rules did to their boxes.
    """

    def __init__(self, model: TextModel, config: TextConfig) -> None:
        """Raises UsageError for a phrase that the model cannot read."""
        phrases = config.phrases
        model.read([phrase.text for phrase in phrases], alone=config.per_phrase)
        self._model = model
        self._config = config
        self._text_threshold = config.text_threshold or 0.0
        self._category_ids = np.array([phrase.category.id for phrase in phrases], np.int64)
        self._thresholds = np.array(
            [config.box_threshold if phrase.threshold is None else phrase.threshold for phrase in phrases], np.float32
        )
        self.categories: tuple[Category, ...] = tuple(dict.fromkeys(phrase.category for phrase in phrases))
        self.batch = model.batch
        self.counts = {
            "images": 0,
            "over_box_threshold": 0,
            "claimed_by_several_phrases": 0,
            "dropped_under_text_threshold": 0,
            "dropped_outside_the_image": 0,
            "dropped_as_overlapping": 0,
            "dropped_as_too_large": 0,
            "dropped_over_max_det": 0,
            "kept": 0,
        }

    def __call__(self, images: Sequence[Image]) -> list[Detections]:
        """One Detections per image, best score first. Raises ImageError when they do not fit into memory together."""
        try:
            found = self._model(images)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            sizes = ", ".join(f"{image.width} x {image.height}" for image in images[:3])
            raise ImageError(f"out of memory while looking for phrases in {sizes} pixels") from error
        return [self._decide(passes, image) for passes, image in zip(found, images, strict=True)]

    def _decide(self, passes: Sequence[Pass], image: Image) -> Detections:
        named = [self._name(found) for found in passes]
        shares = np.concatenate([boxes for boxes, _, _ in named])
        sides = np.array([image.width, image.height] * 2, np.float32)
        boxes = to_xyxy(shares * sides, "cxcywh", width=image.width, height=image.height, allow_empty=True)
        boxes = clip(boxes, width=image.width, height=image.height)
        scores = np.concatenate([scores for _, scores, _ in named])
        category_ids = self._category_ids[np.concatenate([phrases for _, _, phrases in named])]
        order = np.argsort(-scores, kind="stable")
        found = Detections(boxes[order], scores[order], category_ids[order])
        found = self._keep(found, has_area(found.boxes), "dropped_outside_the_image")
        found = self._keep(found, self._not_overlapping(found), "dropped_as_overlapping")
        found = self._keep(found, ~self._too_large(found, image), "dropped_as_too_large")
        found = self._keep(found, np.arange(len(found)) < self._config.max_det, "dropped_over_max_det")
        self.counts["images"] += 1
        self.counts["kept"] += len(found)
        return found if len(found) else Detections.empty(self._why_none(passes, len(shares)))

    def _why_none(self, passes: Sequence[Pass], named: int) -> str:
        """Why no box of an image stays. named: boxes that were given a phrase."""
        if named:
            return f"all {named} boxes found cover nothing of the image"
        count = sum(len(found.boxes) for found in passes)
        over = [found.scores[(found.scores > self._thresholds[found.phrases]).any(axis=1)] for found in passes]
        if any(map(len, over)):
            best = max(float(scores.max()) for scores in over if scores.size)
            least = f"{self._text_threshold:g}"
            return f"no phrase of a box scored more than {least}; the best had {best:.2g}: --text-threshold"
        best = max((float(found.scores.max()) for found in passes if found.scores.size), default=0.0)
        least = f"{min(self._thresholds):g}"
        return f"of {count:,} candidates none scored more than {least}; the best had {best:.2g}: --box-threshold"

    def _name(self, found: Pass) -> tuple[Float32, Float32, Int64]:
        """The boxes over a threshold, and of each its score and its phrase."""
        thresholds = self._thresholds[found.phrases]
        over = (found.scores > thresholds).any(axis=1)
        boxes, scores = found.boxes[over], found.scores[over]
        claims = scores > self._text_threshold
        eligible = np.where(claims & (scores > thresholds), scores, -1)
        best = eligible.argmax(axis=1)
        given = eligible.max(axis=1) >= 0
        self.counts["over_box_threshold"] += len(boxes)
        self.counts["claimed_by_several_phrases"] += int((claims.sum(axis=1) > 1).sum())
        self.counts["dropped_under_text_threshold"] += int((~given).sum())
        rows = np.arange(len(boxes))
        return boxes[given], scores[rows, best][given], found.phrases[best][given]

    def _not_overlapping(self, found: Detections) -> Bool:
        keep = np.full(len(found), self._config.nms == "off")
        if not keep.all():
            groups = found.category_ids if self._config.nms == "aware" else np.zeros(len(found), np.int64)
            boxes, scores, groups_ = map(torch.from_numpy, (found.boxes, found.scores, groups))
            best = batched_nms(boxes, scores, groups_, self._config.iou)
            keep[best.numpy()] = True
        return keep

    def _too_large(self, found: Detections, image: Image) -> Bool:
        """Which boxes cover too much of the image and contain another."""
        boxes = found.boxes
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
        large = np.flatnonzero(areas > self._config.max_box_area * image.width * image.height)
        shared = np.minimum(boxes[large, None, 2:], boxes[:, 2:]) - np.maximum(boxes[large, None, :2], boxes[:, :2])
        contains = shared.clip(0).prod(axis=2) >= _CONTAINED * areas  # large x all, each also itself
        drop = np.zeros(len(found), bool)
        drop[large] = contains.sum(axis=1) > 1
        return drop

    def _keep(self, found: Detections, keep: Bool, reason: str) -> Detections:
        self.counts[reason] += int((~keep).sum())
        return found.take(keep)
