"""Join the shards of a run: `evsam segment --shard 1/4 -o part-1 ...` and so on, then `evsam merge part-* -o all`."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pipelines.errors import UsageError
from pipelines.files import replacing, write_json, writing
from pipelines.journal import STATE, Journal, begin, holding, plan, read_settings, read_sources, saved, scratch_folder
from pipelines.notes import notes_of_images
from pipelines.outputs import OUTPUTS, Destination, remove_outputs
from pipelines.run import Summary, tally
from pipelines.sources import Source
from pipelines.types import Category


def merge(parts: Sequence[Path], output: Path, *, overwrite: bool = False) -> Summary:
    """Write to `output` what one run over all images would have written.

    parts: the shards' output folders, each finished. Raises UsageError when one is not a finished run, when they are
    of different runs, when an image is in none of them or in two.
    """
    if output.resolve() in [part.resolve() for part in parts]:
        raise UsageError(f"{output} is one of the parts: choose another folder for the whole")
    settings = _common_settings(parts)
    sources = _common_sources(parts)
    ids: dict[str, int] = {}
    with ExitStack() as stack:
        journals = [stack.enter_context(Journal(part, read_only=True)) for part in parts]
        owners = _owners(sources, parts, journals)
        planned = plan(output, settings, sources, resume=False, overwrite=overwrite)
        stack.enter_context(writing(output))
        stack.enter_context(holding(output))
        if overwrite:
            remove_outputs(output, [name for name in saved(output) if name in settings["save"]])
        begin(output, settings, planned, fresh=True)
        joined = stack.enter_context(Journal(output))
        for source in sources:
            record = journals[owners[source.name]].record(source.name)
            ids[source.name] = record.image_id
            joined.add(record)
        for part in parts:
            _copy_image_files(part, output)
        infos = [json.loads((part / "run.json").read_text("utf-8")) for part in parts]
        info = _join_info(infos, settings)
        categories = {int(key): Category(int(key), name) for key, name in info["categories"].items()}
        destination = Destination(output, scratch_folder(output), categories)
        for name in settings["save"]:
            options = settings["output_options"].get(name, {})
            OUTPUTS[name].load()(destination, **options).finish(lambda: joined.records(ids))
        counts, failed = tally(joined.records(ids))
        info = {
            **info,
            "images": {"total": len(ids), **counts},
            "failed": failed,
            "notes": _join_notes(infos, joined, ids),
        }
        write_json(output / "run.json", info)
    return Summary(counts, failed, info)


def _common_settings(parts: Sequence[Path]) -> dict[str, Any]:
    common: dict[str, Any] | None = None
    for part in parts:
        settings = read_settings(part)
        if settings is None or not (part / "run.json").exists():
            raise UsageError(f"{part} holds no finished run: finish it with --resume first")
        settings["shard"] = "1/1"
        if common is not None and settings != common:
            keys = [key for key in settings if settings[key] != common.get(key)]
            raise UsageError(f"{part} and {parts[0]} are parts of different runs: {', '.join(keys)} differ")
        common = settings
    if common is None:
        raise UsageError("name the folders to merge")
    return common


def _common_sources(parts: Sequence[Path]) -> list[Source]:
    sources = read_sources(parts[0])
    for part in parts[1:]:
        if [source.name for source in read_sources(part)] != [source.name for source in sources]:
            raise UsageError(f"{part} and {parts[0]} are parts of runs over different images")
    return sources


def _owners(sources: Sequence[Source], parts: Sequence[Path], journals: Sequence[Journal]) -> dict[str, int]:
    owners: dict[str, int] = {}
    for source in sources:
        holders = [i for i, journal in enumerate(journals) if journal.status(source.name) is not None]
        if len(holders) != 1:
            where = " and ".join(str(parts[i]) for i in holders) or "no part"
            raise UsageError(f"{source.name} is in {where}, but must be in one: merge each shard once, and all of them")
        owners[source.name] = holders[0]
    return owners


def _copy_image_files(part: Path, output: Path) -> None:
    """Files of single images lie in folders of their kind; those of the whole run lie at the top and are made anew."""
    for folder in sorted(path for path in part.iterdir() if path.is_dir() and path.name != STATE):
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            with replacing(output / file.relative_to(part), scratch_folder(output)) as temporary:
                shutil.copyfile(file, temporary)


def _join_info(infos: Sequence[dict[str, Any]], settings: dict[str, Any]) -> dict[str, Any]:
    parts = [info["this_run"] for info in infos]
    images, seconds = (sum(part[key] for part in parts) for key in ("images", "seconds"))
    joined = {"images": images, "seconds": seconds, "images_per_second": round(images / seconds, 3), "parts": parts}
    return {**infos[0], "settings": settings, "report": _join_reports(infos), "this_run": joined}


def _join_notes(infos: Sequence[dict[str, Any]], joined: Journal, ids: Mapping[str, int]) -> list[str]:
    """The images' notes counted anew, and what the parts' jobs said, each once."""
    of_parts = [note for info in infos for note in info["report"].get("notes", ())]
    return [*notes_of_images(joined.records(ids)), *dict.fromkeys(of_parts)]


def _join_reports(infos: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The first part's, but for the counts of boxes, which are added up."""
    counts: Counter[str] = Counter()
    for info in infos:
        counts.update(info["report"].get("boxes", {}))
    return {**infos[0]["report"], **({"boxes": dict(counts)} if counts else {})}
