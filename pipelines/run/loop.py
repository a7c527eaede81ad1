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
from dataclasses import dataclass, replace
from typing import Any

from pipelines import run_info
from pipelines.attempts import FAULTS, failure
from pipelines.errors import ImageError, UsageError
from pipelines.files import check_folder, writing
from pipelines.images.load import load
from pipelines.images.sources import ImageSource, image_ids, resolve, shard
from pipelines.outputs import Needs, Output, check_needs
from pipelines.records import Record, image_record
from pipelines.run import Job, Prepared, Result, RunConfig, Silent, Summary, Watcher, settled
from pipelines.run.folder import Plan, RunFolder, check_kept
from pipelines.run.journal import Journal
from pipelines.run.stages import StageClock, WriteBehind, read_ahead, writing_resumably
from pipelines.types import Image, Instances
from pipelines.urls import is_url, shown_location
from weights import store

FINISHERS = 2
"""Threads that finish what jobs leave."""
DEPTH = 4
"""Images waiting to be written at most, or as many as a job handles together."""


def results_of(job: Job[Prepared], images: Sequence[Image], clock: StageClock) -> list[Result]:
    """What a job makes of a few images, without threads and files. Raises ImageError for one that it cannot prepare."""
    return [finish() for finish in job([job.prepare(image) for image in images], clock)]


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
    found = resolve(config.sources, output=config.output)

    folder = RunFolder(config.output, config.resume, config.overwrite)
    plan = _plan(folder, {**settings, **_own_settings(config, device)}, found, config)

    ids = image_ids(plan.sources)
    job = make_job(ids)
    ids = getattr(job, "image_ids", None) or ids
    plan = replace(plan, settings=_called(plan.settings))
    part = shard(plan.sources, *config.shard)
    mine = {source.name: ids[source.name] for source in part}

    start, clock = time.perf_counter(), StageClock(watch.within)
    with writing(config.output), folder.hold(plan):
        folder.begin(plan)
        with writing_resumably(config.output), folder.journal() as journal:
            outputs = folder.outputs(plan, job.categories)
            left = sum(not journal.finished(name) for name in mine)
            uneven = folder.add_machines([run_info.rounding(device)] if left else [])
            watch.started(len(part), len(part) - left)
            _Loop(config, job, outputs, journal, mine, watch, clock).run(part)

            report = dict(job.report())
            told = [note for output in outputs for note in output.notes(lambda: journal.records(mine))]
            info = {
                "settings": plan.settings,
                "defaults": dict(defaults or {}),
                "sources": [shown_location(source) for source in config.sources],
                **run_info.images(lambda: journal.records(mine), [*uneven, *report.get("notes", ()), *told]),
                "categories": {category.id: category.name for category in job.categories},
                "report": report,
                "versions": run_info.versions(),
                "machine": run_info.machine(device),
                "this_run": run_info.speed(left, time.perf_counter() - start, clock.seconds),
            }
            folder.finish(info)
    return Summary(info)


def _called(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, those among them that are dear to know called."""
    return {name: value() if callable(value) else value for name, value in settings.items()}


def _own_settings(config: RunConfig, device: str) -> dict[str, Any]:
    """What decides the results of any job."""
    return {
        "device": device.split(":")[0],
        "save": sorted(config.save),
        "output_options": {name: dict(options) for name, options in config.output_options.items()},
        "batch": config.batch,
        "shard": f"{config.shard[0]}/{config.shard[1]}",
        "max_pixels": config.max_pixels,
    }


def _plan(folder: RunFolder, settings: Mapping[str, Any], found: Sequence[ImageSource], config: RunConfig) -> Plan:
    """What is to be done; what can be wrong with sources and folder is found here."""
    plan = folder.plan(settings, found)
    check_kept(found, folder.path, plan.replaced)
    _check_offline(config, plan.sources)
    check_folder(folder.path)
    # other weights than then are told before they are loaded
    return folder.plan(_called(settings), found) if plan.goes_on else plan


def _check_offline(config: RunConfig, sources: Iterable[ImageSource]) -> None:
    offline = store.is_offline() if config.offline is None else config.offline
    urls = [source.location for source in sources if is_url(source.location)]
    if offline and urls:
        raise UsageError(
            f"{shown_location(urls[0])} is on the network, but this is an offline run: fetch it first, or drop "
            "--offline"
        )


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
                rest = self.job([each.prepared for each in unit if isinstance(each.image, Image)], self.clock)
                for each in unit:
                    finish = next(rest) if isinstance(each.image, Image) else settled(each.image)
                    if not self.journal.finished(each.source.name):
                        writer.put(self._write, each, pool.submit(finish))
        with self.clock("write"):
            for output in self.outputs:
                output.finish(lambda: self.journal.records(self.ids))

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

    def _write(self, loaded: _Loaded, finished: Future[Result]) -> None:
        result = finished.result()
        with self.clock("write"):
            record = self._put_down(loaded.source.name, loaded.image, result)
            self.journal.add(record)
        self.watch.recorded(record)

    def _put_down(self, name: str, image: Image | ImageError, result: Result) -> Record:
        """Write an image's files, and take away those of an earlier try: one that failed has none."""
        self._remove(name)
        try:
            if isinstance(image, Image) and isinstance(result, Instances):
                for output in self.outputs:
                    output.write(image, result)
            return image_record(name, self.ids[name], image, result)
        except FAULTS as error:
            self._remove(name)
            assert isinstance(image, Image), "else nothing was tried"
            return image_record(name, self.ids[name], image, failure(image, error))

    def _remove(self, name: str) -> None:
        for output in self.outputs:
            output.remove(name)
