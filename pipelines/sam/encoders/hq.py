"""HQ-SAM and Light HQ-SAM (arXiv 2306.01567): SAM, or MobileSAM, and a fifth mask token that refines what they find.

Its mask is taken on finer features: the sum of an early feature of the encoder, the image embedding, and the decoder's
own map, each at a stride of 4. It is added to the logits of SAM's mask. Module names are those of the official
checkpoints, https://github.com/SysCV/sam-hq.

Shapes: B images, N prompts, K masks, C channels, G the embedding's grid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.sam.choice import MaskChoice
from pipelines.sam.conventions import Conventions
from pipelines.sam.encoders import tinyvit, vit
from pipelines.sam.encoders.tinyvit import TinyVitEncoder
from pipelines.sam.encoders.vit import WIDTH, VitEncoder
from pipelines.sam.layers import TORCH_EPS, ChannelNorm
from pipelines.sam.mask_decoder import (
    MASKS,
    DecoderState,
    Head,
    ImageSide,
    MaskDecoder,
    Positions,
    in_image_order,
    take,
)
from pipelines.sam.model import Features, Sam, without

DETAIL = 32
"""Channels of the finer features."""
HQ = Conventions(choice=MaskChoice(best_alone=True, detail=MASKS))


@dataclass(frozen=True)
class Hq:
    """encoder: what makes it; early: the width of its early feature; multiple: see `Sam`; unused: see `without`."""

    encoder: Callable[[], VitEncoder | TinyVitEncoder]
    early: int
    multiple: int | None = None
    unused: tuple[str, ...] = ()


def _vit(name: str) -> Hq:
    return Hq(lambda: VitEncoder(vit.CONFIGS[name]), vit.CONFIGS[name].width)


TINY = tinyvit.CONFIGS["5m"]
CONFIGS = {
    **{name: _vit(name) for name in ("b", "l", "h")},
    "light": Hq(lambda: TinyVitEncoder(TINY), TINY.widths[tinyvit.EARLY + 1], 32, tinyvit.UNUSED),
}


@dataclass(frozen=True)
class Architecture:
    """A row of CONFIGS."""

    config: str

    def build(self) -> Sam:
        """A freshly initialised, trainable network."""
        return HqSam(CONFIGS[self.config])


class HqSam(Sam):
    """A SAM whose decoder reads features beside the embedding."""

    image_encoder: VitEncoder | TinyVitEncoder
    mask_decoder: HqMaskDecoder

    def __init__(self, config: Hq) -> None:
        super().__init__(
            config.encoder(),
            1024,
            multiple=config.multiple,
            mask_decoder=HqMaskDecoder(config.early),
            from_checkpoint=without(*config.unused),
            conventions=HQ,
        )
        self.beside = {"hq_features": (DETAIL, 256, 256)}

    def encode(self, pixels: Tensor) -> Features:
        """The embedding, and the finer features as far as they are the image's alone: B x 32 x 4G x 4G."""
        embedding, early = self.image_encoder.with_early(pixels)
        return embedding, self.mask_decoder.detail(embedding, early)


class HqMaskDecoder(MaskDecoder):
    """As MaskDecoder, but every mask has that of the fifth token added, which token `MASKS` has alone.

    In the reference's order of operations finer features are summed for every prompt before its token reads them. Both
    are linear: here the token reads what is the image's once, and as logits; and what is the prompt's without the last
    convolution's channels, which are 32 where one is needed.
    """

    def __init__(self, early: int) -> None:
        super().__init__(TORCH_EPS)
        self.hf_token = nn.Embedding(1, WIDTH)
        self.hf_mlp = Head(DETAIL)
        self.compress_vit_feat = _upscaling(early, WIDTH)
        self.embedding_encoder = _upscaling(WIDTH, 64)
        self.embedding_maskfeature = nn.Sequential(
            nn.Conv2d(DETAIL, 64, 3, padding=1), ChannelNorm(64), nn.GELU(), nn.Conv2d(64, DETAIL, 3, padding=1)
        )

    def detail(self, embedding: Tensor, early: Tensor) -> Tensor:
        """B x 256 x G x G and B x C x G x G -> B x 32 x 4G x 4G, in the decoder's own precision."""
        embedding, early = (x.to(self.hf_token.weight.dtype) for x in (embedding, early))
        return self.embedding_encoder(embedding) + self.compress_vit_feat(early)

    def own_tokens(self) -> Tensor:
        return torch.cat([super().own_tokens(), self.hf_token.weight])

    def image_side(self, src: Tensor, pe: Tensor, *more: Tensor) -> tuple[Tensor, ImageSide]:
        image, side = super().image_side(src, pe)
        (detail,) = more
        return image, side._replace(detail=detail)

    def decode(
        self, image: Tensor, side: ImageSide, positions: Positions, sparse: Tensor, index: Tensor
    ) -> DecoderState:
        decoded = super().decode(image, side._replace(detail=None), positions, sparse, index)
        assert side.detail is not None
        logits = self._weights(decoded)[:, None] @ take(side.detail, index).flatten(2)  # N x 1 x (4G, 4G)
        return decoded._replace(detail=logits.reshape(-1, *side.detail.shape[2:]))

    def masks(self, decoded: DecoderState, which: Tensor | None = None) -> Tensor:
        """See MaskDecoder.masks; None: of all five."""
        assert decoded.detail is not None
        upscaled = self.upscaled(decoded)
        detail = (decoded.detail + self._of_prompt(decoded, upscaled))[:, None]
        if which is None:
            plain = in_image_order(self.weights(decoded, None) @ upscaled.transpose(1, 2))
            return torch.cat([plain + detail, detail], dim=1)
        plain = in_image_order(self.weights(decoded, which.clamp(max=MASKS - 1)) @ upscaled.transpose(1, 2))
        return plain * (which < MASKS)[..., None, None] + detail

    def _weights(self, decoded: DecoderState) -> Tensor:
        """N x 32: what the fifth token weighs the finer features with."""
        weights: Tensor = self.hf_mlp(decoded.tokens[:, 1 + MASKS])
        return weights

    def _of_prompt(self, decoded: DecoderState, upscaled: Tensor) -> Tensor:
        """The decoder's own part of the finer features, as logits N x 4G x 4G."""
        first, norm, act, last = self.embedding_maskfeature
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        x = act(norm(first(in_image_order(upscaled.transpose(1, 2)))))  # N x 64 x 4G x 4G
        weights = self._weights(decoded)
        kernels = torch.einsum("no,oihw->nhwi", weights, last.weight).flatten(1, 2)  # N x 9 x 64
        shifted = (kernels @ x.flatten(2)).unflatten(1, (3, 3)).unflatten(3, x.shape[2:])  # N x 3 x 3 x 4G x 4G
        side = x.shape[-1]
        padded = F.pad(shifted, (1, 1, 1, 1))
        total = (weights @ last.bias)[:, None, None]
        for row in range(3):
            for column in range(3):
                total = total + padded[:, row, column, row : row + side, column : column + side]
        return total


def _upscaling(inputs: int, middle: int) -> nn.Sequential:
    """To four times the grid: B x C x G x G -> B x 32 x 4G x 4G."""
    return nn.Sequential(
        nn.ConvTranspose2d(inputs, middle, 2, 2),
        ChannelNorm(middle),
        nn.GELU(),
        nn.ConvTranspose2d(middle, DETAIL, 2, 2),
    )
