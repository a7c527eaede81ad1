"""The main job: prompts for every image, and a mask for every prompt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipelines import rle
from pipelines.boxes import to_xyxy
from pipelines.categories import OBJECT
from pipelines.detectors import DetectorConfig
from pipelines.errors import ImageError
from pipelines.prompts import (
    PromptConfig,
    Prompter,
    build_prompter,
    prompt_images,
    prompt_report,
    prompt_settings,
)
from pipelines.run import RunConfig, Summary, Watcher, run
from pipelines.sam import SamConfig
from pipelines.sam.memory import out_of_memory
from pipelines.sam.predictor import SamPredictor
from pipelines.stages import StageClock
from pipelines.types import Category, Detections, Image, Instances, Masks, Points

NOTHING = Instances(Detections.empty(), Masks((), np.zeros(0, np.float32), np.zeros(0, np.float32)))
"""The result of an image that was searched and holds nothing."""


@dataclass(frozen=True)
class SegmentConfig:
    """run: images and outputs. prompts: where boxes come from. sam: what makes the masks, on whose device all runs."""

    run: RunConfig
    prompts: PromptConfig = field(default_factory=DetectorConfig)
    sam: SamConfig = field(default_factory=SamConfig)


def segment(config: SegmentConfig, watch: Watcher | None = None) -> Summary:
    """Segment all images and write the outputs; see `pipelines.run.run` for how it ends."""
    device, offline = config.sam.device, config.run.offline
    settings = {**config.sam.settings(offline=offline), **prompt_settings(config.prompts, offline=offline)}

    def make_job(image_ids: Mapping[str, int]) -> SegmentJob:
        sam = config.sam.build(offline=offline)
        return SegmentJob(sam, build_prompter(config.prompts, image_ids, device=device, offline=offline))

    return run(config.run, settings, make_job, device=device, watch=watch)


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
        return prompt_report(self.prompter)

    def __call__(self, images: Sequence[Image], clock: StageClock) -> Iterator[Instances | ImageError]:
        for image, prompt in zip(images, prompt_images(self.prompter, images, clock), strict=True):
            yield prompt if isinstance(prompt, ImageError) else segment_image(self.sam, image, prompt, clock)


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
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        return ImageError(f"out of memory at {image.width} x {image.height} pixels")
    if not rle.area(masks.rles[0]):
        return NOTHING
    box = to_xyxy([rle.bbox(masks.rles[0])], "xywh", width=image.width, height=image.height)
    return Instances(Detections(box, np.ones(1, np.float32), np.full(1, OBJECT.id, np.int64)), masks)
