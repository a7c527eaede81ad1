"""What to segment in each image: boxes from a detector, from a file or from the user, or one object's clicks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pipelines.categories import OBJECT
from pipelines.detectors import DetectorConfig, build_detector, find_weights
from pipelines.detectors.text import TextConfig, build_text_detector, find_text_weights
from pipelines.errors import DataError, ImageError
from pipelines.stages import StageClock
from pipelines.types import Category, Detections, Image, Points
from weights import digest


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


def prompt_images(
    prompter: Prompter, images: Sequence[Image], clock: StageClock
) -> Sequence[Detections | Points | ImageError]:
    """Prompts for each image. When the prompter refuses them together, each is asked for alone."""
    if not images:
        return []
    try:
        with clock("detect"):
            return prompter(images)
    except ImageError as error:
        return [error] if len(images) == 1 else [prompt_images(prompter, [image], clock)[0] for image in images]


def prompt_report(prompter: Prompter) -> dict[str, Mapping[str, int]]:
    """What `run.json` says of the boxes."""
    return {"boxes": counts} if (counts := getattr(prompter, "counts", None)) else {}


def prompt_settings(config: PromptConfig, *, offline: bool | None = None) -> dict[str, Any]:
    """What decides the prompts: the configuration, and the content of the files it names.

    Raises DataError and WeightsError for one that is missing.
    """
    decides: dict[str, Any] = {"prompts": {"kind": type(config).__name__, **asdict(config)}}
    if isinstance(config, DetectorConfig):
        decides["detector_sha256"] = digest.fingerprint(find_weights(config.model, offline=offline))
    if isinstance(config, TextConfig):
        decides["detector_sha256"] = digest.fingerprint(find_text_weights(config.model, offline=offline))
    if isinstance(config, BoxFileConfig):
        path = Path(config.path)
        if not path.is_file():
            raise DataError(f"there is no box file {path}")
        decides["boxes_sha256"] = digest.sha256(path)
    return decides
