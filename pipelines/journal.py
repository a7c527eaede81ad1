"""What a run remembers between kills: `OUT/.evsam/`.

settings.json  what decides the results; a resumed run must be asked for the same
sources.json   every image of the run, in order
files.json     size and time of change of each image's file, to notice another one of the same name
journal.jsonl  one record per finished image, appended and synced before the next one counts as finished
lock           held by the run that writes here
scratch/       temporary files, emptied at every start
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pipelines.errors import SetupError, UsageError
from pipelines.files import to_json, write_json, write_text
from pipelines.records import Record, Status
from pipelines.sources import Source, is_url

STATE = ".evsam"


class Journal:
    """The records of one output folder. Use as a context manager; `add` may be called from another thread.

    read_only: nothing is added, and the folder is not written to.
    """

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        self.path = folder / STATE / "journal.jsonl"
        self._where: dict[str, tuple[int, Status]] = {}
        if not read_only:
            self.path.touch()
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
    folder: Path, settings: Mapping[str, Any], sources: Sequence[Source], *, resume: bool, overwrite: bool
) -> tuple[Source, ...]:
    """The images of a run in `folder`; writes nothing.

    A resumed run keeps the images of the earlier one in the list, also those that have vanished since. Raises
    UsageError when the folder holds a run and not one of `resume` and `overwrite` was asked for, when a resumed run had
    other settings or other names for the same images, or, as one part of several, other images.
    """
    if resume and overwrite:
        raise UsageError("--resume goes on with a run and --overwrite starts anew: choose one")
    earlier = read_settings(folder)
    if earlier is None or overwrite:
        return tuple(sources)
    if not resume:
        raise UsageError(f"{folder} already holds a run: add --resume to go on with it or --overwrite to start anew")
    _check_same(earlier, settings, folder)
    known = {source.name for source in sources}
    before = read_sources(folder)
    vanished = [source for source in before if source.name not in known]
    renamed = {source.location: source.name for source in sources}
    for source in vanished:
        if source.location in renamed:
            raise UsageError(
                f"{source.name} of the run in {folder} would be called {renamed[source.location]}, as the sources are "
                "others now: repeat the earlier ones, or choose another output"
            )
    if settings.get("shard", "1/1") != "1/1" and known != {source.name for source in before}:
        raise UsageError(
            f"{folder} is one part of a run over {len(before)} images, and now there are others: all parts must see "
            "the same, so start all of them anew with --overwrite"
        )
    return (*sources, *vanished)


@contextmanager
def holding(folder: Path) -> Iterator[None]:
    """Keep other runs out of `folder` meanwhile. Raises UsageError when one is writing there, OSError."""
    (folder / STATE).mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(folder / STATE / "lock").acquire(blocking=False)
    except Timeout as error:
        raise UsageError(f"another run is writing {folder}: wait until it ends, or choose another output") from error
    with lock:
        yield


def begin(folder: Path, settings: Mapping[str, Any], sources: Sequence[Source], *, fresh: bool) -> None:
    """Prepare the state of a run in `folder`; `fresh` forgets what an earlier one finished. Raises OSError."""
    state = folder / STATE
    state.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(scratch_folder(folder), ignore_errors=True)
    scratch_folder(folder).mkdir(exist_ok=True)
    if fresh:
        (state / "journal.jsonl").unlink(missing_ok=True)
    marks = {source.name: _mark(source) for source in sources}
    if not fresh:
        _forget_changed(folder, marks)
    write_text(state / "files.json", to_json(marks))
    write_text(state / "sources.json", to_json([asdict(source) for source in sources]))
    write_json(state / "settings.json", settings)


def _mark(source: Source) -> Any:
    """What tells an image's content from another's, None where there is no file."""
    if is_url(source.location):
        return source.location
    try:
        status = Path(source.location).stat()
    except (OSError, ValueError):
        return None
    return [status.st_size, status.st_mtime_ns]


def _forget_changed(folder: Path, marks: dict[str, Any]) -> None:
    """Have images whose files have changed since done again; those that have vanished keep their marks."""
    path = folder / STATE / "files.json"
    earlier = json.loads(path.read_text("utf-8")) if path.exists() else {}
    with Journal(folder) as journal:
        for name, mark in earlier.items():
            if marks.get(name) is None:
                marks[name] = mark
            elif mark not in (None, marks[name]) and journal.finished(name):
                image_id = journal.record(name).image_id
                journal.add(Record(name, image_id, 0, 0, "failed", "the file has changed since"))


def scratch_folder(folder: Path) -> Path:
    """Where a run in `folder` keeps temporary files."""
    return folder / STATE / "scratch"


def read_settings(folder: Path) -> dict[str, Any] | None:
    """The settings of the run in `folder`, None when there is no run."""
    path = folder / STATE / "settings.json"
    try:
        settings: dict[str, Any] | None = json.loads(path.read_text("utf-8")) if path.exists() else None
    except ValueError as error:
        raise UsageError(f"{path} is damaged: delete {path.parent} and start anew with --overwrite") from error
    except OSError as error:
        raise SetupError(f"{folder} cannot be read: {error.strerror or error}") from error
    return settings


def saved(folder: Path) -> list[str]:
    """Names of the outputs that the run in `folder` writes, none when there is no run."""
    names: list[str] = (read_settings(folder) or {}).get("save", [])
    return names


def read_sources(folder: Path) -> list[Source]:
    """The images of the run in `folder`, in order."""
    return [Source(**fields) for fields in json.loads((folder / STATE / "sources.json").read_text("utf-8"))]


def _check_same(earlier: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    changed = [
        f"{key}: {earlier.get(key)!r} then, {now.get(key)!r} now"
        for key in dict.fromkeys([*earlier, *now])
        if earlier.get(key) != json.loads(json.dumps(now.get(key)))
    ]
    if changed:
        raise UsageError(
            f"the run in {folder} had other settings ({'; '.join(changed)}): repeat them, or use --overwrite"
        )
