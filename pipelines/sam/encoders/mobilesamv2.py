"""MobileSAMv2 (arXiv 2312.09579): SAM's decoder, tuned to the boxes of a detector, after the image encoder of another
SAM. `evsam everything` takes it with the detector that it was tuned for.

Its authors publish the encoder in one file and the decoder in another, which holds a state dict of the prompt encoder
and one of the mask decoder, see `official`: https://github.com/ChaoningZhang/MobileSAM, folder MobileSAMv2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.sam.choice import SINGLE, MaskChoice
from pipelines.sam.conventions import Conventions
from pipelines.sam.encoders import efficientvit, tinyvit
from pipelines.sam.encoders.efficientvit import EfficientViTEncoder
from pipelines.sam.encoders.tinyvit import TinyVitEncoder
from pipelines.sam.layers import TORCH_EPS
from pipelines.sam.mask_decoder import MaskDecoder
from pipelines.sam.model import Sam, without

CONVENTIONS = Conventions(choice=MaskChoice(boxes=SINGLE, clicks=SINGLE))
"""Only the first mask was tuned."""
ENCODER = "image_encoder."
DECODER = {"PromtEncoder.": "prompt_encoder.", "MaskDecoder.": "mask_decoder."}
"""Parts of the decoder's file, spelt as there, and of the network."""


class Halved(EfficientViTEncoder):
    """EfficientViT-SAM's encoder behind SAM's own preprocessing: it halves the 1024-pixel input itself."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.avg_pool2d(x, 2))  # which is bilinear between the four middle pixels


@dataclass(frozen=True)
class Base:
    """The SAM whose encoder it is. multiple: see `Sam`."""

    encoder: Callable[[], nn.Module]
    multiple: int


CONFIGS = {
    "l2": Base(lambda: Halved(efficientvit.CONFIGS["l2"], 512), 64),
    "tinyvit": Base(lambda: TinyVitEncoder(tinyvit.CONFIGS["5m"]), 32),
}


@dataclass(frozen=True)
class Architecture:
    """A row of CONFIGS."""

    config: str

    def build(self) -> Sam:
        """A freshly initialised, trainable network."""
        base = CONFIGS[self.config]
        return Sam(
            base.encoder(),
            1024,
            multiple=base.multiple,
            mask_decoder=MaskDecoder(TORCH_EPS),
            from_checkpoint=official,
            conventions=CONVENTIONS,
        )


def official(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """What the authors' two files hold, together, under the network's names.

    The encoder's file may be a whole SAM's, whose decoder is not the tuned one, and have something before its names.
    """
    tuned = {
        own + key.removeprefix(part): x
        for key, x in state.items()
        for part, own in DECODER.items()
        if key.startswith(part)
    }
    if tuned:
        state = tuned | {ENCODER + key.partition(ENCODER)[2]: x for key, x in state.items() if ENCODER in key}
    return without(*tinyvit.UNUSED)(state)
