"""SAMs times back ends times precisions, measured side by side on one machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import TypeVar

import torch

from pipelines import rle
from pipelines.benchmark import works
from pipelines.benchmark.config import BenchmarkConfig
from pipelines.benchmark.cost import cost_of
from pipelines.benchmark.measured import Agreement, Measured
from pipelines.benchmark.memory import Memory, in_own_process, memory_of_this_process, peak_memory
from pipelines.benchmark.report import Report
from pipelines.benchmark.subjects import Subject, random_weights, subjects_of
from pipelines.benchmark.timing import Failed, Outcome, in_turn, noting
from pipelines.device import check_device
from pipelines.errors import EvsamError, SetupError, WeightsError
from pipelines.evaluation.miou import iou
from pipelines.memory import out_of_memory
from pipelines.run import Silent, Watcher
from pipelines.sam.predictor import SamPredictor
from pipelines.types import Masks

ROUNDS = {"cpu": 5}
ROUNDS_ELSEWHERE = 30
WARM_UP = {"torch-compiled": 3}
"""Rounds that do not count, by back end; 1 for others. A shape is compiled in its first call, and on a GPU recorded in
its second.
"""

Result = TypeVar("Result")
Table = dict[Subject, dict[int, Outcome[Result]]]


@dataclass(frozen=True)
class _Found:
    """measured: in the order of the table; left_out: why."""

    measured: list[Measured]
    left_out: dict[Subject, str]


def benchmark(config: BenchmarkConfig, watch: Watcher) -> Report:
    """Measure all combinations that can be had here; the report says why others cannot.

    Raises the error of the last one when none can, WeightsError for weights that are missing, and SetupError when
    memory runs out.
    """
    check_device(config.device)
    works.open_scene(config.photo, 0)
    if config.one_by_one:
        found = _one_by_one(config, watch)
    else:
        with random_weights(config.to_draw()) as drawn:
            found = _together(config, drawn, watch)
    return Report(config, found.measured, found.left_out)


def _one_by_one(config: BenchmarkConfig, watch: Watcher) -> _Found:
    """Each SAM in a process of its own; one that is killed, or cannot be had, is left out."""
    found = _Found([], {})
    step = _steps(watch, "SAMs, one by one", len(config.sams))
    for name in config.sams:
        alone = replace(
            config, sams=(name,), accuracy={key: config.accuracy[key] for key in config.accuracy if key == name}
        )
        with random_weights(alone.to_draw()) as drawn:
            subjects = subjects_of(alone, drawn)
            try:
                got = in_own_process(_together, alone, drawn, Silent(), called=name, instead="fewer --boxes")
            except WeightsError:
                raise
            except EvsamError as error:
                got = _Found([], dict.fromkeys(subjects, str(error)))
                if name == config.sams[-1] and not found.measured:
                    raise
        found.measured.extend(got.measured)
        found.left_out.update(got.left_out)
        step()
    return found


def _together(config: BenchmarkConfig, drawn: Mapping[str, Path], watch: Watcher) -> _Found:
    """All of them, built before any is measured. drawn: weights, by SAM."""
    scene = works.open_scene(config.photo, config.most_boxes)
    try:
        sams, left_out = _build(subjects_of(config, drawn), watch)
        return _Found(list(_Bench(config, scene, sams, torch.device(config.device), watch).measure()), left_out)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise SetupError("memory ran out: measure --one-by-one, or smaller batches") from error


def _build(subjects: Sequence[Subject], watch: Watcher) -> tuple[dict[Subject, SamPredictor], dict[Subject, str]]:
    """What could be built, and why the rest could not."""
    step = _steps(watch, "building", len(subjects))
    sams: dict[Subject, SamPredictor] = {}
    left_out: dict[Subject, str] = {}
    for subject in subjects:
        try:
            sams[subject] = subject.build()
        except WeightsError as error:
            if subject.weights is None:
                raise WeightsError(f"{error}; or measure without them: --random-weights") from error
            raise
        except EvsamError as error:
            left_out[subject] = str(error)
            if len(left_out) == len(subjects):
                raise
        step()
    return sams, left_out


def _steps(watch: Watcher, stage: str, total: int) -> Callable[[], None]:
    """Begin a stage. Returns what is to be called after each of its steps."""
    done = count(1)
    watch.within(stage, 0, total)
    return lambda: watch.within(stage, next(done), total)


@dataclass(frozen=True)
class _Bench:
    config: BenchmarkConfig
    scene: works.Scene
    sams: Mapping[Subject, SamPredictor]
    device: torch.device
    watch: Watcher

    def measure(self) -> Iterator[Measured]:
        config, scene = self.config, self.scene
        memory = self._memory() if config.memory and not self._alone else {}
        for sam in self.sams.values():
            sam.set_image(scene.image.pixels)
        boxes = self._times("boxes", config.boxes, lambda sam, count: works.segment_boxes(sam, scene, count))
        if config.memory and self._alone:
            memory = dict.fromkeys(self.sams, memory_of_this_process(self.device))
        encoder = self._times("encoder", config.batches, works.encode)
        everything = self._times(
            "everything", config.grids, lambda sam, side: works.segment_everything(sam, scene, side)
        )
        folder = self._times("folder", config.folders, lambda sam, images: works.segment_folder(sam, scene, images))
        for subject in self.sams:
            yield Measured(
                subject,
                cost_of(subject.sam),
                encoder[subject],
                boxes[subject],
                everything[subject],
                folder[subject],
                self._agreement(subject, boxes),
                memory.get(subject),
            )

    @property
    def _alone(self) -> bool:
        """Whether this process has seen no other subject."""
        return self.config.one_by_one and len(self.sams) == 1

    def _memory(self) -> dict[Subject, Memory]:
        step = _steps(self.watch, "memory", len(self.sams))
        found = {}
        for subject in self.sams:
            found[subject] = peak_memory(subject, self.config.photo, self.config.most_boxes)
            step()
        return found

    def _times(
        self, stage: str, kinds: Sequence[int], make: Callable[[SamPredictor, int], Callable[[], Result]]
    ) -> Table[Result]:
        """Of each subject and kind; kind by kind, the subjects in turn."""
        rounds = self.config.rounds or ROUNDS.get(self.device.type, ROUNDS_ELSEWHERE)
        warm_up = max(WARM_UP.get(subject.backend, 1) for subject in self.sams)
        step = _steps(self.watch, stage, len(kinds) * len(self.sams) * (rounds + warm_up))
        found: Table[Result] = {subject: {} for subject in self.sams}
        for kind in kinds:
            jobs: dict[Subject, Callable[[], Result]] = {}
            failed: dict[Subject, Failed] = {}
            for subject, sam in self.sams.items():
                with noting(failed, subject, self.device):
                    jobs[subject] = make(sam, kind)
            clock = time.process_time if self.config.processor_time else time.perf_counter
            taken = in_turn(jobs, rounds=rounds, warm_up=warm_up, device=self.device, done=step, clock=clock)
            for subject, outcome in (failed | taken).items():
                found[subject][kind] = outcome
        return found

    def _agreement(self, subject: Subject, boxes: Table[Masks]) -> Agreement | None:
        """Of the masks of all boxes with those of the first subject that is the same SAM."""
        first = next(other for other in self.sams if other.sam == subject.sam)
        if subject == first or not self.config.boxes:
            return None
        ours, theirs = (boxes[one][self.config.most_boxes] for one in (subject, first))
        if isinstance(ours, Failed) or isinstance(theirs, Failed):
            return None
        pairs = zip(ours.result.rles, theirs.result.rles, strict=True)
        overlaps = [iou(a, b) if rle.area(a) or rle.area(b) else 1.0 for a, b in pairs]
        return Agreement(first.name, sum(overlaps) / len(overlaps), min(overlaps))
