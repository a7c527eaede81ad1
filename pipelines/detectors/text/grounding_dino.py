"""What both implementations of Grounding DINO share: captions, the canvas, and work that is done once.

Text does not depend on the image, so a caption is encoded once; an image's features do not depend on the text, so they
are computed once for all captions. The model itself is the library's, unchanged: only its text encoder and its image
backbone are wrapped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.detectors.text.captions import VOCABULARY, Caption, Vocabulary
from pipelines.detectors.text.contract import PRECISIONS, Pass
from pipelines.detectors.text.vision import LONG, SHORT, Canvas, place
from pipelines.device import check_device, check_precision
from pipelines.types import Image

Forward = Callable[[Canvas, Tensor], tuple[Tensor, Tensor]]
"""A model: a canvas of B images and B x T token ids, all rows alike, to pred_logits, B x Q x 256, and pred_boxes,
B x Q x 4, cxcywh as shares of each image's own sides."""

_GPU_BATCH = 4


class TextOnce(nn.Module):
    """In the place of a text encoder: encodes each caption once. All rows of a batch must hold the same caption."""

    def __init__(self, encoder: nn.Module, answer: Callable[[Tensor], Any]) -> None:
        """encoder: answers with `last_hidden_state`, B x T x C. answer: makes of it what the model expects."""
        super().__init__()
        self.encoder = encoder
        self._answer = answer
        self._known: dict[tuple[int, ...], Tensor] = {}

    def forward(self, input_ids: Tensor, *args: Any, **kwargs: Any) -> Any:
        key = tuple(input_ids[0].tolist())
        if key not in self._known:
            self._known[key] = self.encoder(input_ids, *args, **kwargs)["last_hidden_state"][:1]
        return self._answer(self._known[key].expand(len(input_ids), -1, -1))

    def forget(self) -> None:
        self._known.clear()


class FeaturesOnce(nn.Module):
    """In the place of an image backbone: runs it once for all captions that a canvas is searched for."""

    def __init__(self, backbone: nn.Module, position_embedding: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.position_embedding = position_embedding
        self._canvas: Tensor | None = None
        self._found: tuple[list[Any], list[Any]] = [], []

    def forward(self, pixels: Any, *args: Any) -> tuple[list[Any], list[Any]]:
        """pixels: B x 3 x H x W, bare or in groundingdino's NestedTensor. Returns feature maps and their positions."""
        canvas = getattr(pixels, "tensors", pixels)
        if self._canvas is not canvas:
            self._canvas, self._found = canvas, self.backbone(pixels, *args)
        features, positions = self._found
        return list(features), list(positions)  # the models append to them

    def __getitem__(self, index: int) -> nn.Module:
        """groundingdino's way to its position embedding."""
        return [self.backbone, self.position_embedding][index]

    def forget(self) -> None:
        self._canvas, self._found = None, ([], [])


class GroundingDino:
    """Looks for phrases in images with a Grounding DINO of either implementation."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        model: nn.Module,
        forward: Forward,
        *,
        device: str,
        precision: str,
        short: int = SHORT,
        long: int = LONG,
    ) -> None:
        """model: what `forward` runs, in fp32 on the CPU, its text encoder and its backbone wrapped.

        device: see `pipelines.sam.build_sam`. precision: one of PRECISIONS. short, long: see `vision.scaled_size`.
        """
        self._device = check_device(device)
        self._autocast = check_precision(precision, self._device, PRECISIONS) is torch.bfloat16
        self._vocabulary = vocabulary
        self._model = model.eval().requires_grad_(False).to(self._device)
        self._forward = forward
        self._sides = short, long
        self._captions: list[Caption] = []
        self.batch = 1 if self._device.type == "cpu" else _GPU_BATCH

    @staticmethod
    def check(folder: Path, phrases: Sequence[str]) -> None:
        """See `pipelines.detectors.text.TextModel`."""
        Vocabulary(folder / VOCABULARY).captions(phrases)

    def read(self, phrases: Sequence[str], *, alone: bool) -> None:
        self._captions = self._vocabulary.captions(phrases, alone=alone)
        self._forget(TextOnce)

    @torch.inference_mode()
    def __call__(self, images: Sequence[Image]) -> list[list[Pass]]:
        passes: list[list[Pass]] = [[] for _ in images]
        if not images:
            return passes
        canvas = place(images, self._device, *self._sides)
        try:
            for caption in self._captions:
                logits, boxes = self.predict(canvas, caption.token_ids)
                scores = caption.phrase_scores(logits.sigmoid()).cpu().numpy()
                phrases = np.array(caption.phrases, np.int64)
                for found, own_boxes, own_scores in zip(passes, boxes.cpu().numpy(), scores, strict=True):
                    found.append(Pass(own_boxes, own_scores, phrases))
        finally:
            self._forget(FeaturesOnce)
        return passes

    @torch.inference_mode()
    def predict(self, canvas: Canvas, token_ids: Sequence[int]) -> tuple[Tensor, Tensor]:
        """pred_logits and pred_boxes, float32, for one caption."""
        ids = torch.tensor([token_ids] * len(canvas.pixels), device=self._device)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._autocast):
            logits, boxes = self._forward(canvas, ids)
        return logits.float(), boxes.float()

    def _forget(self, kind: type[TextOnce] | type[FeaturesOnce]) -> None:
        for module in self._model.modules():
            if isinstance(module, kind):
                module.forget()
