"""Encoders, decoders, prompts and frames of the zoo's families, as small as they can be."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from support.training_photos import tiny_sam

from pipelines.registry import Row
from pipelines.sam.encoders import efficientsam, hq, repvit
from pipelines.sam.encoders.repvit import FusedRepVitEncoder, RepVit, RepVitEncoder
from pipelines.sam.encoders.tinyvit import TinyVit, TinyVitEncoder
from pipelines.sam.encoders.vit import Vit, VitEncoder
from pipelines.sam.layers import TORCH_EPS
from pipelines.sam.mask_decoder import MaskDecoder
from pipelines.sam.model import Sam

SIDE = 256
"""Of the input in pixels: a stride of 4 in place of 16."""
VIT = Vit(width=32, depth=2, heads=2, whole=(1,), patch=4)
TINY_VIT = TinyVit(widths=(16, 32, 32, 32), depths=(1, 1, 1, 1), windows=(0, 7, 7, 7), strides=(1, 1, 1))
REP_VIT = RepVit(widths=(8, 16, 16, 32), depths=(1, 2, 2, 2), strides=(1, 1, 1))
EDGE = dataclasses.replace(REP_VIT, strides=(1, 1, 2), sum_norm=False, fused=True)


def tiny_vit_sam() -> Sam:
    """SAM's own plain ViT."""
    return Sam(VitEncoder(VIT), SIDE, mask_decoder=MaskDecoder(TORCH_EPS))


def tiny_mobile_sam() -> Sam:
    """MobileSAM."""
    return Sam(TinyVitEncoder(TINY_VIT), SIDE, multiple=32, mask_decoder=MaskDecoder(TORCH_EPS))


def tiny_repvit_sam() -> Sam:
    """RepViT-SAM."""
    return Sam(RepVitEncoder(REP_VIT), SIDE, multiple=32, mask_decoder=MaskDecoder(TORCH_EPS))


def tiny_edge_sam() -> Sam:
    """EdgeSAM."""
    decoder = MaskDecoder(TORCH_EPS)
    return Sam(FusedRepVitEncoder(EDGE), SIDE, multiple=32, mask_decoder=decoder, conventions=repvit.EDGE)


def tiny_six_points() -> Sam:
    """EfficientSAM's prompts, decoder and frame."""
    return Sam(
        tiny_sam().image_encoder,
        512,
        multiple=32,
        prompt_encoder=efficientsam.SixPoints(),
        mask_decoder=efficientsam.EfficientMaskDecoder(),
        from_checkpoint=efficientsam.official,
        conventions=efficientsam.CONVENTIONS,
    )


def tiny_hq() -> Sam:
    """Light HQ-SAM."""
    return _hq(hq.Hq(lambda: TinyVitEncoder(TINY_VIT), TINY_VIT.widths[2], 32))


def tiny_vit_hq() -> Sam:
    """HQ-SAM on a plain ViT."""
    return _hq(hq.Hq(lambda: VitEncoder(VIT), VIT.width))


def _hq(config: hq.Hq) -> Sam:
    model = hq.HqSam(config)
    model.input_size = SIDE
    return model


FAMILIES = (tiny_vit_sam, tiny_mobile_sam, tiny_repvit_sam, tiny_edge_sam, tiny_six_points, tiny_hq)


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A `pipelines.sam.model.Architecture`."""

    builder: Callable[[], Sam]

    def build(self) -> Sam:
        return self.builder()


def row(builder: Callable[[], Sam]) -> Row:
    """What the table of SAMs would have for it."""
    return Row(builder.__name__, f"{__name__}:Architecture", "tiny", options={"builder": builder})
