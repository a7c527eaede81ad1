"""SAMs times back ends times precisions, measured side by side on one machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TypeVar

import torch

from pipelines import rle
from pipelines.benchmark import works
from pipelines.benchmark.config import BenchmarkConfig
from pipelines.benchmark.cost import cost_of
from pipelines.benchmark.measured import Agreement, Measured
from pipelines.benchmark.memory import Memory, peak_memory
from pipelines.benchmark.report import Report
from pipelines.benchmark.subjects import Subject, random_weights, subjects_of
from pipelines.benchmark.timing import Failed, Outcome, in_turn, noting
from pipelines.device import check_device
from pipelines.errors import EvsamError, SetupError, WeightsError
from pipelines.evaluation.miou import iou
from pipelines.memory import out_of_memory
from pipelines.run import Watcher
from pipelines.sam import SAMS
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


def benchmark(config: BenchmarkConfig, watch: Watcher) -> Report:
    """Measure all combinations that can be had here; the report says why others cannot.

    Raises the error of the last one when none can, WeightsError for weights that are missing, and SetupError when
    memory runs out.
    """
    device = check_device(config.device)
    scene = works.open_scene(config.photo, config.most_boxes)
    with random_weights([name for name in config.sams if name in SAMS and config.random_weights]) as drawn:
        subjects = subjects_of(config, drawn)
        try:
            sams, left_out = _build(subjects, watch)
            return Report(config, list(_Bench(config, scene, sams, device, watch).measure()), left_out)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            raise SetupError("memory ran out: measure fewer models at once, or smaller batches") from error


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
        memory = self._memory() if config.memory else {}
        encoder = self._times("encoder", config.batches, works.encode)
        for sam in self.sams.values():
            sam.set_image(scene.image.pixels)
        boxes = self._times("boxes", config.boxes, lambda sam, count: works.segment_boxes(sam, scene, count))
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
            taken = in_turn(jobs, rounds=rounds, warm_up=warm_up, device=self.device, done=step)
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
