"""MobileSAMv2's object-aware strategy (arXiv 2312.09579): ask for a detector's boxes, and keep every mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pipelines.detectors import Detector, build_detector, detector_row, is_here
from pipelines.everything.config import ObjectsConfig
from pipelines.everything.filters import suppress
from pipelines.sam import SamConfig
from pipelines.segment import SegmentJob
from pipelines.types import Category, Detections, Image


def objects(sam: SamConfig, config: ObjectsConfig, *, offline: bool | None) -> SegmentJob:
    """One mask for each box of a detector; boxes that overlap are one, whatever their classes, but for final ones."""

    def detector() -> Detector | AnyClass:
        found = build_detector(config, device=sam.device, offline=offline)
        return found if detector_row(config.model).final else AnyClass(found, config.iou)

    return SegmentJob(*sam.build_beside(detector, here=is_here(config.model), offline=offline))


@dataclass(frozen=True)
class AnyClass:
    """A detector whose boxes suppress each other across classes. overlap: the IoU above which the worse box goes."""

    detector: Detector
    overlap: float

    @property
    def categories(self) -> tuple[Category, ...]:
        return self.detector.categories

    @property
    def batch(self) -> int:
        return self.detector.batch

    def __call__(self, images: Sequence[Image]) -> list[Detections]:
        return [self._apart(found) for found in self.detector(images)]

    def _apart(self, found: Detections) -> Detections:
        return found.take(suppress(found.boxes, found.scores, self.overlap, torch.device("cpu")))
