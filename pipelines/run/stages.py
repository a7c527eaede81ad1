"""The machinery around the loop: reading ahead, writing behind, and the time each stage takes."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import accumulate
from types import TracebackType
from typing import Any, TypeVar

from pipelines import cores
from pipelines.files import writing

T = TypeVar("T")
R = TypeVar("R")

READERS = min(max(2, cores.usable() // 2), 8)
"""Threads that read ahead."""


Within = Callable[[str, int, int], None]
"""(name of an image, how many of its prompts are done, how many it has)."""


class StageClock:
    """Seconds spent per stage, summed over threads. A GPU's time counts where its results are waited for.

    within: is told how far the images in work are.
    """

    def __init__(self, within: Within = lambda name, done, total: None) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._lock = threading.Lock()
        self._within = within

    def counter(self, images: Sequence[tuple[str, int]]) -> Callable[[int], None]:
        """To be called with how many more prompts are done. images: their names and prompts, in the order of work."""
        ends = list(accumulate(total for _, total in images))
        done = 0

        def count(more: int) -> None:
            nonlocal done
            done = min(done + more, ends[-1])
            name, total = images[place := bisect_left(ends, done)]
            self._within(name, done - (ends[place] - total), total)

        count(0)
        return count

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self.seconds[stage] += time.perf_counter() - start


def read_ahead(units: Iterable[Sequence[T]], load: Callable[[T], R], depth: int = 2) -> Iterator[list[R]]:
    """`load` every item in threads, up to `depth` units ahead; yields each unit's results in order."""
    pool = ThreadPoolExecutor(READERS, "load")
    waiting: deque[list[Future[R]]] = deque()
    try:
        for unit in units:
            waiting.append([pool.submit(load, item) for item in unit])
            if len(waiting) > depth:
                yield [future.result() for future in waiting.popleft()]
        while waiting:
            yield [future.result() for future in waiting.popleft()]
    finally:
        pool.shutdown(cancel_futures=True)


class WriteBehind:
    """Runs jobs in order in one thread, at most `depth` waiting; leaving the block waits for those already put.

    The first job that fails stops the rest, and its error is raised by the next `put` or on leaving.
    """

    def __init__(self, depth: int = 4) -> None:
        self._pool = ThreadPoolExecutor(1, "write")
        self._room = threading.BoundedSemaphore(depth)
        self._error: BaseException | None = None

    def put(self, job: Callable[..., None], *arguments: Any) -> None:
        self._room.acquire()
        if self._error is not None:
            raise self._error
        self._pool.submit(self._run, job, arguments)

    def _run(self, job: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        try:
            if self._error is None:
                job(*arguments)
        except BaseException as error:
            self._error = error
        finally:
            self._room.release()

    def __enter__(self) -> WriteBehind:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True)
        if self._error is not None and self._error is not error:
            raise self._error


@contextmanager
def writing_resumably(folder: object) -> Iterator[None]:
    """Turn the faults of a disk into a SetupError that says how to go on. Only for a run that has begun."""
    with writing(folder, ", then repeat the command with --resume; nothing finished is lost"):
        yield
