"""The main job: prompts for every image, and a mask for every prompt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipelines import rle
from pipelines.boxes import to_xyxy
from pipelines.categories import OBJECT
from pipelines.detectors import DetectorConfig, find_weights
from pipelines.detectors.text import TextConfig, find_text_weights
from pipelines.errors import DataError, ImageError, WeightsError
from pipelines.prompts import BoxFileConfig, PromptConfig, Prompter, build_prompter
from pipelines.run import RunConfig, Summary, Watcher, run
from pipelines.sam import SAMS, build_sam
from pipelines.sam.predictor import SamPredictor
from pipelines.stages import StageClock
from pipelines.types import Category, Detections, Image, Instances, Masks, Points
from weights import digest, store

NOTHING = Instances(Detections.empty(), Masks((), np.zeros(0, np.float32), np.zeros(0, np.float32)))
"""The result of an image that was searched and holds nothing."""


@dataclass(frozen=True)
class SegmentConfig:
    """run: images and outputs. prompts: where boxes come from. sam: a name of `SAMS`; weights: a checkpoint of the
    user's instead of its own. device, precision: see `pipelines.sam.build_sam`.
    """

    run: RunConfig
    prompts: PromptConfig = field(default_factory=DetectorConfig)
    sam: str = "evsam-starter"
    weights: Path | None = None
    device: str = "cpu"
    precision: str = "fp32"


def segment(config: SegmentConfig, watch: Watcher | None = None) -> Summary:
    """Segment all images and write the outputs; see `pipelines.run.run` for how it ends."""
    offline = config.run.offline

    def make_job(image_ids: Mapping[str, int]) -> SegmentJob:
        sam = build_sam(config.sam, config.weights, config.device, config.precision, offline=offline)
        return SegmentJob(sam, build_prompter(config.prompts, image_ids, device=config.device, offline=offline))

    return run(config.run, _settings(config), make_job, device=config.device, watch=watch)


def _settings(config: SegmentConfig) -> dict[str, Any]:
    offline = config.run.offline
    settings = {
        "sam": config.sam,
        "sam_sha256": sam_sha256(config.sam, config.weights, offline=offline),
        "precision": config.precision,
        "prompts": {"kind": type(config.prompts).__name__, **asdict(config.prompts)},
    }
    if isinstance(config.prompts, DetectorConfig):
        settings["detector_sha256"] = digest.fingerprint(find_weights(config.prompts.model, offline=offline))
    if isinstance(config.prompts, TextConfig):
        settings["detector_sha256"] = digest.fingerprint(find_text_weights(config.prompts.model, offline=offline))
    if isinstance(config.prompts, BoxFileConfig):
        path = Path(config.prompts.path)
        if not path.is_file():
            raise DataError(f"there is no box file {path}")
        settings["boxes_sha256"] = digest.sha256(path)
    return settings


def sam_sha256(name: str, weights: Path | None, *, offline: bool | None = None) -> str:
    """The fingerprint of the weights that a SAM will run with. Raises WeightsError when they are missing."""
    if weights is not None and not weights.is_file():
        raise WeightsError(f"there is no checkpoint {weights}")
    return digest.fingerprint(weights or store.fetch(SAMS[name].weights or name, offline=offline))


@dataclass(frozen=True)
class SegmentJob:
    """Prompts for the images together, then masks image by image."""

    sam: SamPredictor
    prompter: Prompter

    @property
    def categories(self) -> tuple[Category, ...]:
        return self.prompter.categories

    @property
    def batch(self) -> int:
        return self.prompter.batch

    def report(self) -> Mapping[str, Any]:
        return {"boxes": counts} if (counts := getattr(self.prompter, "counts", None)) else {}

    def __call__(self, images: Sequence[Image], clock: StageClock) -> Iterator[Instances | ImageError]:
        for image, prompts in zip(images, self._prompt(images, clock), strict=True):
            yield prompts if isinstance(prompts, ImageError) else segment_image(self.sam, image, prompts, clock)

    def _prompt(self, images: Sequence[Image], clock: StageClock) -> Sequence[Detections | Points | ImageError]:
        """Prompts for each image. When the prompter refuses them together, each is asked for alone."""
        if not images:
            return []
        try:
            with clock("detect"):
                return self.prompter(images)
        except ImageError as error:
            return [error] if len(images) == 1 else [self._prompt([image], clock)[0] for image in images]


def segment_image(
    sam: SamPredictor, image: Image, prompts: Detections | Points, clock: StageClock
) -> Instances | ImageError:
    """One image's instances. Clicks give one instance, whose box is its mask's and whose score is 1."""
    if isinstance(prompts, Detections) and not len(prompts):
        return NOTHING
    try:
        with clock("encode"):
            sam.set_image(image.pixels)
        with clock("decode"):
            if isinstance(prompts, Detections):
                return Instances(prompts, sam.segment_boxes(prompts.boxes))
            masks = sam.segment_points(prompts.points[None], prompts.labels[None])
    except (torch.OutOfMemoryError, MemoryError):
        return ImageError(f"out of memory at {image.width} x {image.height} pixels")
    if not rle.area(masks.rles[0]):
        return NOTHING
    box = to_xyxy([rle.bbox(masks.rles[0])], "xywh", width=image.width, height=image.height)
    return Instances(Detections(box, np.ones(1, np.float32), np.full(1, OBJECT.id, np.int64)), masks)
