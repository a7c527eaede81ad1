"""The one loop: images in, a job's instances out to every output, and a journal of what is finished.

    image -> job -> Instances -> every output -> journal

Each has threads of its own: images are read and prepared ahead, and what a job leaves to be finished is finished, and
written, while it is at the next images.

What an image is given depends on the image and the settings alone, so a run that was killed and resumed writes the same
files as one that was not: images are handled in fixed units of `batch`, and a unit that is only partly finished is
given to the job again as a whole.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines import run_info
from pipelines.attempts import FAULTS, failure
from pipelines.errors import ImageError, UsageError
from pipelines.files import check_folder, write_json, writing
from pipelines.images.load import load
from pipelines.images.sources import ImageSource, image_ids, resolve, shard
from pipelines.notes import notes_of_images
from pipelines.outputs import OUTPUTS, Destination, Needs, Output, check_needs, files_of
from pipelines.outputs.folder import scratch_folder
from pipelines.records import Record, Status, instance_records, tally
from pipelines.run import Job, Prepared, Result, RunConfig, Silent, Summary, Watcher
from pipelines.run.journal import Journal, begin, holding, plan, run_to_go_on_with
from pipelines.run.stages import StageClock, WriteBehind, read_ahead, writing_resumably
from pipelines.run.state import add_machines, saved
from pipelines.types import Image
from pipelines.urls import is_url, shown_location
from weights import store

FINISHERS = 2
"""Threads that finish what jobs leave."""
DEPTH = 4
"""Images waiting to be written at most, or as many as a job handles together."""


def results_of(job: Job[Prepared], images: Sequence[Image], clock: StageClock) -> list[Result]:
    """What a job makes of a few images, without threads and files. Raises ImageError for one that it cannot prepare."""
    results = job([job.prepare(image) for image in images], clock)
    return [result() if callable(result) else result for result in results]


def run(
    config: RunConfig,
    settings: Mapping[str, Any],
    make_job: Callable[[Mapping[str, int]], Job[Any]],
    *,
    device: str,
    gives: Needs = "masks",
    watch: Watcher | None = None,
    defaults: Mapping[str, str] | None = None,
) -> Summary:
    """Give all images to the job and write the outputs.

    settings: what decides the job's results; a resumed run must agree on it. A value that is dear to know, such as the
    sha256 of weights that may have to be fetched, is given as what returns it. make_job: from image ids (name -> id) to
    the job; what can be wrong with its settings is found there, before the first image, and after what can be wrong
    with sources and output. gives: what its instances have, of which outputs are made. defaults: for `run.json`,
    whose values hold where the user gave none. Raises EvsamError for faults of settings, weights or disk; an image that
    cannot be handled is recorded as failed and the run goes on. KeyboardInterrupt leaves a state from which the same
    call with `resume=True` goes on.
    """
    watch = watch or Silent()
    check_needs(config.save, gives)
    rows = [OUTPUTS[name] for name in config.save]
    settings = {
        **settings,
        "device": device.split(":")[0],
        "save": sorted(config.save),
        "output_options": {name: dict(options) for name, options in config.output_options.items()},
        "batch": config.batch,
        "shard": f"{config.shard[0]}/{config.shard[1]}",
        "max_pixels": config.max_pixels,
    }
    found = resolve(config.sources, output=config.output)
    replaced = [name for name in saved(config.output) if name in config.save] if config.overwrite else []
    _check_kept(found, files_of(config.output, replaced))
    sources = plan(config.output, settings, found, resume=config.resume, overwrite=config.overwrite)
    _check_offline(config, sources)
    check_folder(config.output)
    if run_to_go_on_with(config.output, resume=config.resume, overwrite=config.overwrite) is not None:
        settings = called(settings)  # other weights than then are told before they are loaded
        plan(config.output, settings, found, resume=config.resume, overwrite=config.overwrite)
    ids = image_ids(sources)
    job = make_job(ids)
    settings = called(settings)
    ids = getattr(job, "image_ids", None) or ids
    part = shard(sources, *config.shard)
    mine = {source.name: ids[source.name] for source in part}

    start = time.perf_counter()
    clock = StageClock(watch.within)
    with ExitStack() as stack:
        with writing(config.output):
            stack.enter_context(holding(config.output))
            if plan(config.output, settings, found, resume=config.resume, overwrite=config.overwrite) != sources:
                raise UsageError(f"another run has been in {config.output} just now: try again")
            fresh = config.overwrite or not config.resume
            begin(config.output, settings, sources, fresh=fresh, replaced=replaced)
        stack.enter_context(writing_resumably(config.output))
        categories = {category.id: category for category in job.categories}
        stems = {source.name: source.stem or source.name for source in sources}
        destination = Destination(config.output, scratch_folder(config.output), categories, stems)
        outputs: list[Output] = [row.load()(destination, **config.output_options.get(row.name, {})) for row in rows]
        with Journal(config.output) as journal:
            earlier = sum(journal.finished(name) for name in mine)
            uneven = add_machines(config.output, [run_info.rounding(device)] if earlier < len(mine) else [])
            watch.started(len(part), earlier)
            _Loop(config, job, outputs, journal, ids, watch, clock).run(part)
            with clock("write"):
                for output in outputs:
                    output.finish(lambda: journal.records(mine))
            counts, reasons = tally(journal.records(mine))
            notes = notes_of_images(journal.records(mine))
        report = dict(job.report())
        info: dict[str, Any] = {
            "settings": settings,
            "defaults": dict(defaults or {}),
            "sources": [shown_location(source) for source in config.sources],
            "images": {"total": len(part), **counts},
            **reasons,
            "notes": [*notes, *uneven, *report.get("notes", ())],
            "categories": {category.id: category.name for category in job.categories},
            "report": report,
            "versions": run_info.versions(),
            "machine": run_info.machine(device),
            "this_run": run_info.speed(len(part) - earlier, time.perf_counter() - start, clock.seconds),
        }
        write_json(config.output / "run.json", info)
    return Summary(counts, reasons["failed"], info)


def called(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, those among them that are dear to know called."""
    return {name: value() if callable(value) else value for name, value in settings.items()}


def _check_offline(config: RunConfig, sources: Iterable[ImageSource]) -> None:
    offline = store.is_offline() if config.offline is None else config.offline
    urls = [source.location for source in sources if is_url(source.location)]
    if offline and urls:
        raise UsageError(
            f"{shown_location(urls[0])} is on the network, but this is an offline run: fetch it first, or drop "
            "--offline"
        )


def _check_kept(sources: Iterable[ImageSource], removed: Sequence[Path]) -> None:
    """Raise UsageError when a run that starts anew would delete an image that it is to read."""
    removed = [path.resolve() for path in removed]
    for location in (Path(source.location).resolve() for source in sources if removed):
        if any(location.is_relative_to(path) for path in removed):
            raise UsageError(f"{location} lies in what --overwrite deletes: choose another output folder")


@dataclass(frozen=True)
class _Loaded:
    source: ImageSource
    image: Image | ImageError
    prepared: Any = None


@dataclass(frozen=True)
class _Loop:
    config: RunConfig
    job: Job[Any]
    outputs: Sequence[Output]
    journal: Journal
    ids: Mapping[str, int]
    watch: Watcher
    clock: StageClock

    def run(self, sources: Sequence[ImageSource]) -> None:
        size = self.config.batch or self.job.batch
        with ThreadPoolExecutor(FINISHERS, "finish") as pool, WriteBehind(max(size, DEPTH)) as writer:
            for unit in read_ahead(self._units(sources, size), self._load):
                results = self.job([each.prepared for each in unit if isinstance(each.image, Image)], self.clock)
                for each in unit:
                    result = next(results) if isinstance(each.image, Image) else each.image
                    if not self.journal.finished(each.source.name):
                        writer.put(self._write, each, pool.submit(result) if callable(result) else result)

    def _units(self, sources: Sequence[ImageSource], size: int) -> Iterator[Sequence[ImageSource]]:
        for start in range(0, len(sources), size):
            unit = sources[start : start + size]
            if not all(self.journal.finished(source.name) for source in unit):
                yield unit

    def _load(self, source: ImageSource) -> _Loaded:
        try:
            if source.sha256 is not None:
                raise ImageError("its URL is no more among the sources, and not kept whole, as it may hold a password")
            with self.clock("load"):
                image = load(source, max_pixels=self.config.max_pixels)
            with self.clock("prepare"):
                return _Loaded(source, image, self.job.prepare(image))
        except ImageError as error:
            return _Loaded(source, error)

    def _write(self, loaded: _Loaded, result: Result | Future[Result]) -> None:
        if isinstance(result, Future):
            result = result.result()
        with self.clock("write"):
            record = self._put_down(loaded.source.name, loaded.image, result)
            self.journal.add(record)
        self.watch.recorded(record)

    def _put_down(self, name: str, image: Image | ImageError, result: Result) -> Record:
        """Write an image's files, and take away those of an earlier try: one that failed has none."""
        self._remove(name)
        if isinstance(image, ImageError):
            return Record(name, self.ids[name], 0, 0, "failed", str(image))
        try:
            if isinstance(result, ImageError):
                raise result
            for output in self.outputs:
                output.write(image, result)
            rows = instance_records(result)
        except FAULTS as error:
            self._remove(name)
            return Record(name, self.ids[name], image.width, image.height, "failed", str(failure(image, error)))
        status: Status = "done" if rows else "empty"
        notes = (*image.notes, *result.detections.notes)
        return Record(
            name, self.ids[name], image.width, image.height, status, result.detections.reason, rows, notes, image.frame
        )

    def _remove(self, name: str) -> None:
        for output in self.outputs:
            output.remove(name)
