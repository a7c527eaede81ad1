"""The torch back end: norms folded, weights in the precision that is asked for, the decoder's image side computed once.

Whatever the precision, the linear attention and the norms are computed in float32: their sums leave float16's range.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipelines.device import PRECISIONS, check_device, check_precision, send
from pipelines.sam import mask_decoder
from pipelines.sam.layers import fold_norms
from pipelines.sam.mask_decoder import ImageSide
from pipelines.sam.model import Features, Sam
from pipelines.sam.network import Prompts, SamSource


class TorchBackend:
    """The back end, as `build_sam` asks for it."""

    def place(self, device: str, precision: str) -> torch.device:
        where = check_device(device)
        check_precision(precision, where)
        return where

    def build(self, source: SamSource, *, device: str, precision: str) -> TorchNetwork:
        where, dtype = self.place(device, precision), PRECISIONS[precision]
        if where.type == "cuda" and dtype == torch.float32:
            torch.backends.cudnn.allow_tf32 = False  # it would round to 10 bits what convolutions multiply
        model = inference_form(source.load(), dtype).to(where)
        model.image_encoder.to(memory_format=torch.channels_last)
        return TorchNetwork(model, where)


def inference_form(model: Sam, dtype: torch.dtype) -> Sam:
    """Fold the norms and cast the weights, in place. Buffers stay: the positional encoding is computed in float32."""
    fold_norms(model).requires_grad_(False)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    return model


class TorchNetwork:
    """A network whose `model` is in inference form, on `device`."""

    most_prompts: int | None = None
    prompt_sizes: Sequence[int] = ()

    def __init__(self, model: Sam, device: torch.device) -> None:
        self.model = model
        self.device = device
        self.dtype = model.prompt_encoder.dtype
        self.input_size = model.input_size
        self.conventions = model.conventions
        with torch.inference_mode():
            self.pe = model.prompt_encoder.dense_pe(64)
            self.positions = model.mask_decoder.positions(self.pe)

    def encode(self, pixels: Tensor) -> Features:
        return self.model.encode(pixels.to(self.device, self.dtype))

    def images(self, features: Features) -> TorchImages:
        embeddings, *more = features
        src = embeddings + self.model.prompt_encoder.no_mask
        return TorchImages(self, features, *self.model.mask_decoder.image_side(src, self.pe, *more))

    def decode(self, image: Tensor, side: ImageSide, sparse: Tensor, index: Tensor) -> mask_decoder.DecoderState:
        """See MaskDecoder.decode."""
        decoded: mask_decoder.DecoderState = self.model.mask_decoder.decode(image, side, self.positions, sparse, index)
        return decoded

    def masks(self, decoded: mask_decoder.DecoderState, which: Tensor) -> Tensor:
        """See MaskDecoder.masks."""
        masks: Tensor = self.model.mask_decoder.masks(decoded, which)
        return masks


@dataclass(frozen=True)
class TorchImages:
    """tokens, side: what all prompts without a mask share of their image."""

    network: TorchNetwork
    features: Features
    tokens: Tensor
    side: ImageSide

    def decode(self, prompts: Prompts) -> TorchDecoded:
        network, decoder = self.network, self.network.model.mask_decoder
        sparse, dense = network.model.prompt_encoder(prompts.points, prompts.labels, prompts.boxes, prompts.masks)
        tokens, side = self.tokens, self.side
        images = prompts.images or (0,) * len(prompts)
        index = send(torch.tensor(images), network.device)
        if images[0] == images[-1]:  # one image for all, which need not be copied for each
            tokens, side = tokens[images[0]][None], side.each(lambda part: part[images[0]][None])
        if prompts.masks is not None:
            embeddings, *more = (part[index] for part in self.features)
            tokens, side = decoder.image_side(embeddings + dense, network.pe, *more)
            index = torch.arange(len(prompts), device=network.device)
        return TorchDecoded(network, network.decode(tokens, side, sparse, index))


@dataclass(frozen=True)
class TorchDecoded:
    """Prompts after the decoder's transformer."""

    network: TorchNetwork
    decoded: mask_decoder.DecoderState

    @property
    def iou(self) -> Tensor:
        return self.decoded.iou.float()

    def take(self, prompts: Tensor) -> TorchDecoded:
        return TorchDecoded(self.network, self.decoded.take(prompts))

    def masks(self, which: Tensor) -> Tensor:
        return self.network.masks(self.decoded, which).float()
