"""Boxes for what is described in words. A row is a model; its file of this folder is the back end that runs it.

The way of a text: `phrases` reads what the user wrote, the model gives each of its boxes a score for each phrase,
and `detector` decides which boxes stay and what each is called.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.detectors.text.contract import PRECISIONS, TextConfig, TextModel
from pipelines.registry import Registry, Row

if TYPE_CHECKING:
    from pipelines.detectors.text.detector import TextDetector


@dataclass(frozen=True)
class TextRow(Row):
    """A text detector, with the thresholds of `TextConfig` that suit it; unless told otherwise Grounding DINO's own."""

    box_threshold: float = 0.35
    text_threshold: float = 0.25


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
        _official("grounding-dino-swint", "GroundingDINO_SwinT_OGC", "official Grounding DINO, Swin-T"),
        _official("grounding-dino-swinb", "GroundingDINO_SwinB_cfg", "official Grounding DINO, Swin-B"),
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


def is_here(model: str) -> bool:
    """Whether nothing has to be fetched for a text detector."""
    from weights.store import locate

    return locate(TEXT_DETECTORS[model].weights or model) is not None


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
    from pipelines.detectors.text.detector import TextDetector

    phrases = [phrase.text for phrase in config.phrases]
    model, _ = load_text_model(config.model, phrases, device=device, precision=config.precision, offline=offline)
    return TextDetector(model, with_text_defaults(config))


def load_text_model(
    name: str, phrases: Sequence[str], *, device: str, precision: str, offline: bool | None
) -> tuple[TextModel, Path]:
    """The back end of a row, which will be asked for `phrases`, and the file of its weights.

    Raises as `build_text_detector` does; for phrases before the weights are fetched or loaded.
    """
    from weights.store import fetch_beside

    row = TEXT_DETECTORS[name]
    back_end = row.load()
    back_end.check(fetch_beside(row.weights or name, offline=offline), phrases)
    weights = find_text_weights(name, offline=offline)
    model: TextModel = back_end(weights, device=device, precision=precision, **row.options)
    return model, weights
