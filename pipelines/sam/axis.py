"""One axis of the resize from low-res masks to an image: a matrix, and which sources each of its rows reads."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.types import Float32

LOW_RES_SIDE = 256
"""Side of the low-res masks."""
ROWS_AT_ONCE = 64
"""Outputs interpolated in one product: they read few sources, so small blocks multiply few zeros."""


@dataclass(frozen=True)
class Axis:
    """One axis of the resize. matrix: outputs x 256; first, last: the sources that each output reads, ascending."""

    matrix: Tensor
    first: list[int]
    last: list[int]

    @cached_property
    def weight(self) -> float:
        """The most that an output's weights, without their signs, add up to: 1 where none is negative."""
        return float(self.matrix.abs().sum(1).max()) if bool((self.matrix < 0).any()) else 1.0

    @cached_property
    def pixels(self) -> Float32:
        """How many outputs read each source and those next to it; each output is counted once."""
        middles = (np.array(self.first) + np.array(self.last)) // 2
        return np.bincount(middles, minlength=LOW_RES_SIDE).astype(np.float32)

    def reach(self, span: tuple[int, int]) -> tuple[int, int]:
        """The outputs that sources in `span` reach, a half-open span as well."""
        return bisect_left(self.last, span[0]), bisect_left(self.first, span[1])

    def sources(self, start: int, stop: int) -> slice:
        """What the outputs [start, stop) read; there is at least one."""
        return slice(self.first[start], self.last[stop - 1] + 1)

    def interpolate(self, x: Tensor, start: int, stop: int) -> Tensor:
        """K x S, the `sources` of the outputs [start, stop) -> K x (stop - start)."""
        out = x.new_empty(len(x), stop - start)
        offset = self.first[start]
        for a in range(start, stop, ROWS_AT_ONCE):
            b = min(a + ROWS_AT_ONCE, stop)
            read = self.sources(a, b)
            part = x[:, read.start - offset : read.stop - offset]
            out[:, a - start : b - start] = part @ self.matrix[a:b, read].T
        return out


@lru_cache(maxsize=32)
def axis_of(original: int, steps: tuple[tuple[int, int], ...], mode: str, device: torch.device) -> Axis:
    """The resizes of one axis, read off torch's own operator. steps: before the last one, to how many places, and how
    many of these are kept."""
    columns = torch.eye(LOW_RES_SIDE)[None, :, :, None]  # one channel per low-res position
    for size, kept in steps:
        if size != columns.shape[2]:
            columns = F.interpolate(columns, size=(size, 1), mode=mode, align_corners=False)
        columns = columns[:, :, :kept]
    columns = F.interpolate(columns, size=(original, 1), mode=mode, align_corners=False)
    matrix = columns[0, :, :, 0].T.contiguous()
    spans = spans_of(matrix != 0)
    return Axis(matrix.to(device), [first for first, _ in spans], [end - 1 for _, end in spans])


def spans_of(occupied: Tensor) -> list[tuple[int, int]]:
    """N x S bool -> per row the half-open span from first to last True; (0, 0) when there is none."""
    marks = occupied.to(torch.uint8)
    first, last = marks.argmax(1), occupied.shape[1] - marks.flip(1).argmax(1)
    empty = ~occupied.any(1)
    return list(zip(first.masked_fill(empty, 0).tolist(), last.masked_fill(empty, 0).tolist(), strict=True))
