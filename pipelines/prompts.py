"""What to segment in each image: boxes from a detector, from a file or from the user, or one object's clicks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from pipelines.categories import OBJECT
from pipelines.detectors import DetectorConfig, build_detector
from pipelines.detectors.text import TextConfig, build_text_detector
from pipelines.errors import ImageError
from pipelines.types import Category, Detections, Image, Points


@dataclass(frozen=True)
class BoxFileConfig:
    """Boxes from a file. box_format: how its numbers are to be read, None to take it from the file itself."""

    path: str
    box_format: str | None = None
    min_score: float | None = None


@dataclass(frozen=True)
class GivenBoxes:
    """The same xyxy boxes, in pixels, for every image."""

    boxes: tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True)
class GivenPoints:
    """The same clicks (x, y, label) for every image; together they name one object."""

    points: tuple[tuple[float, float, int], ...]


PromptConfig = DetectorConfig | TextConfig | BoxFileConfig | GivenBoxes | GivenPoints


class Prompter(Protocol):
    """Prompts for images: a Detector, or anything that also gives clicks.

    It may have `counts`, name -> number: what became of the boxes of all images so far, for `run.json`.
    """

    @property
    def categories(self) -> tuple[Category, ...]:
        """All classes that its prompts can have."""

    @property
    def batch(self) -> int:
        """How many images it likes to see at once."""

    def __call__(self, images: Sequence[Image]) -> Sequence[Detections | Points]:
        """One prompt set per image. Raises ImageError when an image cannot be prompted."""


class Clicks:
    """The same clicks for every image."""

    categories: tuple[Category, ...] = (OBJECT,)
    batch = 1

    def __init__(self, config: GivenPoints) -> None:
        self._points = np.array([point[:2] for point in config.points], np.float32)
        self._labels = np.array([point[2] for point in config.points], np.int64)

    def __call__(self, images: Sequence[Image]) -> list[Points]:
        for image in images:
            outside = (self._points < 0).any(1) | (self._points >= [image.width, image.height]).any(1)
            if outside.any():
                x, y = self._points[outside][0]
                raise ImageError(
                    f"the point {x:g},{y:g} lies outside the image, which is {image.width} x {image.height}"
                )
        return [Points(self._points, self._labels)] * len(images)


def build_prompter(
    config: PromptConfig, image_ids: Mapping[str, int], *, device: str = "cpu", offline: bool | None = None
) -> Prompter:
    """The source of prompts that `config` describes. image_ids: name -> id of all images, for boxes from a file."""
    if isinstance(config, DetectorConfig):
        return build_detector(config, device=device, offline=offline)
    if isinstance(config, TextConfig):
        return build_text_detector(config, device=device, offline=offline)
    if isinstance(config, BoxFileConfig):
        from pipelines.detectors.box_file import BoxFile

        return BoxFile(Path(config.path), config.box_format, image_ids, min_score=config.min_score)
    if isinstance(config, GivenBoxes):
        from pipelines.detectors.given import Given

        return Given(config.boxes)
    return Clicks(config)
