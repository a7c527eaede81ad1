"""What a run remembers between kills: `OUT/.evsam/`.

settings.json  what decides the results; a resumed run must be asked for the same
sources.json   every image of the run, in order
journal.jsonl  one record per finished image, appended and synced before the next one counts as finished
scratch/       temporary files, emptied at every start
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipelines.errors import UsageError
from pipelines.files import write_json, write_text
from pipelines.records import Record, Status
from pipelines.sources import Source

STATE = ".evsam"


class Journal:
    """The records of one output folder. Use as a context manager; `add` may be called from another thread."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / STATE / "journal.jsonl"
        self._where: dict[str, tuple[int, Status]] = {}
        self._index()
        self._file = self.path.open("ab")

    def _index(self) -> None:
        """Learn where each record starts, and cut off a line that a kill left unfinished."""
        self.path.touch()
        with self.path.open("rb+") as file:
            offset = 0
            for line in file:
                try:
                    record = Record.from_line(line.decode("utf-8"))
                except ValueError:
                    break
                if not line.endswith(b"\n"):
                    break
                self._where[record.name] = (offset, record.status)
                offset += len(line)
            file.truncate(offset)

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
                    yield Record(**{**record.__dict__, "image_id": image_id})


def plan(
    folder: Path, settings: Mapping[str, Any], sources: Sequence[Source], *, resume: bool, overwrite: bool
) -> tuple[Source, ...]:
    """The images of a run in `folder`; writes nothing.

    A resumed run keeps the images of the earlier one in the list, also those that have vanished since. Raises
    UsageError when the folder holds a run and neither `resume` nor `overwrite` was asked for, or when a resumed run had
    other settings.
    """
    earlier = read_settings(folder)
    if earlier is None or overwrite:
        return tuple(sources)
    if not resume:
        raise UsageError(f"{folder} already holds a run: add --resume to go on with it or --overwrite to start anew")
    _check_same(earlier, settings, folder)
    known = {source.name for source in sources}
    return (*sources, *(source for source in read_sources(folder) if source.name not in known))


def begin(folder: Path, settings: Mapping[str, Any], sources: Sequence[Source], *, fresh: bool) -> None:
    """Prepare the state of a run in `folder`; `fresh` forgets what an earlier one finished. Raises OSError."""
    state = folder / STATE
    state.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(scratch_folder(folder), ignore_errors=True)
    scratch_folder(folder).mkdir()
    if fresh:
        (state / "journal.jsonl").unlink(missing_ok=True)
    write_text(state / "sources.json", json.dumps([asdict(source) for source in sources], ensure_ascii=False))
    write_json(state / "settings.json", settings)


def scratch_folder(folder: Path) -> Path:
    """Where a run in `folder` keeps temporary files."""
    return folder / STATE / "scratch"


def read_settings(folder: Path) -> dict[str, Any] | None:
    """The settings of the run in `folder`, None when there is no run."""
    path = folder / STATE / "settings.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else None


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
