"""Boxes for what is described in words. A row is a model; its file of this folder is the back end that runs it.

The way of a text: `phrases` reads what the user wrote, the model gives each of its boxes a score for each phrase,
and `detector` decides which boxes stay and what each is called.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pipelines.errors import UsageError
from pipelines.limits import MANY, SHARE, keep_within
from pipelines.registry import Registry, Row

if TYPE_CHECKING:
    from pipelines.detectors.text.detector import TextDetector
    from pipelines.detectors.text.phrases import Phrase
    from pipelines.types import Float32, Image, Int64

NMS = ("agnostic", "aware", "off")
PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True)
class TextRow(Row):
    """A text detector, with the thresholds of `TextConfig` that suit it; unless told otherwise Grounding DINO's own."""

    box_threshold: float = 0.35
    text_threshold: float = 0.25


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

    def read(self, phrases: Sequence[str], *, alone: bool) -> None:
        """Prepare to look for the phrases; alone: each in a pass of its own. Texts are encoded once, not per image.

        Raises UsageError for a phrase that the model cannot read.
        """

    def __call__(self, images: Sequence[Image]) -> list[list[Pass]]:
        """The passes over each image. Images of different sizes are padded to one, and the padding masked."""


def _official(name: str, config: str, summary: str) -> TextRow:
    return TextRow(
        name,
        "pipelines.detectors.text.official:OfficialGroundingDino",
        summary,
        weights=name,
        extra="text",
        options={"config": config},
    )


def _hugging_face(name: str, architecture: str, summary: str) -> TextRow:
    return TextRow(
        name,
        "pipelines.detectors.text.hugging_face:HuggingFaceGroundingDino",
        summary,
        weights=name,
        extra="text",
        options={"architecture": architecture},
    )


def _owlv2(name: str, summary: str) -> TextRow:
    model = "pipelines.detectors.text.owlv2:Owlv2"
    return TextRow(name, model, summary, weights=name, extra="text", box_threshold=0.1, text_threshold=0.1)


_GDINO, _MM = "GroundingDinoForObjectDetection", "MMGroundingDinoForObjectDetection"

TEXT_DETECTORS = Registry(
    "text detector",
    [
        _official(
            "grounding-dino-swint", "GroundingDINO_SwinT_OGC", "official Grounding DINO, Swin-T, 172 M parameters"
        ),
        _official(
            "grounding-dino-swinb", "GroundingDINO_SwinB_cfg", "official Grounding DINO, Swin-B, 233 M parameters"
        ),
        _hugging_face("grounding-dino-tiny", _GDINO, "grounding-dino-swint as transformers has it"),
        _hugging_face("grounding-dino-base", _GDINO, "grounding-dino-swinb as transformers has it"),
        _hugging_face("mm-grounding-dino-tiny", _MM, "MM-Grounding-DINO, Swin-T, trained on more"),
        _hugging_face("mm-grounding-dino-large", _MM, "MM-Grounding-DINO, Swin-L"),
        _owlv2("owlv2-base", "OWLv2 B/16, whose scores are lower"),
        _owlv2("owlv2-large", "OWLv2 L/14, whose scores are lower"),
    ],
)


def with_text_defaults(config: TextConfig) -> TextConfig:
    """The configuration with the model's own thresholds for those that are None."""
    row = TEXT_DETECTORS[config.model]
    names = ("box_threshold", "text_threshold")
    return replace(config, **{name: getattr(row, name) for name in names if getattr(config, name) is None})


def find_text_weights(model: str, *, offline: bool | None = None) -> Path:
    """The file of a text detector's weights, fetched if needed; what else the model reads lies beside it.

    Raises as `build_text_detector` does; a missing package before anything is fetched.
    """
    from weights.store import fetch

    row = TEXT_DETECTORS[model]
    row.load()
    return fetch(row.weights or model, offline=offline)


def check_text_detector(config: TextConfig, *, device: str = "cpu") -> None:
    """Raise what `build_text_detector` would and can be known without the weights; fetches nothing."""
    from pipelines.device import check_device, check_precision

    TEXT_DETECTORS[config.model].load()
    check_precision(config.precision, check_device(device), PRECISIONS)


def build_text_detector(config: TextConfig, *, device: str = "cpu", offline: bool | None = None) -> TextDetector:
    """A detector that has read its text and is ready for images.

    Raises UsageError for an unknown model, device or precision and for a phrase the model cannot read, WeightsError
    when the weights are missing or not the model's, and SetupError when a package is missing.
    """
    row = TEXT_DETECTORS[config.model]
    weights = find_text_weights(config.model, offline=offline)
    model: TextModel = row.load()(weights, device=device, precision=config.precision, **row.options)

    from pipelines.detectors.text.detector import TextDetector

    return TextDetector(model, config)
