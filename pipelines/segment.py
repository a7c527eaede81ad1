"""The main job: prompts for every image, and a mask for every prompt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np

from pipelines import rle
from pipelines.attempts import FAULTS, failure, together_or_alone
from pipelines.boxes import to_xyxy
from pipelines.categories import OBJECT
from pipelines.detectors import DetectorConfig
from pipelines.errors import ImageError, UsageError
from pipelines.prompts import (
    GivenPoints,
    PromptConfig,
    Prompter,
    build_prompter,
    check_prompts,
    prompt_defaults,
    prompt_images,
    prompt_report,
    prompt_settings,
    prompts_are_here,
)
from pipelines.run import Finish, Result, RunConfig, Summary, Watcher, settled
from pipelines.run.loop import run
from pipelines.run.stages import StageClock
from pipelines.sam import SAMS, SamConfig
from pipelines.sam.encoded import Encoded
from pipelines.sam.masks import LowResMasks
from pipelines.sam.predictor import Prepared, SamPredictor
from pipelines.sam.prompting import PixelPrompts
from pipelines.sam.rules import NO_BOX
from pipelines.types import Category, Detections, Image, Instances, Points


@dataclass(frozen=True)
class SegmentConfig:
    """run: images and outputs. prompts: where boxes come from. sam: what makes the masks, on whose device all runs."""

    run: RunConfig
    prompts: PromptConfig = field(default_factory=DetectorConfig)
    sam: SamConfig = field(default_factory=SamConfig)


def segment(config: SegmentConfig, watch: Watcher | None = None) -> Summary:
    """Segment all images and write the outputs; see `pipelines.run.loop.run` for how it ends.

    Raises UsageError also for a margin of boxes where there are clicks.
    """
    device, offline = config.sam.device, config.run.offline
    rules = config.sam.rules
    if isinstance(config.prompts, GivenPoints) and rules.box_margin is not None:
        raise UsageError(NO_BOX)
    config.sam.check()
    check_prompts(config.prompts, device=device)
    settings = {
        **config.sam.settings(offline=offline),
        **prompt_settings(config.prompts, offline=offline),
        "masks": asdict(rules),
    }

    def make_job(image_ids: Mapping[str, int]) -> SegmentJob:
        def prompter() -> Prompter:
            return build_prompter(config.prompts, image_ids, device=device, offline=offline)

        here = prompts_are_here(config.prompts)
        return SegmentJob(*config.sam.build_beside(prompter, here=here, offline=offline))

    own = prompt_defaults(config.prompts) | SAMS[config.sam.name].own(rules)
    return run(config.run, settings, make_job, device=device, watch=watch, defaults=own)


@dataclass(frozen=True)
class Ready:
    """An image, and what the SAM's encoder reads of it."""

    image: Image
    prepared: Prepared


def make_ready(sam: SamPredictor, image: Image) -> Ready:
    """Raises ImageError when memory runs out."""
    try:
        return Ready(image, sam.prepare(image.pixels))
    except FAULTS as error:
        raise failure(image, error) from error


def encode_images(sam: SamPredictor, images: Sequence[Ready], clock: StageClock) -> list[Encoded | ImageError]:
    """Each image encoded, as many together as the SAM likes. When they do not fit into memory, each is tried alone."""

    def encode(images: Sequence[Ready]) -> list[Encoded]:
        with clock("encode"):
            return sam.encode([ready.prepared for ready in images]).each()

    starts = range(0, len(images), sam.batch)
    units = (images[start : start + sam.batch] for start in starts)
    return [found for unit in units for found in together_or_alone(encode, unit, lambda ready: ready.image)]


@dataclass(frozen=True)
class SegmentJob:
    """Prompts for the images, then masks, for as many images together as each likes."""

    sam: SamPredictor
    prompter: Prompter

    @property
    def image_ids(self) -> Mapping[str, int] | None:
        return getattr(self.prompter, "image_ids", None)

    @property
    def categories(self) -> tuple[Category, ...]:
        return self.prompter.categories

    @property
    def batch(self) -> int:
        return max(self.prompter.batch, self.sam.batch)

    def report(self) -> Mapping[str, Any]:
        return prompt_report(self.prompter)

    def prepare(self, image: Image) -> Ready:
        return make_ready(self.sam, image)

    def __call__(self, images: Sequence[Ready], clock: StageClock) -> Iterator[Finish]:
        found: list[Detections | Points | ImageError] = []
        for start in range(0, len(images), self.prompter.batch):
            together = images[start : start + self.prompter.batch]
            found += prompt_images(self.prompter, [ready.image for ready in together], clock, "detect")
        pairs = list(zip(images, found, strict=True))
        for start in range(0, len(pairs), self.sam.batch):
            yield from self._segment(pairs[start : start + self.sam.batch], clock)

    def _segment(
        self, images: Sequence[tuple[Ready, Detections | Points | ImageError]], clock: StageClock
    ) -> Iterator[Finish]:
        """What gives each image's instances. When they do not fit into memory together, each is tried alone."""
        asked = [(ready, found) for ready, found in images if not isinstance(found, ImageError) and found]
        masks = iter(together_or_alone(partial(self._masks, clock), asked, lambda each: each[0].image))
        for ready, found in images:
            if isinstance(found, ImageError):
                yield settled(found)
            elif isinstance(found, Detections) and not found:
                yield settled(Instances.empty(found))
            else:
                yield partial(_finish, ready.image, found, next(masks), clock)

    def _masks(self, clock: StageClock, images: Sequence[tuple[Ready, Detections | Points]]) -> list[LowResMasks]:
        """Of images with prompts, all at once."""
        asked = [
            PixelPrompts(boxes=each.boxes)
            if isinstance(each, Detections)
            else PixelPrompts(points=each.points[None], labels=each.labels[None])
            for _, each in images
        ]
        with clock("encode"):
            encoded = self.sam.encode([ready.prepared for ready, _ in images])
        tell = clock.counter([(ready.image.name, _count(each)) for ready, each in images])
        with clock("decode"):
            return encoded.segment(asked, tell)


def _count(prompts: Detections | Points) -> int:
    return len(prompts) if isinstance(prompts, Detections) else 1


def _finish(image: Image, prompts: Detections | Points, low_res: LowResMasks | ImageError, clock: StageClock) -> Result:
    """One image's instances. Clicks give one instance, whose box is its mask's and whose score is 1."""
    if isinstance(low_res, ImageError):
        return low_res
    try:
        with clock("upscale"):
            masks = low_res.upscale()
    except FAULTS as error:
        return failure(image, error)
    if isinstance(prompts, Detections):
        return Instances(prompts, masks)
    if not rle.area(masks.rles[0]):
        return Instances.empty(
            Detections.empty("the mask of the clicks covers no pixel: try --point elsewhere, or --box")
        )
    box = to_xyxy([rle.bbox(masks.rles[0])], "xywh", width=image.width, height=image.height)
    return Instances(Detections(box, np.ones(1, np.float32), np.full(1, OBJECT.id, np.int64)), masks)
