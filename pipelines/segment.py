"""The main job: prompts for every image, a mask for every prompt, and the files asked for. One loop.

    image -> prompts -> masks -> Instances -> every output -> journal

What an image is given depends on the image and the settings alone, so a run that was killed and resumed writes the same
files as one that was not: images are handled in fixed units of `batch`, and a unit that is only partly finished is
prompted again as a whole.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, get_args

import numpy as np
import torch

from pipelines import rle, run_info
from pipelines.boxes import to_xyxy
from pipelines.categories import OBJECT
from pipelines.detectors import DetectorConfig, find_weights
from pipelines.errors import ImageError
from pipelines.files import write_text
from pipelines.images import load
from pipelines.journal import Journal, open_state, scratch_folder
from pipelines.outputs import OUTPUTS, Destination, Output
from pipelines.prompts import PromptConfig, Prompter, build_prompter
from pipelines.records import Record, Status, instance_records
from pipelines.sam import SAMS, build_sam
from pipelines.sam.predictor import SamPredictor
from pipelines.sources import Source, image_ids, resolve, shard
from pipelines.stages import StageClock, WriteBehind, read_ahead, writing
from pipelines.types import Detections, Image, Instances, Masks, Points
from weights import digest, store

NOTHING = Instances(Detections.empty(), Masks((), np.zeros(0, np.float32), np.zeros(0, np.float32)))
"""The result of an image that was searched and holds nothing."""


@dataclass(frozen=True)
class SegmentConfig:
    """One run. sources: see `pipelines.sources.resolve`; output: the folder to write; prompts: where boxes come from.

    weights: a checkpoint of the user's instead of the model's own. save: names of `OUTPUTS`. batch: images prompted
    together, None for what the prompter likes. shard: (i, n), the i-th of n parts. offline: never touch the network.
    """

    sources: tuple[str, ...]
    output: Path
    prompts: PromptConfig = field(default_factory=DetectorConfig)
    sam: str = "evsam-starter"
    weights: Path | None = None
    device: str = "cpu"
    precision: str = "fp32"
    save: tuple[str, ...] = ("coco", "overlay")
    batch: int | None = None
    shard: tuple[int, int] = (1, 1)
    max_pixels: int = 200_000_000
    resume: bool = False
    overwrite: bool = False
    offline: bool | None = None


class Watcher(Protocol):
    """Told of a run's progress."""

    def started(self, total: int, finished: int) -> None:
        """total: images of this run; finished: those that an earlier run had finished."""

    def recorded(self, record: Record) -> None:
        """One more image has its record. Called from the writing thread."""


class Silent:
    """A watcher that says nothing."""

    def started(self, total: int, finished: int) -> None: ...

    def recorded(self, record: Record) -> None: ...


@dataclass(frozen=True)
class Summary:
    """How a run ended. counts: images by status; failed: name -> reason; info: what `run.json` holds."""

    counts: Mapping[str, int]
    failed: Mapping[str, str]
    info: Mapping[str, Any]


def run(config: SegmentConfig, watch: Watcher | None = None) -> Summary:
    """Segment all images and write the outputs. What can be wrong with the settings is found before the first image.

    Raises EvsamError for faults of settings, weights or disk; an image that cannot be segmented is recorded as failed
    and the run goes on. KeyboardInterrupt leaves a state from which the same call with `resume=True` goes on.
    """
    watch = watch or Silent()
    found = resolve(config.sources)
    outputs = [OUTPUTS[name] for name in config.save]
    SAMS[config.sam]
    settings = _settings(config)
    with writing(config.output):
        sources = open_state(config.output, settings, found, resume=config.resume, overwrite=config.overwrite)
    ids = image_ids(sources)
    sam = build_sam(config.sam, config.weights, config.device, config.precision, offline=config.offline)
    prompter = build_prompter(config.prompts, ids, device=config.device, offline=config.offline)
    part = shard(sources, *config.shard)
    categories = {category.id: category for category in prompter.categories}
    destination = Destination(config.output, scratch_folder(config.output), categories)
    writers: list[Output] = [row.load()(destination) for row in outputs]

    start = time.perf_counter()
    with writing(config.output), Journal(config.output) as journal:
        earlier = sum(journal.finished(source.name) for source in part)
        watch.started(len(part), earlier)
        clock = StageClock()
        loop = _Loop(config, sam, prompter, writers, journal, ids, watch, clock)
        loop.run(part)
        mine = {source.name: ids[source.name] for source in part}
        for writer in writers:
            with clock("write"):
                writer.finish(lambda: journal.records(mine))
        counts, failed = tally(journal.records(mine))
        seconds = time.perf_counter() - start
        info = {
            "settings": settings,
            "sources": list(config.sources),
            "images": {"total": len(part), **counts},
            "failed": failed,
            "categories": {category.id: category.name for category in prompter.categories},
            "versions": run_info.versions(),
            "machine": run_info.machine(config.device),
            "this_run": {
                "images": len(part) - earlier,
                "seconds": round(seconds, 3),
                "images_per_second": round((len(part) - earlier) / seconds, 3),
                "stage_seconds": {stage: round(value, 3) for stage, value in sorted(clock.seconds.items())},
                "peak_memory_mib": run_info.peak_memory_mib(),
            },
        }
        write_text(config.output / "run.json", json.dumps(info, indent=1, ensure_ascii=False) + "\n")
    return Summary(counts, failed, info)


def tally(records: Iterable[Record]) -> tuple[dict[str, int], dict[str, str]]:
    """Images by status, and name -> reason of those that failed."""
    counts = {status: 0 for status in get_args(Status)}
    failed = {}
    for record in records:
        counts[record.status] += 1
        if record.reason is not None:
            failed[record.name] = record.reason
    return counts, failed


def _settings(config: SegmentConfig) -> dict[str, Any]:
    """What decides the results; a resumed run must agree on all of it."""
    weights = config.weights or store.fetch(SAMS[config.sam].weights or config.sam, offline=config.offline)
    settings = {
        "sam": config.sam,
        "sam_sha256": digest.fingerprint(weights),
        "precision": config.precision,
        "device": config.device.split(":")[0],
        "prompts": {"kind": type(config.prompts).__name__, **asdict(config.prompts)},
        "save": sorted(config.save),
        "batch": config.batch,
        "shard": f"{config.shard[0]}/{config.shard[1]}",
        "max_pixels": config.max_pixels,
    }
    if isinstance(config.prompts, DetectorConfig):
        settings["detector_sha256"] = digest.fingerprint(find_weights(config.prompts.model, offline=config.offline))
    return settings


@dataclass(frozen=True)
class _Loop:
    config: SegmentConfig
    sam: SamPredictor
    prompter: Prompter
    outputs: Sequence[Output]
    journal: Journal
    ids: Mapping[str, int]
    watch: Watcher
    clock: StageClock

    def run(self, sources: Sequence[Source]) -> None:
        with WriteBehind() as writer:
            for unit in read_ahead(self._units(sources), self._load):
                prompts = iter(self._prompt([image for _, image in unit if isinstance(image, Image)]))
                for source, image in unit:
                    prompt = next(prompts) if isinstance(image, Image) else image
                    if not self.journal.finished(source.name):
                        writer.put(self._write, source, image, self._segment(image, prompt))

    def _units(self, sources: Sequence[Source]) -> Iterator[Sequence[Source]]:
        size = self.config.batch or self.prompter.batch
        for start in range(0, len(sources), size):
            unit = sources[start : start + size]
            if not all(self.journal.finished(source.name) for source in unit):
                yield unit

    def _load(self, source: Source) -> tuple[Source, Image | ImageError]:
        with self.clock("load"):
            try:
                return source, load(source, max_pixels=self.config.max_pixels)
            except ImageError as error:
                return source, error

    def _prompt(self, images: Sequence[Image]) -> Sequence[Detections | Points | ImageError]:
        """Prompts for each image. When the prompter refuses them together, each is asked for alone."""
        if not images:
            return []
        try:
            with self.clock("detect"):
                return self.prompter(images)
        except ImageError as error:
            return [error] if len(images) == 1 else [self._prompt([image])[0] for image in images]

    def _segment(self, image: Image | ImageError, prompt: Detections | Points | ImageError) -> Instances | ImageError:
        if isinstance(image, ImageError):
            return image
        if isinstance(prompt, ImageError):
            return prompt
        try:
            return segment_image(self.sam, image, prompt, self.clock)
        except (torch.OutOfMemoryError, MemoryError):
            return ImageError(f"out of memory at {image.width} x {image.height} pixels")

    def _write(self, source: Source, image: Image | ImageError, result: Instances | ImageError) -> None:
        name, image_id = source.name, self.ids[source.name]
        width, height = (image.width, image.height) if isinstance(image, Image) else (0, 0)
        with self.clock("write"):
            try:
                if isinstance(result, ImageError):
                    raise result
                assert isinstance(image, Image)
                for output in self.outputs:
                    output.write(image, result)
                areas = [rle.area(mask) for mask in result.masks.rles]
                rows = instance_records(result, areas)
                record = Record(name, image_id, width, height, "done" if rows else "empty", None, rows)
            except ImageError as error:
                record = Record(name, image_id, width, height, "failed", str(error))
            self.journal.add(record)
        self.watch.recorded(record)


def segment_image(sam: SamPredictor, image: Image, prompts: Detections | Points, clock: StageClock) -> Instances:
    """One image's instances. Clicks give one instance, whose box is its mask's and whose score is 1."""
    if isinstance(prompts, Detections) and not len(prompts):
        return NOTHING
    with clock("encode"):
        sam.set_image(image.pixels)
    with clock("decode"):
        if isinstance(prompts, Detections):
            return Instances(prompts, sam.segment_boxes(prompts.boxes))
        masks = sam.segment_points(prompts.points[None], prompts.labels[None])
        if not rle.area(masks.rles[0]):
            return NOTHING
        box = to_xyxy([rle.bbox(masks.rles[0])], "xywh", width=image.width, height=image.height)
        return Instances(Detections(box, np.ones(1, np.float32), np.full(1, OBJECT.id, np.int64)), masks)
