"""The whole network: image encoder, prompt encoder, mask decoder, under the official checkpoints' key names."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Protocol

import torch
from torch import Tensor, nn

from pipelines.sam import conventions as families
from pipelines.sam.conventions import Conventions
from pipelines.sam.layers import EPS, fold_norms
from pipelines.sam.mask_decoder import MaskDecoder
from pipelines.sam.prompt_encoder import PromptEncoder
from weights.loading import check_state_dict


class Sam(nn.Module):
    """The trainable network.

    input_size: side of the encoder's square input in pixels. multiple: training may give it smaller squares, with
    sides that are multiples of this; None: it takes `input_size` alone. decoder_eps: of the norms of the decoder's
    transformer. from_checkpoint: turns the tensors of an official checkpoint, which may name them otherwise or hold
    unused ones, into this network's. conventions: what is its own around the network.
    """

    def __init__(
        self,
        image_encoder: nn.Module,
        input_size: int,
        *,
        multiple: int | None = None,
        decoder_eps: float = EPS,
        from_checkpoint: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict,
        conventions: Conventions = families.SAM,
    ) -> None:
        super().__init__()
        self.input_size = input_size
        self.multiple = multiple or input_size
        self.from_checkpoint = from_checkpoint
        self.conventions = conventions
        self.image_encoder = image_encoder
        self.prompt_encoder = PromptEncoder()
        self.mask_decoder = MaskDecoder(decoder_eps)

    def forward(
        self,
        pixels: Tensor,
        index: Tensor,
        *,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Train or run on B images at once: all four masks of every prompt.

        pixels: B x 3 x S x S, normalised and padded. index: N, the image of each prompt. points, labels, boxes, masks:
        as in PromptEncoder, in the 1024 frame. Returns low-res logits N x 4 x 4G x 4G and predicted IoU N x 4.
        """
        embedding = self.image_encoder(pixels)
        pe = self.prompt_encoder.dense_pe(embedding.shape[-1])
        prompts = self.prompt_encoder(points, labels, boxes, masks)
        if masks is not None:
            embedding, index = embedding[index], torch.arange(len(index), device=index.device)
        low_res, iou = self.mask_decoder(embedding + prompts.dense, pe, prompts.sparse, index)
        return low_res, iou


class Architecture(Protocol):
    """What a row of `SAMS` makes, called with the row's options; each family's stands beside its configs."""

    def build(self) -> Sam:
        """A freshly initialised, trainable network."""


def without(*prefixes: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    """A `from_checkpoint` that leaves out what official files hold under these prefixes and nothing uses."""

    def kept(state: dict[str, Tensor]) -> dict[str, Tensor]:
        return {key: value for key, value in state.items() if not key.startswith(prefixes)}

    return kept


def load(model: Sam, state: dict[str, Tensor], name: str) -> Sam:
    """Fill `model` from an official state dict, or from one with its norms folded (the model then folds its own).

    Every key and shape must match, else WeightsError.
    """
    state = model.from_checkpoint(state)
    if state.keys() != model.state_dict().keys() and state.keys() == fold_norms(deepcopy(model)).state_dict().keys():
        fold_norms(model)
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    check_state_dict(state, expected, name)
    model.load_state_dict({key: value.float() if value.is_floating_point() else value for key, value in state.items()})
    return model
