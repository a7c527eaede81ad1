"""Who is told of the progress of a run, or of an evaluation."""

from __future__ import annotations

from typing import Protocol

from pipelines.records import Record


class Watcher(Protocol):
    """Told of a run's progress."""

    def started(self, total: int, finished: int) -> None:
        """total: images of this run; finished: those that an earlier run had finished."""

    def recorded(self, record: Record) -> None:
        """One more image has its record. Called from the writing thread."""

    def within(self, name: str, done: int, total: int) -> None:
        """Of an image in work, so many of its prompts are done; at first none. It may end with fewer than all."""


class Silent:
    """A watcher that says nothing."""

    def started(self, total: int, finished: int) -> None: ...

    def recorded(self, record: Record) -> None: ...

    def within(self, name: str, done: int, total: int) -> None: ...
