"""How many images are encoded, or prompts decoded, at once: as many as fit, fewer when memory runs out all the same."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch

from pipelines.memory import free_bytes, out_of_memory, release

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

    most: items at once at most; sizes: those that fewer are filled up to, if they are. As many items as have once been
    too many are not tried again, unless more have worked: then it was somebody else's peak.
    """

    def __init__(
        self,
        item: Item,
        device: torch.device,
        max_memory: int | None = None,
        most: int | None = None,
        sizes: Sequence[int] = (),
    ) -> None:
        self.item = item
        self.device = device
        self.max_memory = max_memory
        self.most = min(item.most.get(device.type, sys.maxsize), most or sys.maxsize)
        self.sizes = sizes
        self.worked = 0

    def __call__(self, count: int, work: Callable[[int, int], R], at_once: int | None = None) -> Iterator[R]:
        """work(start, size) for consecutive parts of `count` items, at most `at_once` together."""
        start = 0
        room = free_bytes(self.device, self.max_memory) // self.item.bytes
        size = self._fitting(min(self.most, at_once or self.item.usual, room))
        while start < count:
            part = min(size, count - start)
            try:
                result = work(start, part)
            except (RuntimeError, MemoryError) as error:
                if size == 1 or not out_of_memory(error):
                    raise
                size = self._fitting(part // 2)
                if part >= self.worked:
                    self.most = self.worked = size
            else:
                self.worked = max(self.worked, part)
                yield result
                start += part
                continue
            release(self.device)

    def _fitting(self, count: int) -> int:
        """The largest size that `count` items leave room for."""
        return max((size for size in self.sizes if size <= count), default=max(count, 1))
