"""Boxes without masks: for labelling, for counting, or as a box file for later runs of `segment` and `evaluate`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.detectors import DetectorConfig
from pipelines.detectors.text.contract import TextConfig
from pipelines.errors import ImageError
from pipelines.prompts import (
    Prompter,
    build_prompter,
    check_prompts,
    prompt_defaults,
    prompt_images,
    prompt_report,
    prompt_settings,
)
from pipelines.run import Finish, RunConfig, Summary, Watcher, settled
from pipelines.run.loop import run
from pipelines.run.stages import StageClock
from pipelines.types import Category, Image, Instances, Points


@dataclass(frozen=True)
class DetectConfig:
    """run: images and outputs, of those that need no masks. detector: finds the boxes. device: "cpu", "cuda", "mps"."""

    run: RunConfig
    detector: DetectorConfig | TextConfig
    device: str = "cpu"


def detect(config: DetectConfig, watch: Watcher | None = None) -> Summary:
    """Find the boxes of all images and write the outputs; see `pipelines.run.loop.run` for how it ends."""
    offline = config.run.offline
    check_prompts(config.detector, device=config.device)
    settings = {"boxes_only": True, **prompt_settings(config.detector, offline=offline)}

    def make_job(image_ids: Mapping[str, int]) -> DetectJob:
        return DetectJob(build_prompter(config.detector, image_ids, device=config.device, offline=offline))

    own = prompt_defaults(config.detector)
    return run(config.run, settings, make_job, device=config.device, gives="boxes", watch=watch, defaults=own)


@dataclass(frozen=True)
class DetectJob:
    """The boxes as they are found."""

    detector: Prompter

    @property
    def categories(self) -> tuple[Category, ...]:
        return self.detector.categories

    @property
    def batch(self) -> int:
        return self.detector.batch

    def report(self) -> Mapping[str, Any]:
        return prompt_report(self.detector)

    def prepare(self, image: Image) -> Image:
        return image

    def __call__(self, images: Sequence[Image], clock: StageClock) -> Iterator[Finish]:
        for found in prompt_images(self.detector, images, clock, "detect"):
            assert not isinstance(found, Points), "detectors give boxes"
            yield settled(found if isinstance(found, ImageError) else Instances(found, masks=None))
