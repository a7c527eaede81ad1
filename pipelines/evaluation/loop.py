"""The loop of an evaluation: every image read once, detected once per detector, encoded once per SAM.

    image -> what each prompter finds in it -> each SAM: encoded -> each prompter's masks -> the cells' journals

Images are read ahead in threads, and prepared ahead for the next SAM; a SAM encodes and decodes as many together as it
likes; masks get their image's size, and records are written, while it is at the next.

Images are handled in fixed units, and a unit that is only partly finished is handled again as a whole, so that a
resumed run repeats what it did.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from pipelines import run_info
from pipelines.attempts import FAULTS, failure, together_or_alone
from pipelines.errors import ImageError
from pipelines.evaluation.annotations import GroundTruth, TruthObject
from pipelines.evaluation.photos import Photos
from pipelines.evaluation.prompts import EvaluationPrompter
from pipelines.images.sources import ImageSource
from pipelines.prompts import prompt_images
from pipelines.records import image_record
from pipelines.run import Finish, Result, Watcher, settled
from pipelines.run.folder import RunFolder
from pipelines.run.journal import Journal
from pipelines.run.loop import DEPTH, FINISHERS
from pipelines.run.stages import StageClock, WriteBehind, read_ahead
from pipelines.sam.predictor import Prepared, SamPredictor
from pipelines.types import Detections, Image, Instances

STAGES = ("load", "detect", "encode", "decode")

Found = Detections | ImageError


@dataclass(frozen=True, eq=False)
class Model:
    """A SAM to be scored. settings: what decides its masks, for the stamp."""

    sam: SamPredictor
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class CellJob:
    """One cell to be filled: the result set `name` of a prompter, with one SAM."""

    prompter: EvaluationPrompter
    model: Model
    name: str
    folder: RunFolder
    settings: Mapping[str, Any]

    @property
    def stages(self) -> dict[str, str]:
        """The stages that the cell goes through, and what the loop's clock calls them."""
        keys = ("load", _detect(self.prompter), _encode(self.model), _decode(self.prompter, self.model))
        stages = dict(zip(STAGES, keys, strict=True))
        if self.prompter.of_truth:
            del stages["detect"]
        return stages


@dataclass(frozen=True)
class _Unit:
    """Images that are handled together. jobs: those that have not finished all of them; found: by prompter, what is to
    be segmented in each image, or why it failed.
    """

    sources: Sequence[ImageSource]
    images: Sequence[Image | ImageError]
    jobs: Sequence[CellJob]
    found: Mapping[EvaluationPrompter, Sequence[Found]]


@dataclass(frozen=True)
class _Asked:
    """One image of a unit, for one SAM. wanted: whether it is encoded; prepared: None where it is not."""

    unit: _Unit
    place: int
    model: Model
    wanted: bool = False
    prepared: Prepared | ImageError | None = None

    @property
    def image(self) -> Image | ImageError:
        return self.unit.images[self.place]

    def readable(self) -> Image:
        """The image where it was read."""
        assert isinstance(self.image, Image), "else it is not prepared"
        return self.image

    def prompts(self, prompter: EvaluationPrompter) -> Detections | None:
        """What is to be segmented; None where that is nothing."""
        found = self.unit.found[prompter][self.place]
        return found if isinstance(found, Detections) and found else None


@dataclass(frozen=True)
class Loop:
    """jobs: of all cells; journals: by a cell's folder; ids: of the images by name.

    handled: how many images each stage of the clock was given, and each cell, by its folder's name; unwritten: by name
    of image, in how many cells it is not yet.
    """

    truth: GroundTruth
    photos: Photos
    jobs: Sequence[CellJob]
    journals: Mapping[RunFolder, Journal]
    ids: Mapping[str, int]
    watch: Watcher
    clock: StageClock = field(default_factory=StageClock)
    handled: Counter[str] = field(default_factory=Counter)
    unwritten: Counter[str] = field(default_factory=Counter)

    def run(self, sources: Sequence[ImageSource]) -> None:
        """Fill the cells. sources: all images of the truth."""
        self.unwritten.update({source.name: len(self._left([source])) for source in sources})
        self.watch.started(len(sources), len(sources) - sum(map(bool, self.unwritten.values())))
        size = max(max(job.prompter.batch, job.model.sam.batch) for job in self.jobs)
        units = [sources[start : start + size] for start in range(0, len(sources), size)]
        loaded = read_ahead(filter(self._left, units), self._load)
        with ThreadPoolExecutor(FINISHERS, "finish") as pool, WriteBehind(max(size, DEPTH)) as writer:
            for share in read_ahead(self._shares(map(self._find, loaded)), self._prepare, depth=1):
                for job, each, finish in self._masks(share):
                    source = each.unit.sources[each.place]
                    if not self.journals[job.folder].finished(source.name):
                        self.handled[job.folder.path.name] += 1
                        writer.put(self._write, job, source, each.image, pool.submit(finish))

    def speed(self, job: CellJob) -> dict[str, float]:
        """Images per second, of each stage that the cell went through and of all, and the most memory so far.

        A stage that cells share may have been given more images than this one.
        """
        images = self.handled[job.folder.path.name]
        each = {stage: self.clock.seconds[key] / max(1, self.handled[key]) for stage, key in job.stages.items()}
        if not images or not sum(each.values()):
            return {}
        rates = {stage: round(1 / value, 3) for stage, value in each.items() if value}
        total = round(1 / sum(each.values()), 3)
        return {"images": images, "per_second": total, **rates, "peak_memory_mib": run_info.peak_memory_mib()}

    def _left(self, sources: Sequence[ImageSource]) -> list[CellJob]:
        """Those that have not finished all of these."""
        return [
            job for job in self.jobs if not all(self.journals[job.folder].finished(source.name) for source in sources)
        ]

    def _load(self, source: ImageSource) -> tuple[ImageSource, Image | ImageError]:
        with self.clock("load"):
            try:
                return source, self.photos.load(self.truth.images[self.ids[source.name]])
            except ImageError as error:
                return source, error

    def _find(self, loaded: Sequence[tuple[ImageSource, Image | ImageError]]) -> _Unit:
        """What each prompter finds in each image; when it refuses several together, each is tried alone."""
        sources, images = zip(*loaded, strict=True)
        jobs = self._left(sources)
        read = [image for image in images if isinstance(image, Image)]
        self.handled["load"] += len(images)
        found: dict[EvaluationPrompter, list[Found]] = {}
        for prompter in dict.fromkeys(job.prompter for job in jobs):
            self.handled[_detect(prompter)] += len(images)
            results = iter(prompt_images(partial(self._ask, prompter), read, self.clock, _detect(prompter)))
            found[prompter] = [image if isinstance(image, ImageError) else next(results) for image in images]
        return _Unit(sources, images, jobs, found)

    def _ask(self, prompter: EvaluationPrompter, images: Sequence[Image]) -> Sequence[Detections]:
        return prompter.find(images, [self._objects(image) for image in images])

    def _shares(self, units: Iterable[_Unit]) -> Iterator[Sequence[_Asked]]:
        """Of each unit, for each SAM, as many images as it likes together."""
        for unit in units:
            for model in dict.fromkeys(job.model for job in unit.jobs):
                for start in range(0, len(unit.images), model.sam.batch):
                    yield _share(unit, model, range(len(unit.images))[start : start + model.sam.batch])

    def _prepare(self, asked: _Asked) -> _Asked:
        if not asked.wanted or isinstance(asked.image, ImageError):
            return asked
        try:
            return replace(asked, prepared=asked.model.sam.prepare(asked.image.pixels))
        except FAULTS as error:
            return replace(asked, prepared=failure(asked.image, error))

    def _masks(self, share: Sequence[_Asked]) -> Iterator[tuple[CellJob, _Asked, Finish]]:
        """What gives each cell's instances of each image, in its order."""
        model = share[0].model
        jobs = [job for job in share[0].unit.jobs if job.model is model]
        prompters = list(dict.fromkeys(job.prompter for job in jobs))
        self.handled.update(
            {key: len(share) for key in (_encode(model), *(_decode(each, model) for each in prompters))}
        )
        ready = [asked for asked in share if isinstance(asked.prepared, Prepared)]
        segmented = together_or_alone(partial(self._segment, model, prompters), ready, _Asked.readable)
        masks = dict(zip((asked.place for asked in ready), segmented, strict=True))
        for job in jobs:
            for asked in share:
                yield job, asked, self._finish(job, asked, masks.get(asked.place))

    def _segment(
        self, model: Model, prompters: Sequence[EvaluationPrompter], ready: Sequence[_Asked]
    ) -> list[dict[EvaluationPrompter, Sequence[Finish]]]:
        """What gives the instances of each image, by prompter and in the order of its names, where it prompts any.

        Raises one of FAULTS when several images are too much; of one image alone, a prompter's fault is its own.
        """
        with self.clock(_encode(model)):
            encoded = model.sam.encode([asked.prepared for asked in ready if isinstance(asked.prepared, Prepared)])
        results: list[dict[EvaluationPrompter, Sequence[Finish]]] = [{} for _ in ready]
        for prompter in prompters:
            prompts = {i: found for i, asked in enumerate(ready) if (found := asked.prompts(prompter))}
            if not prompts:
                continue
            objects = [self._objects(ready[i].readable()) for i in prompts]
            try:
                with self.clock(_decode(prompter, model)):
                    made = prompter.segment(encoded.take(list(prompts)), list(prompts.values()), objects)
            except FAULTS as error:
                if len(ready) > 1:
                    raise
                made = [[settled(failure(ready[0].readable(), error))] * len(prompter.names)]
            for i, finishes in zip(prompts, made, strict=True):
                results[i][prompter] = finishes
        return results

    def _finish(
        self, job: CellJob, asked: _Asked, masks: Mapping[EvaluationPrompter, Sequence[Finish]] | ImageError | None
    ) -> Finish:
        """masks: of the image, see `_segment`; None where it was not encoded."""
        found = asked.unit.found[job.prompter][asked.place]
        if isinstance(found, ImageError):
            return settled(found)
        if not found:
            return settled(Instances.empty(found))
        if isinstance(asked.prepared, ImageError):
            return settled(asked.prepared)
        if isinstance(masks, ImageError):
            return settled(masks)
        assert masks is not None, "what has prompts is encoded"
        finish = masks[job.prompter][job.prompter.names.index(job.name)]

        def finished() -> Result:
            try:
                with self.clock(_decode(job.prompter, job.model)):
                    return finish()
            except FAULTS as error:
                return failure(asked.readable(), error)

        return finished

    def _write(self, job: CellJob, source: ImageSource, image: Image | ImageError, finished: Future[Result]) -> None:
        record = image_record(source.name, self.ids[source.name], image, finished.result())
        self.journals[job.folder].add(record)
        self.unwritten[source.name] -= 1
        if not self.unwritten[source.name]:
            self.watch.recorded(record)

    def _objects(self, image: Image) -> Sequence[TruthObject]:
        return self.truth.objects[self.ids[image.name]]


def _share(unit: _Unit, model: Model, places: Iterable[int]) -> list[_Asked]:
    """All are wanted when something is to be segmented in one, so that what is encoded together does not depend on what
    is left to do.
    """
    share = [_Asked(unit, place, model) for place in places]
    prompters = [job.prompter for job in unit.jobs if job.model is model]
    wanted = any(asked.prompts(prompter) for asked in share for prompter in prompters)
    return [replace(asked, wanted=wanted) for asked in share]


def _detect(prompter: EvaluationPrompter) -> str:
    return f"detect {prompter.names}"


def _encode(model: Model) -> str:
    return f"encode {model.sam.name}"


def _decode(prompter: EvaluationPrompter, model: Model) -> str:
    return f"decode {prompter.names} {model.sam.name}"
