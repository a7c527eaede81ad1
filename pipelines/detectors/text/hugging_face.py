"""Models of Hugging Face transformers, from files of this machine alone: Grounding DINO and MM-Grounding-DINO.

Zhao et al., "An Open and Comprehensive Pipeline for Unified Object Grounding and Detection" (2024) is the latter.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import logging

from pipelines.detectors.text.captions import VOCABULARY, Vocabulary
from pipelines.detectors.text.grounding_dino import FeaturesOnce, Forward, GroundingDino, TextOnce
from pipelines.detectors.text.vision import LONG, SHORT, Canvas
from pipelines.errors import WeightsError

_SPECIAL_IDS = [101, 102, 1012, 1029]
"""What transformers takes for the ids of `captions.SPECIAL_TOKENS`: bert-base-uncased's."""

_TOKENIZER = "CLIPTokenizerFast"


class HuggingFaceGroundingDino(GroundingDino):
    """A `GroundingDinoForObjectDetection` or `MMGroundingDinoForObjectDetection`."""

    def __init__(
        self,
        weights: Path,
        *,
        architecture: str,
        device: str = "cpu",
        precision: str = "fp32",
        short: int = SHORT,
        long: int = LONG,
    ) -> None:
        """weights: a model.safetensors, config.json and vocab.txt beside it. architecture: a class of transformers.

        Raises WeightsError when the files do not make exactly this model.
        """
        vocabulary = Vocabulary(weights.with_name(VOCABULARY))
        if vocabulary.special_ids != _SPECIAL_IDS:
            raise WeightsError(f"{weights.with_name('vocab.txt')} is not the vocabulary of bert-base-uncased")
        model = load(architecture, weights)
        super().__init__(vocabulary, model, _wrap(model), device=device, precision=precision, short=short, long=long)


def load(architecture: str, weights: Path) -> Any:
    """The model of a folder, fp32, on the CPU. Raises WeightsError unless every tensor has its place and every place
    its tensor; asks no hub.
    """
    try:
        with _silence():
            model, report = getattr(transformers, architecture).from_pretrained(
                str(weights.parent), local_files_only=True, use_safetensors=True, output_loading_info=True
            )
    except Exception as error:  # a file can break anywhere in the library
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise WeightsError(f"{weights} does not work as a {architecture}: {reason}") from error
    faults = [
        f"{kind.replace('_', ' ')} {', '.join(sorted(map(str, keys))[:5])}" for kind, keys in report.items() if keys
    ]
    if faults:
        raise WeightsError(f"{weights} holds no weights of {architecture}: {'; '.join(faults)}")
    return model.float()


def load_configuration(architecture: str, folder: Path) -> Any:
    """What the config.json in a folder says of a model. Raises WeightsError."""
    try:
        with _silence():
            return getattr(transformers, architecture).config_class.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise WeightsError(f"{folder} holds no configuration of {architecture}: {reason}") from error


def load_clip_tokenizer(folder: Path) -> Any:
    """The tokenizer of the vocab.json and merges.txt in a folder. Raises WeightsError."""
    try:
        with _silence():
            return getattr(transformers, _TOKENIZER).from_pretrained(str(folder), local_files_only=True)
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise WeightsError(f"{folder} holds no tokenizer of CLIP: {reason}") from error


@contextmanager
def _silence() -> Iterator[None]:
    """Keep the library from logging and from drawing progress bars."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _wrap(model: Any) -> Forward:
    core = model.model
    core.text_backbone = TextOnce(core.text_backbone, lambda hidden: BaseModelOutput(last_hidden_state=hidden))
    core.backbone = FeaturesOnce(core.backbone, core.backbone.position_embedding)

    def forward(canvas: Canvas, token_ids: Tensor) -> tuple[Tensor, Tensor]:
        found = model(
            pixel_values=canvas.pixels,
            pixel_mask=~canvas.padding,
            input_ids=token_ids,
            attention_mask=torch.ones_like(token_ids),
        )
        return found.logits, found.pred_boxes

    return forward
