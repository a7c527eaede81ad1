"""OWLv2: Minderer et al., "Scaling Open-Vocabulary Object Detection" (NeurIPS 2023), run by transformers.

It scores every patch of the image against each phrase, so phrases never influence each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipelines.detectors.text.contract import PRECISIONS, Pass
from pipelines.detectors.text.hugging_face import load, load_clip_tokenizer, load_configuration
from pipelines.detectors.text.vision import scale
from pipelines.device import check_device, check_precision
from pipelines.errors import UsageError
from pipelines.types import Float32, Image

_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_GREY = 0.5  # around the image, as in the authors' code
_GPU_BATCH = 4
_ARCHITECTURE = "Owlv2ForObjectDetection"


class Owlv2:
    """An `Owlv2ForObjectDetection`: vocab.json, merges.txt and config.json lie beside its weights."""

    def __init__(self, weights: Path, *, device: str = "cpu", precision: str = "fp32") -> None:
        self._device = check_device(device)
        self._autocast = check_precision(precision, self._device, PRECISIONS) is torch.bfloat16
        self._tokenizer = load_clip_tokenizer(weights.parent)
        self._model = load(_ARCHITECTURE, weights).eval().requires_grad_(False).to(self._device)
        self._size: int = self._model.config.vision_config.image_size
        self._phrases = torch.empty(0)
        self._alone = False
        self.batch = 1 if self._device.type == "cpu" else _GPU_BATCH

    @staticmethod
    def check(folder: Path, phrases: Sequence[str]) -> None:
        """See `pipelines.detectors.text.TextModel`."""
        _tokens(load_clip_tokenizer(folder), phrases, load_configuration(_ARCHITECTURE, folder))

    @torch.inference_mode()
    def read(self, phrases: Sequence[str], *, alone: bool) -> None:
        rows = _tokens(self._tokenizer, phrases, self._model.config)
        most = self._model.config.text_config.max_position_embeddings
        ids = torch.tensor([row + [0] * (most - len(row)) for row in rows], device=self._device)
        real = torch.tensor([[1] * len(row) + [0] * (most - len(row)) for row in rows], device=self._device)
        with self._precision():
            pooled = self._model.owlv2.text_model(input_ids=ids, attention_mask=real).pooler_output
            self._phrases = self._model.owlv2.text_projection(pooled)  # P x C; the class head normalises
        self._alone = alone

    @torch.inference_mode()
    def __call__(self, images: Sequence[Image]) -> list[list[Pass]]:
        if not images:
            return []
        with self._precision():
            logits, boxes = self.predict(self.place(images))
        found = boxes.float().cpu() * torch.tensor([self._shares(image) for image in images])[:, None]
        return [
            self._passes(own, own_scores)
            for own, own_scores in zip(found.numpy(), logits.float().sigmoid().cpu().numpy(), strict=True)
        ]

    def predict(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """pixels: B x 3 x S x S. Returns logits, B x N x P, and boxes, B x N x 4 cxcywh as shares of the square."""
        feature_map = self._model.image_embedder(pixel_values=pixels)[0]  # B x h x w x C
        patches = feature_map.flatten(1, 2)
        logits = self._model.class_predictor(patches, self._phrases.expand(len(pixels), -1, -1))[0]
        return logits, self._model.box_predictor(patches, feature_map)

    def place(self, images: Sequence[Image]) -> Tensor:
        """B x 3 x S x S float32, normalised: each image at the top left of a grey square of the model's size."""
        square = torch.full((len(images), 3, self._size, self._size), _GREY)
        for row, image in zip(square, images, strict=True):
            height, width = self._scaled(image)
            row[:, :height, :width] = torch.from_numpy(scale(image, height, width)).permute(2, 0, 1) / 255
        mean, std = (torch.tensor(values)[:, None, None] for values in (_MEAN, _STD))
        return square.sub_(mean).div_(std).to(self._device)

    def _scaled(self, image: Image) -> tuple[int, int]:
        """Height and width of an image in the square."""
        factor = self._size / max(image.height, image.width)
        return max(1, round(image.height * factor)), max(1, round(image.width * factor))

    def _shares(self, image: Image) -> list[float]:
        """From shares of the square's sides, in which the model gives its boxes, to shares of the image's."""
        height, width = self._scaled(image)
        return [self._size / width, self._size / height] * 2

    def _passes(self, boxes: Float32, scores: Float32) -> list[Pass]:
        every = np.arange(scores.shape[1])
        groups = np.split(every, len(every)) if self._alone else [every]
        return [Pass(boxes, np.ascontiguousarray(scores[:, group]), group) for group in groups]

    def _precision(self) -> torch.autocast:
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self._autocast)


def _tokens(tokenizer: Any, phrases: Sequence[str], config: Any) -> list[list[int]]:
    """The token ids of each phrase, start and end among them. Raises UsageError for one that the model cannot read."""
    most = config.text_config.max_position_embeddings
    rows: list[list[int]] = [tokenizer(phrase.lower()).input_ids for phrase in phrases]
    for phrase, row in zip(phrases, rows, strict=True):
        if len(row) <= 2:
            raise UsageError(f"there is no word in the phrase {phrase!r}")
        if len(row) > most:
            raise UsageError(f"the phrase {phrase[:40]!r} has {len(row) - 2} tokens, but OWLv2 reads {most - 2}")
    return rows
