"""Join the shards of a run: `evsam segment --shard 1/4 -o part-1 ...` and so on, then `evsam merge part-* -o all`.

A merge that was killed is repeated by the same command. What it has copied by then counts as finished, and nothing
else, so that `--resume` of the verb that made the parts can go on with it as well.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any

from pipelines import run_info
from pipelines.errors import DataError, UsageError
from pipelines.files import reading, replacing, writing
from pipelines.images.sources import ImageSource, image_ids
from pipelines.names import is_safe
from pipelines.outputs import OUTPUTS
from pipelines.outputs.folder import image_files
from pipelines.run import Summary
from pipelines.run.folder import RunFolder
from pipelines.run.journal import Journal
from pipelines.types import Category
from pipelines.urls import shown_location

_RUN = "the run.json of a finished run"


def merge(parts: Sequence[Path], output: Path, *, overwrite: bool = False) -> Summary:
    """Write to `output` what one run over all images would have written.

    parts: the shards' output folders, each finished. Raises UsageError when one is not a finished run, when they are
    of different runs, when an image is in none of them or in two, when `output` holds another run, or when a file to
    be copied, or a folder to be written to, is a link; DataError when a file of a part is missing or damaged.
    """
    if output.resolve() in [part.resolve() for part in parts]:
        raise UsageError(f"{output} is one of the parts: choose another folder for the whole")
    settings = _common_settings(parts)
    sources = _common_sources(parts)
    infos = [_read_info(part) for part in parts]
    info = _join_info(infos, settings)
    categories = {int(key): Category(int(key), name) for key, name in info["categories"].items()}
    kinds = [OUTPUTS[name].load() for name in settings["save"]]
    patterns = {pattern: pattern in kind.perhaps for kind in kinds for pattern in kind.of_image}
    folder = RunFolder(output, overwrite=overwrite, merging=True)
    with ExitStack() as stack:
        journals = [stack.enter_context(RunFolder(part).journal(read_only=True)) for part in parts]
        owners = _owners(sources, parts, journals)
        plan = folder.plan(settings, sources)
        _check_no_link(output, folder.state / "journal.jsonl")
        for name, owner in owners.items():
            if journals[owner].finished(name):
                for _ in _files(parts[owner], patterns, plan.stems[name]):
                    pass  # found fit to be copied
        stack.enter_context(writing(output, ", then repeat the command"))
        stack.enter_context(folder.hold(plan))
        folder.begin(plan)
        uneven = folder.add_machines(machine for part in parts for machine in RunFolder(part).machines())
        journal = stack.enter_context(folder.journal())
        ids: dict[str, int] = {}
        for name, owner in owners.items():
            part, record = parts[owner], journals[owner].record(name)
            if not all(instance["category_id"] in categories for instance in record.instances):
                raise DataError(f"{part / 'run.json'} does not name every class of {name}")
            if record.status != "failed":
                _copy(part, folder, patterns, plan.stems[name])
            ids[name] = record.image_id
            journal.add(record)
        if len(set(ids.values())) < len(ids):  # a run that got more images on the way numbered them anew
            ids = image_ids(sources)
        outputs = folder.outputs(plan, categories.values())
        for each in outputs:
            each.finish(lambda: journal.records(ids))
        of_parts = dict.fromkeys(note for each in infos for note in each["report"].get("notes", ()))
        told = [note for each in outputs for note in each.notes(lambda: journal.records(ids))]
        info |= run_info.images(lambda: journal.records(ids), [*uneven, *of_parts, *told])
        folder.finish(info)
    return Summary(info)


def _common_settings(parts: Sequence[Path]) -> dict[str, Any]:
    common: dict[str, Any] | None = None
    for part in parts:
        folder = RunFolder(part)
        settings = folder.settings()
        unfinished = folder.is_merge() or not (part / "run.json").exists()
        if settings is None or "save" not in settings or unfinished:
            raise UsageError(f"{part} holds no finished run: finish it first, with the command that began it")
        settings["shard"] = "1/1"
        if common is not None and settings != common:
            keys = [key for key in {**settings, **common} if settings.get(key) != common.get(key)]
            raise UsageError(f"{part} and {parts[0]} are parts of different runs: {', '.join(keys)} differ")
        common = settings
    if common is None:
        raise UsageError("name the folders to merge")
    return common


def _common_sources(parts: Sequence[Path]) -> list[ImageSource]:
    """The images of all parts, each with what its files are called."""
    sources = RunFolder(parts[0]).sources()
    for source in sources:
        for name in (source.name, source.stem or source.name):
            if not is_safe(name):
                raise DataError(f"{parts[0]} names an image {name!r}, which would leave the folder")
    for part in parts[1:]:
        if [(s.name, s.stem) for s in RunFolder(part).sources()] != [(s.name, s.stem) for s in sources]:
            raise UsageError(f"{part} and {parts[0]} are parts of runs over different images")
    return [replace(source, stem=source.stem or source.name) for source in sources]


def _owners(sources: Sequence[ImageSource], parts: Sequence[Path], journals: Sequence[Journal]) -> dict[str, int]:
    owners: dict[str, int] = {}
    for source in sources:
        holders = [i for i, journal in enumerate(journals) if journal.status(source.name) is not None]
        if len(holders) != 1:
            where = " and ".join(str(parts[i]) for i in holders) or "no part"
            raise UsageError(f"{source.name} is in {where}, but must be in one: merge each shard once, and all of them")
        owners[source.name] = holders[0]
    return owners


def _files(part: Path, patterns: Mapping[str, bool], stem: str) -> Iterator[Path]:
    """An image's own files in a part, each found to be there, unless it may be missing, and to be no link."""
    for pattern, perhaps in patterns.items():
        found = list(image_files(part, [pattern], stem))
        if not found and not perhaps and "{}" in pattern.rpartition("/")[2]:
            raise DataError(f"{part / pattern.format(stem)} is missing: repeat that part with --overwrite")
        for file in found:
            _check_no_link(part, file)
            if not file.is_file():
                raise DataError(f"{file} is no file: repeat that part with --overwrite")
            yield file


def _check_no_link(root: Path, file: Path) -> None:
    """Raise UsageError when the file, or a folder below root that it is in, is a link: it may lead anywhere."""
    for path in (file, *takewhile(lambda parent: parent != root, file.parents)):
        if path.is_symlink():
            raise UsageError(f"{path} is a link, which merge does not follow: put there what it stands for")


def _copy(part: Path, folder: RunFolder, patterns: Mapping[str, bool], stem: str) -> None:
    for file in _files(part, patterns, stem):
        copy = folder.path / file.relative_to(part)
        _check_no_link(folder.path, copy.parent)
        with reading(file, "a file of a finished run"):
            content = file.read_bytes()
        with replacing(copy, folder.scratch) as temporary:
            temporary.write_bytes(content)


def _read_info(part: Path) -> dict[str, Any]:
    """What a part's run.json holds, of which the parts that are used are of the right form. Raises DataError."""
    path = part / "run.json"
    with reading(path, _RUN):
        info: dict[str, Any] = json.loads(path.read_text("utf-8"))
        notes, counts = info["report"].get("notes", []), info["report"].get("boxes", {})
        fits = all(isinstance(text, str) for text in (*notes, *info["sources"], *info["categories"].values()))
        fits &= all(isinstance(number, int) for number in counts.values())
        fits &= all(isinstance(info["this_run"][key], int | float) for key in ("images", "seconds"))
        fits &= all(str(int(key)) == key for key in info["categories"])
        if not fits:
            raise TypeError("of another kind than evsam writes")
    return info


def _join_info(infos: Sequence[dict[str, Any]], settings: dict[str, Any]) -> dict[str, Any]:
    parts = [info["this_run"] for info in infos]
    images, seconds = (sum(part[key] for part in parts) for key in ("images", "seconds"))
    joined = {
        "images": images,
        "seconds": seconds,
        "images_per_second": round(images / (seconds or 1), 3),
        "parts": parts,
    }
    shown = [shown_location(source) for source in infos[0]["sources"]]
    report = _join_reports(infos)
    return {**infos[0], "settings": settings, "sources": shown, "report": report, "this_run": joined}


def _join_reports(infos: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The first part's, but for the counts of boxes, which are added up."""
    counts: Counter[str] = Counter()
    for info in infos:
        counts.update(info["report"].get("boxes", {}))
    return {**infos[0]["report"], **({"boxes": dict(counts)} if counts else {})}
