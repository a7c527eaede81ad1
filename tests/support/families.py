"""Decoders, prompts and frames of families that are not SAM's, on encoders that take no time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from support.training_photos import tiny_sam

from pipelines.registry import Row
from pipelines.sam.encoders.efficientsam import CONVENTIONS, EfficientMaskDecoder, SixPoints, official
from pipelines.sam.encoders.hq import CONFIGS, HqSam
from pipelines.sam.encoders.tinyvit import TinyVit, TinyVitEncoder
from pipelines.sam.model import Sam


def tiny_six_points() -> Sam:
    """EfficientSAM's."""
    return Sam(
        tiny_sam().image_encoder,
        512,
        multiple=32,
        prompt_encoder=SixPoints(),
        mask_decoder=EfficientMaskDecoder(),
        from_checkpoint=official,
        conventions=CONVENTIONS,
    )


def tiny_hq() -> Sam:
    """Light HQ-SAM's, and a small TinyViT."""
    tiny = TinyVit(widths=(16, 32, 32, 32), depths=(1, 1, 1, 1), windows=(0, 7, 7, 7))
    return HqSam(dataclasses.replace(CONFIGS["light"], encoder=lambda: TinyVitEncoder(tiny), early=32))


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A `pipelines.sam.model.Architecture`."""

    builder: Callable[[], Sam]

    def build(self) -> Sam:
        return self.builder()


def row(builder: Callable[[], Sam]) -> Row:
    """What the table of SAMs would have for it."""
    return Row(builder.__name__, f"{__name__}:Architecture", "tiny", options={"builder": builder})
