"""The loop of an evaluation: every image decoded once, detected once per detector, encoded once per SAM.

A cell is one way of prompting with one SAM. Each has its folder, whose journal (`pipelines.run.journal`) holds a record
per image, so that a run goes on where it stopped and a table grows by new rows and columns without repeating the old.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pipelines import run_info
from pipelines.attempts import FAULTS, failure
from pipelines.errors import ImageError, UsageError
from pipelines.evaluation.annotations import GroundTruth
from pipelines.evaluation.photos import Photos
from pipelines.evaluation.prompts import EvaluationPrompter
from pipelines.files import writing
from pipelines.images.sources import ImageSource
from pipelines.prompts import prompt_images
from pipelines.records import Record, image_record
from pipelines.run import Watcher
from pipelines.run.folder import RunFolder
from pipelines.run.journal import Journal
from pipelines.run.stages import StageClock, WriteBehind, read_ahead, writing_resumably
from pipelines.sam.encoded import Encoded
from pipelines.sam.predictor import SamPredictor
from pipelines.types import Detections, Image, Instances

STAGES = ("load", "detect", "encode", "decode")


@dataclass(frozen=True)
class Model:
    """A SAM to be scored. settings: what decides its masks, for the stamp."""

    sam: SamPredictor
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Cell:
    """prompt and sam: names; folder: holds the journal; settings: of both; of_truth, agnostic: see
    `EvaluationPrompter`.

    speed: images per second of each stage in this run, empty when nothing was left to do in this cell. notes: the
    prompter's.
    """

    prompt: str
    sam: str
    folder: Path
    settings: Mapping[str, Any]
    of_truth: bool
    agnostic: bool
    speed: Mapping[str, float]
    notes: Sequence[str]

    @property
    def name(self) -> str:
        return self.folder.name

    def records(self, truth: GroundTruth) -> Iterator[Record]:
        """The records of the truth's images, in its order."""
        with RunFolder(self.folder).journal() as journal:
            yield from journal.records({image.name: id for id, image in truth.images.items()})


def run_cells(
    truth: GroundTruth,
    photos: Photos,
    whole: RunFolder,
    prompters: Sequence[EvaluationPrompter],
    models: Sequence[Model],
    settings: Mapping[str, Any],
    watch: Watcher,
    held: ExitStack,
) -> list[Cell]:
    """Prompt every SAM in every way with every image. settings: what else decides the records.

    photos: of all the truth's images. whole: what the cells' folders are in. held: until it closes, no other run gets
    into the cells' folders. Raises UsageError as `RunFolder.plan` and `hold` do for each cell; an image that cannot be
    read or does not fit into memory is recorded as failed.
    """
    sources = [photos.sources[image.name] for image in truth.images.values()]
    jobs = [
        _Job(
            prompter,
            model,
            name,
            cell_folder(whole, name, model.sam.name),
            {**settings, "prompt": dict(prompter.settings), "sam": dict(model.settings)},
        )
        for prompter in prompters
        for model in models
        for name in prompter.names
    ]
    check_distinct([job.folder.path.name for job in jobs])
    plans = {job.folder: job.folder.plan(job.settings, sources) for job in jobs}
    with writing(whole.path):
        for folder, plan in plans.items():
            held.enter_context(folder.hold(plan))
        for folder, plan in plans.items():
            folder.begin(replace(plan, sources=tuple(sources)))  # a cell has no files of its images, to be called by
    with writing_resumably(whole.path), ExitStack() as stack:
        journals = {folder: stack.enter_context(folder.journal()) for folder in plans}
        uneven = {job.folder: _machines(job, journals[job.folder], sources) for job in jobs}
        loop = _Loop(
            truth,
            photos,
            prompters,
            models,
            jobs,
            journals,
            watch,
            StageClock(watch.within),
            {image.name: id for id, image in truth.images.items()},
        )
        handled = loop.run(sources)
    return [
        Cell(
            prompt=job.name,
            sam=job.model.sam.name,
            folder=job.folder.path,
            settings=job.settings,
            of_truth=job.prompter.of_truth,
            agnostic=job.prompter.agnostic,
            speed=loop.speed(job, handled),
            notes=[*job.prompter.notes, *uneven[job.folder]],
        )
        for job in jobs
    ]


def cell_folder(whole: RunFolder, prompt: str, sam: str) -> RunFolder:
    """Where a cell lies in the folder of all, by the names of its prompt and its SAM."""
    return replace(whole, path=whole.path / f"{prompt}+{sam}")


def _machines(job: _Job, journal: Journal, sources: Sequence[ImageSource]) -> list[str]:
    """Write down what is to work on a cell; a note when others than it have."""
    left = not all(journal.finished(source.name) for source in sources)
    return job.folder.add_machines([run_info.rounding(str(job.model.sam.device))] if left else [])


def check_distinct(names: Sequence[str]) -> None:
    """Raise UsageError when two cells would have one name, and so one folder."""
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two results would be called {name}: rename one of the files")


@dataclass(frozen=True)
class _Job:
    """One cell to be filled."""

    prompter: EvaluationPrompter
    model: Model
    name: str
    folder: RunFolder
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class _Loop:
    truth: GroundTruth
    photos: Photos
    prompters: Sequence[EvaluationPrompter]
    models: Sequence[Model]
    jobs: Sequence[_Job]
    journals: Mapping[RunFolder, Journal]
    watch: Watcher
    clock: StageClock
    ids: Mapping[str, int]

    def run(self, sources: Sequence[ImageSource]) -> Counter[str]:
        """Returns how many images each cell, by name, and each stage of the clock was given.

        Units of images are fixed, so that a resumed run repeats what it did.
        """
        handled: Counter[str] = Counter()
        waiting = sum(bool(self._left(source)) for source in sources)
        self.watch.started(len(sources), len(sources) - waiting)
        size = max(prompter.batch for prompter in self.prompters)
        units = [sources[start : start + size] for start in range(0, len(sources), size)]
        units = [unit for unit in units if any(map(self._left, unit))]
        with WriteBehind() as writer:
            for unit in read_ahead(units, self._load):
                asked = dict.fromkeys(job.prompter for source, _ in unit for job in self._left(source))
                found = self._find([image for _, image in unit if isinstance(image, Image)], list(asked))
                handled.update({key: len(unit) for key in ("load", *map(_detect, asked))})
                for source, image in unit:
                    if jobs := self._left(source):
                        handled.update({key for job in jobs for key in (job.folder.path.name, *_of_sam(job))})
                        writer.put(self._write, source, image, self._segment(source, image, found))
        return handled

    def speed(self, job: _Job, handled: Mapping[str, int]) -> dict[str, float]:
        """Images per second, of each stage that the cell went through and of all, and the most memory so far.

        handled: what `run` returned. A stage that cells share may have been given more images than this one.
        """
        images = handled[job.folder.path.name]
        keys = dict(zip(STAGES, ("load", _detect(job.prompter), *_of_sam(job)), strict=True))
        if job.prompter.of_truth:
            del keys["detect"]
        each = {stage: self.clock.seconds[key] / max(1, handled[key]) for stage, key in keys.items()}
        if not images or not sum(each.values()):
            return {}
        rates = {stage: round(1 / value, 3) for stage, value in each.items() if value}
        total = round(1 / sum(each.values()), 3)
        return {"images": images, "per_second": total, **rates, "peak_memory_mib": run_info.peak_memory_mib()}

    def _left(self, source: ImageSource) -> list[_Job]:
        return [job for job in self.jobs if not self.journals[job.folder].finished(source.name)]

    def _load(self, source: ImageSource) -> tuple[ImageSource, Image | ImageError]:
        entry = self.truth.images[self.ids[source.name]]
        with self.clock("load"):
            try:
                return source, self.photos.load(entry)
            except ImageError as error:
                return source, error

    def _find(
        self, images: Sequence[Image], prompters: Sequence[EvaluationPrompter]
    ) -> dict[tuple[EvaluationPrompter, str], Detections | ImageError]:
        """What each prompter finds in each image; when it refuses several together, each is tried alone."""
        results: dict[tuple[EvaluationPrompter, str], Detections | ImageError] = {}
        for prompter in prompters:
            ask = partial(self._ask, prompter)
            found = prompt_images(ask, images, self.clock, _detect(prompter))
            results |= {(prompter, image.name): each for image, each in zip(images, found, strict=True)}
        return results

    def _ask(self, prompter: EvaluationPrompter, images: Sequence[Image]) -> Sequence[Detections]:
        return prompter.find(images, [self.truth.objects[self.ids[image.name]] for image in images])

    def _segment(
        self,
        source: ImageSource,
        image: Image | ImageError,
        found: Mapping[tuple[EvaluationPrompter, str], Detections | ImageError],
    ) -> list[tuple[_Job, Instances | ImageError]]:
        """What each unfinished cell gets."""
        jobs = self._left(source)
        if isinstance(image, ImageError):
            return [(job, image) for job in jobs]
        results: list[tuple[_Job, Instances | ImageError]] = []
        for model in self.models:
            mine = [job for job in jobs if job.model is model]
            prompts = {job.prompter: found[job.prompter, image.name] for job in mine}
            masks = self._masks(model, image, prompts)
            results += [(job, masks[job.prompter][job.prompter.names.index(job.name)]) for job in mine]
        return results

    def _masks(
        self, model: Model, image: Image, prompts: Mapping[EvaluationPrompter, Detections | ImageError]
    ) -> dict[EvaluationPrompter, Sequence[Instances | ImageError]]:
        """One SAM's masks for one image: encoded once, and not at all where nothing is to be segmented."""
        objects = self.truth.objects[self.ids[image.name]]
        results: dict[EvaluationPrompter, Sequence[Instances | ImageError]] = {}
        encoded: Encoded | None = None
        for prompter, found in prompts.items():
            if isinstance(found, ImageError) or not len(found):
                nothing = found if isinstance(found, ImageError) else Instances.empty(found)
                results[prompter] = [nothing] * len(prompter.names)
                continue
            try:
                if encoded is None:
                    with self.clock(_encode(model)):
                        encoded = model.sam.encode([model.sam.prepare(image.pixels)])
                with self.clock(_decode(prompter, model)):
                    results[prompter] = prompter.segment(encoded, found, objects)
            except FAULTS as error:
                results[prompter] = [failure(image, error)] * len(prompter.names)
        return results

    def _write(
        self, source: ImageSource, image: Image | ImageError, results: Sequence[tuple[_Job, Instances | ImageError]]
    ) -> None:
        entry = self.truth.images[self.ids[source.name]]
        for job, result in results:
            record = image_record(source.name, entry.id, image, result)
            self.journals[job.folder].add(record)
        self.watch.recorded(record)


def _detect(prompter: EvaluationPrompter) -> str:
    return f"detect {prompter.names}"


def _of_sam(job: _Job) -> tuple[str, str]:
    return _encode(job.model), _decode(job.prompter, job.model)


def _encode(model: Model) -> str:
    return f"encode {model.sam.name}"


def _decode(prompter: EvaluationPrompter, model: Model) -> str:
    return f"decode {prompter.names} {model.sam.name}"
