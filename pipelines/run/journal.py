"""The journal of a run: one record per finished image, appended and synced before the next one counts as finished."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path

from pipelines.files import reading
from pipelines.records import Record, Status


class Journal:
    """The records in a file. Use as a context manager; `add` may be called from another thread.

    read_only: nothing is added, and the file is not written to. at_once: what is added is synced one by one; else at
    the end, where a run that is killed starts anew. Raises OSError, or DataError when read_only.
    """

    def __init__(self, path: Path, *, read_only: bool = False, at_once: bool = True) -> None:
        self.path = path
        self._at_once = at_once
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
        if not self._at_once:
            os.fsync(self._file.fileno())
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
        if self._at_once:
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
