"""What a benchmark is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.errors import UnknownNameError, UsageError
from pipelines.limits import AMOUNT, COUNT, FEW, MANY, NONE_OR_MANY
from pipelines.printable import brief
from pipelines.sam import BACKENDS, SAMS, SamConfig


@dataclass(frozen=True)
class BenchmarkConfig:
    """sams, backends, precisions: every combination is measured; see `pipelines.sam.build_sam`. A folder that `evsam
    export` made may stand for a SAM, and is measured as it is.

    random_weights: drawn where they are not here, instead of fetched. one_by_one: each SAM in a process of its own, so
    that no two need be in memory. processor_time: count what the processor worked, not the clock. accuracy: SAM or
    folder -> whatever the user goes by, higher is better. photo: see `works.open_scene`. batches: images at once in the
    encoder; boxes: numbers of boxes; grids: clicks on a side for segment everything; images: in the folder that is
    segmented with the most boxes. What is empty or 0 is not measured. rounds: None for what suits the device. memory:
    whether to measure it.
    """

    sams: tuple[str, ...] = (SamConfig.name,)
    backends: tuple[str, ...] = (SamConfig.backend,)
    precisions: tuple[str, ...] = (SamConfig.precision,)
    device: str = "cpu"
    random_weights: bool = False
    one_by_one: bool = False
    processor_time: bool = False
    offline: bool | None = None
    accuracy: Mapping[str, float] = field(default_factory=dict)
    photo: Path | None = None
    batches: tuple[int, ...] = (1,)
    boxes: tuple[int, ...] = (10, 20, 30, 40, 50)
    grids: tuple[int, ...] = ()
    images: int = 4
    rounds: int | None = None
    memory: bool = True

    def __post_init__(self) -> None:
        if not (self.sams and self.backends and self.precisions):
            raise UsageError("name a SAM, a back end and a precision at least")
        for name in self.sams:
            if not Path(name).is_dir():
                SAMS.check(name)
        for name in self.backends:
            BACKENDS.check(name)
        from pipelines.device import PRECISIONS  # here, so that the command's help loads no torch

        for name in self.precisions:
            if name not in (known := [*PRECISIONS, "int8"]):
                raise UnknownNameError("precision", name, known)
        for name in self.accuracy:
            if name not in self.sams:
                raise UsageError(f"--accuracy is given for {name!r}, but what is measured is {', '.join(self.sams)}")
        for name, counts, limits in (
            ("--batch", self.batches, COUNT),
            ("--boxes", self.boxes, MANY),
            ("--grid", self.grids, FEW),
            ("--images", (self.images,), NONE_OR_MANY),
            ("--rounds", () if self.rounds is None else (self.rounds,), COUNT),
        ):
            for count in counts:
                if not limits.least <= count <= limits.most:
                    raise UsageError(f"{name} is {brief(count)}, but must be {limits.words}")
        for name, value in self.accuracy.items():
            if not abs(value) <= AMOUNT.most:
                raise UsageError(f"the accuracy of {name} is {value:g}, but must be from -1e9 to 1e9")
        if self.images and not self.boxes:
            raise UsageError("segmenting a folder takes boxes: give --boxes, or --images 0")
        if self.processor_time and self.device != "cpu":
            raise UsageError(f"--processor-time is for a CPU, not for {self.device}: say --device cpu")

    def to_draw(self) -> list[str]:
        """The SAMs whose weights are drawn."""
        return [name for name in self.sams if self.random_weights and name in SAMS and not SamConfig(name).is_here()]

    @property
    def most_boxes(self) -> int:
        return max(self.boxes, default=0)

    @property
    def folders(self) -> tuple[int, ...]:
        return (self.images,) if self.images else ()
