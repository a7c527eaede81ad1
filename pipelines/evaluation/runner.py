"""The cells of an evaluation, filled by its `loop`: a cell is one way of prompting with one SAM.

Each has its folder, whose journal (`pipelines.run.journal`) holds a record per image, so that a run goes on where it
stopped and a table grows by new rows and columns without repeating the old.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipelines import run_info
from pipelines.errors import UsageError
from pipelines.evaluation.annotations import GroundTruth
from pipelines.evaluation.loop import CellJob, Loop, Model
from pipelines.evaluation.photos import Photos
from pipelines.evaluation.prompts import EvaluationPrompter
from pipelines.files import writing
from pipelines.images.sources import ImageSource
from pipelines.records import Record
from pipelines.run import Watcher
from pipelines.run.folder import RunFolder
from pipelines.run.journal import Journal
from pipelines.run.stages import writing_resumably


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
        CellJob(
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
        loop = Loop(truth, photos, jobs, journals, {image.name: id for id, image in truth.images.items()}, watch)
        loop.run(sources)
    return [
        Cell(
            prompt=job.name,
            sam=job.model.sam.name,
            folder=job.folder.path,
            settings=job.settings,
            of_truth=job.prompter.of_truth,
            agnostic=job.prompter.agnostic,
            speed=loop.speed(job),
            notes=[*job.prompter.notes, *uneven[job.folder]],
        )
        for job in jobs
    ]


def cell_folder(whole: RunFolder, prompt: str, sam: str) -> RunFolder:
    """Where a cell lies in the folder of all, by the names of its prompt and its SAM."""
    return replace(whole, path=whole.path / f"{prompt}+{sam}")


def _machines(job: CellJob, journal: Journal, sources: Sequence[ImageSource]) -> list[str]:
    """Write down what is to work on a cell; a note when others than it have."""
    left = not all(journal.finished(source.name) for source in sources)
    return job.folder.add_machines([run_info.rounding(str(job.model.sam.device))] if left else [])


def check_distinct(names: Sequence[str]) -> None:
    """Raise UsageError when two cells would have one name, and so one folder."""
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two results would be called {name}: rename one of the files")
