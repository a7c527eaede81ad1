"""What an evaluation is told: what is scored, on what, and how its objects are prompted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.detectors import DetectorConfig
from pipelines.errors import UsageError
from pipelines.limits import FEW
from pipelines.printable import brief
from pipelines.sam import SamConfig
from pipelines.sam.rules import NO_BOX

if TYPE_CHECKING:
    from pipelines.run.folder import RunFolder

DATA_SETS = ("coco", "lvis")


@dataclass(frozen=True)
class TruthBoxes:
    """Each object's own box."""


@dataclass(frozen=True)
class SimulatedClicks:
    """Clicks on each object's worst error. rounds: after how many clicks masks are scored, ascending."""

    rounds: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.rounds or min(self.rounds) < 1 or sorted(set(self.rounds)) != list(self.rounds):
            raise UsageError(f"clicks {self.rounds} must be numbers of clicks, each greater than the one before it")
        if self.rounds[-1] > FEW.most:
            raise UsageError(f"clicks are {brief(self.rounds[-1])}, but must be {FEW.words}")


@dataclass(frozen=True)
class RawBoxFilePrompts:
    """All boxes of a file that `pipelines.detectors.box_table` reads, as they stand there."""

    path: Path


@dataclass(frozen=True)
class CategoryNames:
    """Every category's name as a phrase. model: a name of `TEXT_DETECTORS`; max_det: pairs of box and name per image.

    No threshold and no suppression: published AP takes the best boxes (100 in Segmentation in the Wild).
    """

    model: str
    max_det: int = 100
    precision: str = "fp32"

    def __post_init__(self) -> None:
        if self.max_det < 1:
            raise UsageError(f"max_det is {self.max_det}, but must be at least 1")


EvaluationPrompts = TruthBoxes | SimulatedClicks | RawBoxFilePrompts | DetectorConfig | CategoryNames


@dataclass(frozen=True)
class EvaluationConfig:
    """What is scored, on what, and how.

    annotations: a COCO or LVIS file; images: the folder that its file names are below (needed for prompts, and for the
    report's pictures). prompts x sams are the cells; all runs on the device of the SAMs. results: COCO results lists to
    be scored as they are. data_set: one of `DATA_SETS`. class_agnostic: take all classes as one. boundary: boundary AP
    of detections, too. limit: only the first images of the file. Raises UsageError unless the SAMs are on one device,
    and for a margin of boxes where there are clicks.
    """

    annotations: Path
    output: Path
    images: Path | None = None
    prompts: tuple[EvaluationPrompts, ...] = ()
    sams: tuple[SamConfig, ...] = (SamConfig(),)
    results: tuple[Path, ...] = ()
    data_set: str = "coco"
    protocol: str = "efficientvit-sam"
    class_agnostic: bool = False
    boundary: bool = False
    limit: int | None = None
    resume: bool = False
    overwrite: bool = False
    offline: bool | None = None
    report: bool = True

    def __post_init__(self) -> None:
        if len({sam.device for sam in self.sams}) != 1:
            raise UsageError("name a SAM at least, and one device for all")
        if self.sams[0].rules.box_margin is not None and any(
            isinstance(each, SimulatedClicks) for each in self.prompts
        ):
            raise UsageError(NO_BOX)

    @property
    def device(self) -> str:
        return self.sams[0].device

    @property
    def folder(self) -> RunFolder:
        """Holds the cells' folders, each as it is to be treated, too."""
        from pipelines.run.folder import RunFolder  # here, so that the command's help loads no NumPy

        return RunFolder(self.output, self.resume, self.overwrite)
