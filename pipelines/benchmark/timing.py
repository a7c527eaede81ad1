"""Times that can be compared: all works warmed up, then in turn, A B A B, so that a busy machine slows all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from pipelines.errors import EvsamError
from pipelines.memory import out_of_memory, release

Key = TypeVar("Key")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Times(Generic[Result]):
    """Seconds of a work, round by round, and what its last run returned."""

    seconds: tuple[float, ...]
    result: Result

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def faster_than(self, other: Times[Result]) -> float:
        """How many times: the median of the ratios, round by round."""
        return statistics.median(b / a for a, b in zip(self.seconds, other.seconds, strict=True))


@dataclass(frozen=True)
class Failed:
    """A work that cannot be done, and why."""

    reason: str


Outcome = Times[Result] | Failed
LONG = 3.0
"""Seconds of a run that needs no warm-up: what a first run costs more is little of it."""


def in_turn(
    works: Mapping[Key, Callable[[], Result]],
    *,
    rounds: int,
    warm_up: int = 1,
    device: torch.device,
    done: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[Key, Outcome[Result]]:
    """Run every work once in each round, after `warm_up` rounds that do not count. One that fails is not run again.

    A single warm-up that takes LONG is a round, in the place of the last. done: called after every run. clock: what
    counts seconds, except on a GPU.
    """
    seconds: dict[Key, list[float]] = {key: [] for key in works}
    results: dict[Key, Result] = {}
    failed: dict[Key, Failed] = {}
    for number in range(-warm_up, rounds):
        for key, work in works.items():
            if key not in failed and len(seconds[key]) < rounds:
                with noting(failed, key, device):
                    taken, results[key] = timed(work, device, clock)
                    if number >= 0 or (warm_up == 1 and taken >= LONG):
                        seconds[key].append(taken)
            done()
    return {key: failed.get(key) or Times(tuple(seconds[key]), results[key]) for key in works}


@contextmanager
def noting(failed: MutableMapping[Key, Failed], key: Key, device: torch.device) -> Iterator[None]:
    """Note that `key` failed when memory runs out, or when what is done raises an EvsamError."""
    try:
        yield
    except EvsamError as error:
        failed[key] = Failed(str(error))
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        failed[key] = Failed("out of memory")
    else:
        return
    release(device)


def timed(work: Callable[[], Result], device: torch.device, clock: Callable[[], float]) -> tuple[float, Result]:
    """Seconds of one run, the device idle before and after: by the clock, or on a GPU between two of its events."""
    finish(device)
    if device.type == "cuda":
        first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        first.record(torch.cuda.current_stream(device))
        result = work()
        last.record(torch.cuda.current_stream(device))
        finish(device)
        return first.elapsed_time(last) / 1000, result
    start = clock()
    result = work()
    finish(device)
    return clock() - start, result


def finish(device: torch.device) -> None:
    """Wait until the device has done all that it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
