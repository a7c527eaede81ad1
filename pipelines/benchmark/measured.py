"""What is known of one subject when a benchmark ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.benchmark.cost import Cost
from pipelines.benchmark.memory import Memory
from pipelines.benchmark.subjects import Subject
from pipelines.benchmark.timing import Times


@dataclass(frozen=True)
class Agreement:
    """IoU of a subject's masks with those of `other`: the mean over all boxes, and the least."""

    other: str
    mean: float
    least: float


@dataclass(frozen=True)
class Measured:
    """Times of one subject; what was not measured is empty or None.

    encoder: by batch, of the batch; boxes: by their number; everything: by the side of its grid, with the number of
    masks; folder: by the number of images, of all of them. agreement: None for the first subject of a SAM.
    """

    subject: Subject
    cost: Cost
    encoder: Mapping[int, Times[Any]]
    boxes: Mapping[int, Times[Any]]
    everything: Mapping[int, Times[int]]
    folder: Mapping[int, Times[None]]
    agreement: Agreement | None
    memory: Memory | None
