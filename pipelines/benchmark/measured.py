"""What is known of one subject when a benchmark ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.benchmark.cost import Cost
from pipelines.benchmark.memory import Memory
from pipelines.benchmark.subjects import Subject
from pipelines.benchmark.timing import Outcome


@dataclass(frozen=True)
class Agreement:
    """IoU of a subject's masks with those of `other`: the mean over all boxes, and the least."""

    other: str
    mean: float
    least: float


@dataclass(frozen=True)
class Measured:
    """Times of one subject, or why there are none; what was not asked for is empty or None.

    encoder: by batch, of the batch; boxes: by their number; everything: by the side of its grid, with the number of
    masks; folder: by the number of images, of all of them. agreement: None for the first subject of a SAM, and
    without the masks.
    """

    subject: Subject
    cost: Cost
    encoder: Mapping[int, Outcome[Any]]
    boxes: Mapping[int, Outcome[Any]]
    everything: Mapping[int, Outcome[int]]
    folder: Mapping[int, Outcome[None]]
    agreement: Agreement | None
    memory: Memory | None
