"""What a text detector is asked for, and what a model that reads gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pipelines.errors import UsageError
from pipelines.limits import MANY, SHARE, keep_within

if TYPE_CHECKING:
    from pipelines.detectors.text.phrases import Phrase
    from pipelines.types import Float32, Image, Int64

NMS = ("agnostic", "aware", "off")
PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True)
class TextConfig:
    """What is looked for, and the rules by which a box stays.

    phrases: see `phrases.parse_phrases`. model: a name of `TEXT_DETECTORS`. box_threshold: the score that a box
    must exceed for one of the phrases, unless that has its own; text_threshold: the one that a phrase must exceed
    to claim a box; None for either: the model's own, see `with_text_defaults`. per_phrase: look for each phrase in
    a pass of its own, so that they do not influence each other. nms: of boxes that overlap by more than iou, only
    the best stays: of all (agnostic), of each category (aware), or off. max_box_area: a box over a larger share of
    the image is dropped when it contains another. max_det: most boxes per image. precision: one of PRECISIONS.
    Raises UsageError for a value that cannot be right.
    """

    phrases: tuple[Phrase, ...]
    model: str = "grounding-dino-swint"
    box_threshold: float | None = None
    text_threshold: float | None = None
    per_phrase: bool = False
    nms: str = "agnostic"
    iou: float = 0.7
    max_box_area: float = 0.95
    max_det: int = 300
    precision: str = "fp32"

    def __post_init__(self) -> None:
        keep_within(self, box_threshold=SHARE, text_threshold=SHARE, iou=SHARE, max_box_area=SHARE, max_det=MANY)
        if self.nms not in NMS:
            raise UsageError(f"nms is {self.nms!r}, but must be one of: {', '.join(NMS)}")
        if not self.phrases:
            raise UsageError('nothing to look for: give phrases, such as "cat . red car"')


@dataclass(frozen=True)
class Pass:
    """What one pass over one image found.

    boxes: N x 4 float32, cxcywh as shares of the image's sides, some perhaps outside it; scores: N x P float32, 0 to 1,
    of each box for each phrase looked for; phrases: P int64, places in the list that was read.
    """

    boxes: Float32
    scores: Float32
    phrases: Int64

    def __post_init__(self) -> None:
        """Raises ImageError for what is no number, which a threshold would let drop in silence."""
        import numpy as np  # here, so that to list the detectors imports nothing heavy

        from pipelines.types import check_finite

        check_finite("a box or a score", bool(np.isfinite(self.boxes).all() and np.isfinite(self.scores).all()))


class TextModel(Protocol):
    """A back end. Made as `Model(weights, device=..., precision=..., **row.options)`, weights being the model's file.

    batch: how many images it likes at once.
    """

    batch: int

    @staticmethod
    def check(folder: Path, phrases: Sequence[str]) -> None:
        """Raise UsageError for a phrase that the model cannot read. folder: holds the small files that lie beside the
        model's; what is wrong with them is a WeightsError."""

    def read(self, phrases: Sequence[str], *, alone: bool) -> None:
        """Prepare to look for the phrases; alone: each in a pass of its own. Texts are encoded once, not per image.

        Raises UsageError as `check` does.
        """

    def __call__(self, images: Sequence[Image]) -> list[list[Pass]]:
        """The passes over each image. Images of different sizes are padded to one, and the padding masked."""
