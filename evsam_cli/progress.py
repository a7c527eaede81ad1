"""How work shows its progress: a bar on a terminal, plain lines elsewhere, JSON lines for programs, or nothing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from evsam_cli import say
from pipelines.printable import printable

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn, TaskID

    from pipelines.records import Record

PLAIN_SECONDS = 10.0
"""Seconds between plain progress lines."""
LONG_SECONDS = 30.0
"""An image that seems to take longer is shown while it is in work."""


class Cost:
    """Says once, early in the first image of many prompts, what all of it takes. instead: what takes less; "": nothing
    is said."""

    def __init__(self, instead: str = "") -> None:
        self._instead = instead
        self._first: tuple[str, int, float] | None = None  # an image, and when so many of its prompts were done

    def line(self, name: str, done: int, total: int) -> str | None:
        """To be called as `Watcher.within`; the line when there is one to say.

        Timed from the first part to the second, as the first has waited for the encoder and for memory.
        """
        now = time.monotonic()
        if not self._instead or not done:
            return None
        if self._first is None or name != self._first[0]:
            self._first = name, done, now
            return None
        _, earlier, start = self._first
        seconds = (now - start) / max(done - earlier, 1) * total
        instead, self._instead = self._instead, ""
        if seconds < LONG_SECONDS / 3:
            return None
        return f"{total} clicks a photo, about {_rough(seconds)} each here: {instead}"


class Quiet:
    """Says nothing. The other kinds follow its form: a context manager that is a `pipelines.run.Watcher`."""

    def __init__(self, cost: Cost | None = None) -> None:
        self.cost = cost or Cost()
        self.counts = {"done": 0, "empty": 0, "failed": 0}
        self.total = 0
        self._in_work = ("", 0.0)  # an image, and when it was begun

    def __enter__(self) -> Self:
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

    def within(self, name: str, done: int, total: int) -> None:
        pass

    def left(self, name: str, done: int, total: int) -> float | None:
        """Seconds that an image still takes, by what it has taken so far; None for one that is not long in work."""
        now = time.monotonic()
        if not done or name != self._in_work[0]:
            self._in_work = name, now
        so_far = now - self._in_work[1]
        left = so_far / done * (total - done) if done else 0.0
        return left if left and so_far + left >= LONG_SECONDS else None

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
        say.aside(f"{total} image{'' if total == 1 else 's'}" + (f", {finished} already finished" if finished else ""))

    def recorded(self, record: Record) -> None:
        super().recorded(record)
        now, seen = time.monotonic(), sum(self.counts.values())
        if now - self.said >= PLAIN_SECONDS or seen + self.earlier == self.total:
            self.said = now
            rate = seen / max(now - self.begun, 1e-9)
            say.aside(f"{seen + self.earlier}/{self.total} images, {rate:.2f} images/s, {self.tally}")

    def within(self, name: str, done: int, total: int) -> None:
        if line := self.cost.line(name, done, total):
            say.aside(line)
        left, now = self.left(name, done, total), time.monotonic()
        if left is not None and now - self.said >= PLAIN_SECONDS:
            self.said = now
            say.aside(f"{name}: {done}/{total} prompts, about {_rough(left)} left")


class Bars(Quiet):
    """Rich progress bars on stderr, one for each piece of work that is told of."""

    def __init__(self, columns: Sequence[ProgressColumn], *, per_second: float = 10, cost: Cost | None = None) -> None:
        super().__init__(cost)
        self._progress: Progress = say.progress(*columns, per_second=per_second)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def within(self, name: str, done: int, total: int | None) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=total, visible=total != 0)
        self._progress.update(self._tasks[name], completed=done, total=total)


class Bar(Bars):
    """A run's own bar, with another below it while an image takes long."""

    def __init__(self, cost: Cost | None = None) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn

        columns = (
            say.text_column("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            say.text_column("{task.fields[rate]}"),
            TimeRemainingColumn(),
            say.text_column("{task.fields[tally]}"),
        )
        super().__init__(columns, cost=cost)
        self._task = self._progress.add_task("loading models", total=None, rate="", tally="")
        self._inner = self._progress.add_task("", rate="prompts", tally="", visible=False)

    def started(self, total: int, finished: int) -> None:
        super().started(total, finished)
        self._progress.update(self._task, description="segmenting", total=total, completed=finished)

    def recorded(self, record: Record) -> None:
        super().recorded(record)
        rate = sum(self.counts.values()) / max(time.monotonic() - self.begun, 1e-9)
        self._progress.update(self._task, advance=1, rate=f"{rate:.2f} images/s", tally=self.tally)
        if record.name == self._in_work[0]:
            self._progress.update(self._inner, visible=False)

    def within(self, name: str, done: int, total: int | None) -> None:
        assert total is not None, "prompts are counted"
        if line := self.cost.line(name, done, total):
            say.aside(line)
        if not done or name != self._in_work[0]:
            self._progress.reset(self._inner, total=total, visible=False, description=printable(name))
        long = self.left(name, done, total) is not None
        self._progress.update(self._inner, completed=done, visible=long and done < total)


def _rough(seconds: float) -> str:
    """A time to wait, as one says it."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


class Lines(Quiet):
    """A line for each piece of work: for logs."""

    def within(self, name: str, done: int, total: int) -> None:
        if total and not done:
            say.aside(f"{name}: {total} runs")


def of_stages(*, quiet: bool) -> Quiet:
    """The display of work that is measured, on this terminal."""
    if quiet or not say.on_terminal():
        return Quiet() if quiet else Lines()
    from rich.progress import Progress

    return Bars(Progress.get_default_columns(), per_second=1)  # drawing takes time, too


def of_downloads() -> Bars:
    """The display of files that come, in bytes."""
    from rich import progress

    return Bars(
        [
            say.text_column("{task.description}"),
            progress.BarColumn(),
            progress.DownloadColumn(),
            progress.TransferSpeedColumn(),
            progress.TimeRemainingColumn(),
        ]
    )


def choose(*, quiet: bool, as_json: bool, instead: str = "") -> Quiet:
    """The display for these options and this terminal. instead: see `Cost`."""
    if as_json:
        return Json()
    if quiet:
        return Quiet()
    return Bar(Cost(instead)) if say.on_terminal() else Plain(Cost(instead))
