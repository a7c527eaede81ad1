"""What a run remembers between kills: `OUT/.evsam/`.

journal.jsonl  one record per finished image, appended and synced before the next one counts as finished
lock           held by the run that writes here
scratch/       temporary files, emptied at every start

The other files there tell which run it is: `pipelines.run.state`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pipelines.errors import UsageError
from pipelines.files import make_folder, reading
from pipelines.images.sources import ImageSource
from pipelines.names import file_stems
from pipelines.outputs import remove_outputs
from pipelines.outputs.folder import STATE, scratch_folder
from pipelines.records import Record, Status
from pipelines.run.state import MERGING, is_there, mark, read_marks, read_settings, read_sources, write_run

_TOLD = 3
"""Settings that are told of those that differ."""


class Journal:
    """The records of one output folder. Use as a context manager; `add` may be called from another thread.

    read_only: nothing is added, and the folder is not written to. Raises OSError, or DataError when read_only.
    """

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        self.path = folder / STATE / "journal.jsonl"
        self._where: dict[str, tuple[int, Status]] = {}
        if not read_only:
            self.path.touch()
        with reading(self.path, "the journal of a run") if read_only else nullcontext():
            end = self._index()
            self._file = self.path.open("rb" if read_only else "ab")
        if not read_only:
            self._file.truncate(end)
            self._file.seek(end)

    def _index(self) -> int:
        """Learn where each record starts; returns where they end, or a line that a kill left unfinished starts.

        A line that is none, as a power cut can leave, is passed over: its image is not finished.
        """
        offset = 0
        with self.path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                with suppress(ValueError):
                    record = Record.from_line(line.decode("utf-8"))
                    self._where[record.name] = (offset, record.status)
                offset += len(line)
        return offset

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def finished(self, name: str) -> bool:
        """Whether the image needs no more work: done or empty. Failed images are tried again by the next run."""
        return self.status(name) in ("done", "empty")

    def status(self, name: str) -> Status | None:
        """The image's outcome, None while it has none."""
        return self._where[name][1] if name in self._where else None

    def add(self, record: Record) -> None:
        """Append a record durably; a later record of the same image replaces the earlier one."""
        offset = self._file.tell()
        self._file.write(record.to_line().encode("utf-8") + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._where[record.name] = (offset, record.status)

    def records(self, image_ids: Mapping[str, int]) -> Iterator[Record]:
        """The records of the named images, in that order and under those ids, one in memory at a time."""
        with self.path.open("rb") as file:
            for name, image_id in image_ids.items():
                if name in self._where:
                    file.seek(self._where[name][0])
                    record = Record.from_line(file.readline().decode("utf-8"))
                    yield replace(record, image_id=image_id)

    def record(self, name: str) -> Record:
        """The record of an image that has one, under the id that it was added with."""
        with self.path.open("rb") as file:
            file.seek(self._where[name][0])
            return Record.from_line(file.readline().decode("utf-8"))


def plan(
    folder: Path, settings: Mapping[str, Any], sources: Sequence[ImageSource], *, resume: bool, overwrite: bool
) -> tuple[ImageSource, ...]:
    """The images of a run in `folder`; writes nothing.

    All have the `stem` that their files are called by, those of an earlier run the one that they had there. A resumed
    run keeps the images of the earlier one in the list, also those that have vanished since. settings: what is still to
    be called, see `pipelines.run.loop.run`, is not compared. Raises
    UsageError when the folder holds a run and not one of `resume` and `overwrite` was asked for, when a resumed run had
    other settings or other names for the same images, or, as one part of several, other images.
    """
    earlier = run_to_go_on_with(folder, resume=resume, overwrite=overwrite)
    if earlier is None:
        return _stemmed(sources, {})
    check_same(earlier, settings, folder)
    known = {source.name for source in sources}
    before = read_sources(folder)
    vanished = [source for source in before if source.name not in known]
    renamed = {_place(source.kept()): source.name for source in sources}
    for source in vanished:
        if _place(source) in renamed:
            raise UsageError(
                f"{source.name} of the run in {folder} would be called {renamed[_place(source)]}, as the sources are "
                "others now: repeat the earlier ones, or choose another output"
            )
    if settings.get("shard", "1/1") != "1/1" and known != {source.name for source in before}:
        raise UsageError(
            f"{folder} is one part of a run over {len(before)} images, and now there are others: all parts must see "
            "the same, so start all of them anew with --overwrite"
        )
    return _stemmed([*sources, *vanished], {source.name: source.stem or source.name for source in before})


def _stemmed(sources: Sequence[ImageSource], given: Mapping[str, str]) -> tuple[ImageSource, ...]:
    """The images and what their files are called; given: by name, what it was in the run so far."""
    stems = file_stems([source.name for source in sources], given)
    return tuple(replace(source, stem=stems[source.name]) for source in sources)


def run_to_go_on_with(folder: Path, *, resume: bool, overwrite: bool) -> dict[str, Any] | None:
    """The settings of the run in `folder` that a new one goes on with, None when it starts anew.

    Raises UsageError when the folder holds a run and not one of `resume` and `overwrite` was asked for.
    """
    if resume and overwrite:
        raise UsageError("--resume goes on with a run and --overwrite starts anew: choose one")
    earlier = None if overwrite else earlier_settings(folder)
    if earlier is not None and not resume:
        raise UsageError(f"{folder} already holds a run: add --resume to go on with it or --overwrite to start anew")
    return earlier


def earlier_settings(folder: Path) -> dict[str, Any] | None:
    """The settings of the run in `folder`, None when there is none. Raises UsageError for a journal without any."""
    settings = read_settings(folder)
    journal = folder / STATE / "journal.jsonl"
    if settings is None and is_there(journal) and journal.stat().st_size:
        raise UsageError(
            f"{folder / STATE / 'settings.json'} is missing, so that what is finished there may be of any run: "
            "start anew with --overwrite, or choose another output"
        )
    return settings


@contextmanager
def holding(folder: Path) -> Iterator[None]:
    """Keep other runs out of `folder` meanwhile. Raises UsageError when one is writing there, SetupError, OSError."""
    make_folder(folder, inner=scratch_folder(folder))
    try:
        lock = FileLock(folder / STATE / "lock").acquire(blocking=False)
    except Timeout as error:
        raise UsageError(f"another run is writing {folder}: wait until it ends, or choose another output") from error
    with lock:
        yield


def begin(
    folder: Path,
    settings: Mapping[str, Any],
    sources: Sequence[ImageSource],
    *,
    fresh: bool,
    replaced: Sequence[str] = (),
    merging: bool = False,
) -> None:
    """Prepare the state of a run in `folder`; `fresh` forgets what an earlier one finished. Raises OSError.

    replaced: outputs whose files `fresh` deletes; merging: the run is one that `pipelines.run.merge` joins. Wherever
    this is killed, no image counts as finished whose files are gone.
    """
    state = folder / STATE
    state.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(scratch_folder(folder), ignore_errors=True)
    scratch_folder(folder).mkdir(exist_ok=True)
    if fresh:
        (state / "journal.jsonl").unlink(missing_ok=True)
        (state / "machines.json").unlink(missing_ok=True)
        if (state / "settings.json").exists():
            (folder / "run.json").unlink(missing_ok=True)
        remove_outputs(folder, replaced)
    if merging:
        (state / MERGING).touch()
    else:
        (state / MERGING).unlink(missing_ok=True)
    if fresh:
        (state / "settings.json").unlink(missing_ok=True)
    marks = {source.name: mark(source) for source in sources}
    if not fresh:
        _forget_changed(folder, marks)
    write_run(folder, settings, sources, marks)


def _forget_changed(folder: Path, marks: dict[str, Any]) -> None:
    """Have images whose files have changed since done again; those that have vanished keep their marks."""
    with Journal(folder) as journal:
        for name, earlier in read_marks(folder).items():
            if marks.get(name) is None:
                marks[name] = earlier
            elif earlier not in (None, marks[name]) and journal.finished(name):
                image_id = journal.record(name).image_id
                journal.add(Record(name, image_id, 0, 0, "failed", "the file has changed since"))


def _place(source: ImageSource) -> tuple[str, str | None]:
    """What tells where an image lies, of a source as it is kept."""
    return source.location, source.sha256


def check_same(earlier: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    """Raise UsageError for settings of the run in `folder` that are others now, but for what is still to be called."""
    then = dict(_one_by_one({key: value for key, value in earlier.items() if not callable(now.get(key))}))
    today = dict(_one_by_one({key: value for key, value in now.items() if not callable(value)}))
    changed = [key for key in dict.fromkeys([*then, *today]) if then.get(key) != today.get(key)]
    if changed:
        told = "; ".join(f"{key}: {then.get(key)!r} then, {today.get(key)!r} now" for key in changed[:_TOLD])
        more = f"; and {len(changed) - _TOLD} more" if len(changed) > _TOLD else ""
        raise UsageError(f"the run in {folder} had other settings ({told}{more}): repeat them, or use --overwrite")


def _one_by_one(settings: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, Any]]:
    """Each setting as JSON has it, those of a mapping by names such as "prompts.conf"."""
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _one_by_one(value, f"{within}{key}.")
        else:
            yield within + key, json.loads(json.dumps(value))
