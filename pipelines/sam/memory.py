"""How many images are encoded, or prompts decoded, at once: as many as fit, fewer when memory runs out all the same."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import torch

R = TypeVar("R")


@dataclass(frozen=True)
class Item:
    """What is worked on many at a time. usual: how many, unless more are asked for; bytes: what one needs in fp32, with
    room to spare; most: how many at most, by device type, whatever is asked for.
    """

    usual: int
    bytes: int
    most: Mapping[str, int] = field(default_factory=dict)


PROMPTS = Item(usual=64, bytes=48 << 20, most={"cpu": 4})
"""At the decoder's widest point. A CPU's caches and allocator like few."""
IMAGES = Item(usual=16, bytes=512 << 20, most={"cpu": 1})
"""In the encoder, of the largest model. One alone keeps a CPU busy; 16 are the most that a TensorRT engine takes."""


class Chunks:
    """Splits work on N items. max_memory: bytes that the process should not exceed on the device; None: what is free.

    most: items at once at most. What has once been too many is not tried again.
    """

    def __init__(
        self, item: Item, device: torch.device, max_memory: int | None = None, most: int | None = None
    ) -> None:
        self.item = item
        self.device = device
        self.max_memory = max_memory
        self.most = min(item.most.get(device.type, sys.maxsize), most or sys.maxsize)

    def __call__(self, count: int, work: Callable[[int, int], R], at_once: int | None = None) -> Iterator[R]:
        """work(start, size) for consecutive parts of `count` items, at most `at_once` together."""
        start = 0
        room = free_bytes(self.device, self.max_memory) // self.item.bytes
        size = max(min(self.most, at_once or self.item.usual, room), 1)
        while start < count:
            try:
                result = work(start, min(size, count - start))
            except (RuntimeError, MemoryError) as error:
                if size == 1 or not out_of_memory(error):
                    raise
                size = self.most = max(min(size, count - start) // 2, 1)
            else:
                yield result
                start += size
                continue
            release(self.device)


def out_of_memory(error: BaseException) -> bool:
    """Whether `error` is torch's way, or the CPU allocator's, to say that memory ran out."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def release(device: torch.device) -> None:
    """Give back what is held for nothing."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def free_bytes(device: torch.device, max_memory: int | None) -> int:
    """Bytes that work on the device may still take."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        held = torch.cuda.memory_allocated(device)
        free += torch.cuda.memory_reserved(device) - held
    else:
        import psutil

        free, held = psutil.virtual_memory().available, psutil.Process().memory_info().rss
    return free if max_memory is None else min(free, max_memory - held)
