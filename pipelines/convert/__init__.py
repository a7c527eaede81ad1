"""Labels of one format become those of others: a run of evsam, or what `pipelines.labels` reads, to kinds of `OUTPUTS`.

Twice through the images. First all is read, an image at a time, into a file of records: what cannot be right is found
before anything is written. Then each kind is written of these records, into a folder like a run's.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2

from pipelines import run_info
from pipelines.convert.check import check
from pipelines.convert.image import blank, instances_of, masked, photo
from pipelines.convert.source import Source, open_source
from pipelines.convert.spool import Spool
from pipelines.errors import ImageError, UsageError
from pipelines.files import check_folder, writing
from pipelines.images.sources import ImageSource, image_ids
from pipelines.labels.photos import locate
from pipelines.names import distinct, safe
from pipelines.notes import counted_images
from pipelines.outputs import OUTPUTS, Output, OutputRow, check_needs
from pipelines.records import Record
from pipelines.run import Silent, Summary, Watcher
from pipelines.run.folder import Plan, RunFolder, check_kept
from pipelines.run.journal import Journal
from pipelines.types import Image

_FAULTS = (ImageError, MemoryError, cv2.error)


@dataclass(frozen=True)
class ConvertConfig:
    """source: the folder of a run, or a file or folder of labels, in the format `form` of `LABELS`, None to look; what
    is to be known of it: photos, their folder, and names, of the classes, see `labels.Asked`. output, save,
    output_options, overwrite: see `RunConfig`. check: read back what was written and compare.
    """

    source: Path
    output: Path
    save: tuple[str, ...]
    output_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    form: str | None = None
    photos: Path | None = None
    names: tuple[str, ...] | None = None
    overwrite: bool = False
    check: bool = False


def convert(config: ConvertConfig, watch: Watcher | None = None) -> Summary:
    """Write the kinds of output; the summary's info has, under "check", what each kept if that was asked for.

    One that was killed is repeated by the same call. Raises UsageError, DataError, SetupError; an image that a kind
    cannot be made of is recorded as failed.
    """
    watch = watch or Silent()
    start = time.perf_counter()
    if config.output.resolve() == config.source.resolve():
        raise UsageError(f"{config.output} is what is to be converted: choose another output folder")
    check_needs(config.save, "masks")
    source = open_source(config.source, config.form, config.photos, config.names)
    check_folder(config.output)
    with Spool(config.output) as spool:
        total = source.labels.count
        for number, record in enumerate(source.labels.records):
            watch.within("reading", number, total)
            spool.add(record)
        watch.within("reading", total, total)
        _check_masks(config, spool)
        plan = _plan(config, source, spool.names)
        return _write(config, source, spool, plan, watch, start)


def _check_masks(config: ConvertConfig, spool: Spool) -> None:
    """Raise UsageError where kinds are made of masks, and there are none."""
    if spool.objects and not spool.masks:
        for row in (OUTPUTS[name] for name in config.save):
            if row.needs == "masks":
                raise UsageError(f"{row.name!r} needs masks, and {config.source} has boxes alone")


def _folder(config: ConvertConfig) -> RunFolder:
    return RunFolder(config.output, overwrite=config.overwrite, merging=True)


def _plan(config: ConvertConfig, source: Source, names: list[str]) -> Plan:
    settings = {
        "verb": "convert",
        "source": str(config.source.absolute()),
        "source_sha256": source.sha256,
        "form": source.form,
        "model": source.model,
        "class_names": config.names,
        "photos": config.photos and str(config.photos.absolute()),
        "save": sorted(config.save),
        "output_options": config.output_options,
        "shard": "1/1",
    }
    places, _ = locate(source.path, source.labels, source.photos, names)
    ours = distinct([safe(name) for name in names])
    sources = [ImageSource(mine, str(places[name])) for name, mine in zip(names, ours, strict=True)]
    folder = _folder(config)
    plan = folder.plan(json.loads(json.dumps(settings)), sources)
    read = ImageSource(config.source.name, str(config.source))
    check_kept([*sources, read], folder.path, plan.replaced)
    return plan


def _write(config: ConvertConfig, source: Source, spool: Spool, plan: Plan, watch: Watcher, start: float) -> Summary:
    folder, total = _folder(config), len(plan.sources)
    ours = {name: each.name for name, each in zip(spool.names, plan.sources, strict=True)}
    ids = spool.ids if source.labels.ids else []
    by_name = (
        dict(zip(ours.values(), ids, strict=True)) if ids and len(set(ids)) == len(ids) else image_ids(plan.sources)
    )
    with writing(config.output, ", then repeat the command"), folder.hold(plan):
        folder.begin(plan)
        with folder.journal(at_once=False) as journal:
            kinds = [OUTPUTS[name] for name in plan.settings["save"]]
            outputs = list(zip(kinds, folder.outputs(plan, source.labels.categories), strict=True))
            for number, (record, place) in enumerate(zip(spool.records(), plan.sources, strict=True)):
                watch.within("writing", number, total)
                mine = replace(record, name=place.name, image_id=by_name[place.name])
                journal.add(_put_down(mine, place, source, outputs))
            watch.within("writing", total, total)
            told: list[str] = []
            for row, output in outputs:
                output.finish(_records(journal, by_name, row))
                told += output.notes(_records(journal, by_name, row))
            checked = (
                check(folder.path, plan, journal, by_name, source.labels.categories, watch) if config.check else []
            )
            notes = [*source.notes(), *_renamed(ours), *_without_masks(config, spool, kinds), *told]
            info = {
                "settings": plan.settings,
                "sources": [str(config.source)],
                **run_info.images(lambda: journal.records(by_name), notes),
                "categories": {category.id: category.name for category in source.labels.categories},
                "report": {"objects": spool.objects, "left_out": source.labels.left_out.total, "check": checked},
                "versions": run_info.versions(),
                "this_run": run_info.speed(total, time.perf_counter() - start, {}),
            }
        folder.finish(info)
    return Summary(info)


def _records(journal: Journal, ids: Mapping[str, int], row: OutputRow) -> Callable[[], Iterable[Record]]:
    """What a kind's run-wide files are made of: of a kind of masks, objects that have one."""

    def stream() -> Iterator[Record]:
        for record in journal.records(ids):
            yield masked(record) if row.needs == "masks" else record

    return stream


def _put_down(
    record: Record, place: ImageSource, source: Source, outputs: Iterable[tuple[OutputRow, Output]]
) -> Record:
    """Write an image's own files; returns its record, failed where they could not be written."""
    outputs = list(outputs)
    if record.status == "failed":
        return record
    try:
        image: Image | None = None
        for row, output in outputs:
            if row.pixels:
                image = image or photo(record, place, source)
            shown = image if row.pixels and image else blank(record)
            output.write(shown, instances_of(masked(record) if row.needs == "masks" else record))
    except _FAULTS as error:
        for _, output in outputs:
            output.remove(record.name)
        why = (
            str(error) if isinstance(error, ImageError) else f"out of memory at {record.width} x {record.height} pixels"
        )
        return replace(record, status="failed", reason=why, instances=())
    return record


def _renamed(ours: Mapping[str, str]) -> list[str]:
    """A note on images whose names no file can have, or another has."""
    others = [name for name, mine in ours.items() if name != mine]
    return [f"names were changed so that each can be that of a file: {counted_images(others)}"] if others else []


def _without_masks(config: ConvertConfig, spool: Spool, kinds: Iterable[OutputRow]) -> list[str]:
    """A note on objects that kinds of masks have no place for."""
    lacking = spool.objects - spool.masks
    of_masks = [row.name for row in kinds if row.needs == "masks"]
    if not lacking or not of_masks:
        return []
    objects = "1 object has" if lacking == 1 else f"{lacking} objects have"
    return [f"{objects} a box and no mask, and no place in {', '.join(of_masks)}"]
