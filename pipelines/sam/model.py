"""The whole network: image encoder, prompt encoder, mask decoder, under the official checkpoints' key names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from types import MappingProxyType
from typing import Protocol

import torch
from torch import Tensor, nn

from pipelines.sam import conventions as families
from pipelines.sam.conventions import Conventions
from pipelines.sam.layers import fold_norms
from pipelines.sam.mask_decoder import MaskDecoder
from pipelines.sam.prompt_encoder import EncodedPrompts, PointEncoder, PromptEncoder
from weights.loading import check_state_dict

Features = tuple[Tensor, ...]
"""Of B images: the image embedding, B x 256 x G x G, and after it what the decoder reads besides, B x ... each."""


class Sam(nn.Module):
    """The trainable network.

    input_size: side of the encoder's square input in pixels. multiple: training may give it smaller squares, with
    sides that are multiples of this; None: it takes `input_size` alone. prompt_encoder: None for SAM's;
    mask_decoder: None for EfficientViT-SAM's.
    from_checkpoint: turns the tensors of an official checkpoint, which may name them otherwise or hold unused ones,
    into this network's. conventions: what is its own around the network. beside: names of the features after the
    embedding, and each one's shape of one image.
    """

    beside: Mapping[str, tuple[int, ...]] = MappingProxyType({})

    def __init__(
        self,
        image_encoder: nn.Module,
        input_size: int,
        *,
        multiple: int | None = None,
        prompt_encoder: PointEncoder | None = None,
        mask_decoder: MaskDecoder | None = None,
        from_checkpoint: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict,
        conventions: Conventions = families.SAM,
    ) -> None:
        super().__init__()
        self.input_size = input_size
        self.multiple = multiple or input_size
        self.from_checkpoint = from_checkpoint
        self.conventions = conventions
        self.image_encoder = image_encoder
        self.prompt_encoder = prompt_encoder or PromptEncoder(conventions.points)
        self.mask_decoder = mask_decoder or MaskDecoder()

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
        features = self.encode(pixels)
        pe = self.prompt_encoder.dense_pe(features[0].shape[-1])
        return self.decode(features, self.prompt_encoder(points, labels, boxes, masks), pe, index)

    def encode(self, pixels: Tensor) -> Features:
        """See `Features`. pixels: as in `forward`."""
        return (self.image_encoder(pixels),)

    def decode(self, features: Features, prompts: EncodedPrompts, pe: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """As `forward`, of what is encoded already. pe: L x C, of the embedding's grid."""
        if prompts.dense.shape[-1] > 1:  # each prompt has its own mask
            features, index = tuple(part[index] for part in features), torch.arange(len(index), device=index.device)
        embedding, *more = features
        low_res, iou = self.mask_decoder(embedding + prompts.dense, pe, prompts.sparse, index, *more)
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
    given = _shapes(state)
    if given != _shapes(model.state_dict()) and given == _shapes(fold_norms(deepcopy(model)).state_dict()):
        fold_norms(model)
    check_state_dict(state, _shapes(model.state_dict()), name)
    model.load_state_dict({key: value.float() if value.is_floating_point() else value for key, value in state.items()})
    return model


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in state.items()}
