"""How a run shows its progress: a bar on a terminal, plain lines elsewhere, JSON lines for programs, or nothing."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING

from evsam_cli import say

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from pipelines.records import Record

PLAIN_SECONDS = 10.0
"""Seconds between plain progress lines."""


class Quiet:
    """Says nothing. The other kinds follow its form: a context manager that is a `pipelines.run.Watcher`."""

    def __init__(self) -> None:
        self.counts = {"done": 0, "empty": 0, "failed": 0}
        self.total = 0

    def __enter__(self) -> Quiet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def started(self, total: int, finished: int) -> None:
        self.total = total
        self.begun = time.monotonic()
        self.earlier = finished

    def recorded(self, record: Record) -> None:
        self.counts[record.status] += 1

    @property
    def tally(self) -> str:
        return ", ".join(f"{count} {status}" for status, count in self.counts.items())


class Json(Quiet):
    """One JSON line per image on standard output."""

    def recorded(self, record: Record) -> None:
        super().recorded(record)
        line = {
            "name": record.name,
            "image_id": record.image_id,
            "status": record.status,
            "reason": record.reason,
            "instances": len(record.instances),
        }
        say.document(line)


class Plain(Quiet):
    """A line now and then on stderr: for logs."""

    def started(self, total: int, finished: int) -> None:
        super().started(total, finished)
        self.said = self.begun
        say.aside(f"{total} images" + (f", {finished} already finished" if finished else ""))

    def recorded(self, record: Record) -> None:
        super().recorded(record)
        now, seen = time.monotonic(), sum(self.counts.values())
        if now - self.said >= PLAIN_SECONDS or seen + self.earlier == self.total:
            self.said = now
            rate = seen / max(now - self.begun, 1e-9)
            say.aside(f"{seen + self.earlier}/{self.total} images, {rate:.2f} images/s, {self.tally}")


class Bar(Quiet):
    """A Rich progress bar on stderr."""

    def __enter__(self) -> Bar:
        from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn

        self._progress: Progress = say.progress(
            say.text_column("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            say.text_column("{task.fields[rate]}"),
            TimeRemainingColumn(),
            say.text_column("{task.fields[tally]}"),
        )
        self._task: TaskID = self._progress.add_task("loading models", total=None, rate="", tally="")
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def started(self, total: int, finished: int) -> None:
        super().started(total, finished)
        self._progress.update(self._task, description="segmenting", total=total, completed=finished)

    def recorded(self, record: Record) -> None:
        super().recorded(record)
        rate = sum(self.counts.values()) / max(time.monotonic() - self.begun, 1e-9)
        self._progress.update(self._task, advance=1, rate=f"{rate:.2f} images/s", tally=self.tally)


def choose(*, quiet: bool, as_json: bool) -> Quiet:
    """The display for these options and this terminal."""
    if as_json:
        return Json()
    if quiet:
        return Quiet()
    return Bar() if say.on_terminal() else Plain()
