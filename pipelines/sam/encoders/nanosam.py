"""NanoSAM (https://github.com/NVIDIA-AI-IOT/nanosam): a ResNet-18 (arXiv 1512.03385) taught to give MobileSAM's image
embeddings; prompt encoder and mask decoder are MobileSAM's own.

Module names are those of the authors' training. What they publish is an ONNX file of the encoder, in which the norms
are folded and the backbone's convolutions have lost their names: see `official`.

Shapes: B images, G x G the embedding's grid, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.sam.choice import EVERY, MaskChoice
from pipelines.sam.conventions import Conventions
from pipelines.sam.encoders.vit import WIDTH
from pipelines.sam.frame import Fit, bicubic, truncated
from pipelines.sam.layers import TORCH_EPS
from pipelines.sam.mask_decoder import MaskDecoder
from pipelines.sam.model import Sam
from pipelines.sam.points import as_given

WIDTHS = (64, 128, 256, 512)
DEPTH = 2
"""Blocks in each stage."""
PARTS = ("image_encoder.", "prompt_encoder.", "mask_decoder.")
NAMED = ("backbone.", "up_1.", "proj.", "pos_embedding")
"""What names in a file of the encoder alone start with, unless they are lost."""

CONVENTIONS = {
    "sam": Conventions(fit=Fit(truncated, bicubic)),
    "nvidia": Conventions(
        fit=Fit(truncated, bicubic, evenly=True, direct=True),
        points=as_given,
        choice=MaskChoice(boxes=EVERY, clicks=EVERY, multi=EVERY),
    ),
}
"""SAM's rules of prompts and masks, or those of NanoSAM's own demo."""


@dataclass(frozen=True)
class Architecture:
    """A row of CONVENTIONS."""

    config: str

    def build(self) -> Sam:
        """A freshly initialised, trainable network."""
        return Sam(
            NanoEncoder(),
            1024,
            mask_decoder=MaskDecoder(TORCH_EPS),
            from_checkpoint=official,
            conventions=CONVENTIONS[self.config],
        )


def official(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names under which the encoder's tensors have none: in the order in which they are used, weight and bias each.

    A file of the encoder alone says nothing of where in the network it belongs.
    """
    named = {key: value for key, value in state.items() if key.startswith(PARTS)}
    named |= {f"image_encoder.{key}": value for key, value in state.items() if key.startswith(NAMED)}
    nameless = [key for key in state if not key.startswith((*PARTS, *NAMED))]
    names = [f"image_encoder.backbone.{name}.{kind}" for name in convolutions() for kind in ("weight", "bias")]
    if len(nameless) != len(names):
        names = nameless
    return named | {name: state[key] for name, key in zip(names, nameless, strict=True)}


def convolutions() -> list[str]:
    """The backbone's, by name, in the order in which they are used."""
    names = ["conv1"]
    for stage in range(len(WIDTHS)):
        for block in range(DEPTH):
            place = f"layer{stage + 1}.{block}"
            names += [f"{place}.conv1", f"{place}.conv2"]
            if stage and not block:
                names.append(f"{place}.downsample.0")
    return names


class NanoEncoder(nn.Module):
    """B x 3 x 1024 x 1024 -> B x 256 x 64 x 64."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = ResNet()
        self.up_1 = nn.Sequential(
            nn.Conv2d(WIDTHS[-1], WIDTH, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
            nn.GELU(),
            nn.ConvTranspose2d(WIDTH, WIDTH, 3, 2, padding=1, output_padding=1),
            nn.GELU(),
        )
        self.proj = nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.GELU(), nn.Conv2d(WIDTH, WIDTH, 1))
        self.pos_embedding = nn.Parameter(torch.zeros(1, WIDTH, 64, 64))

    def forward(self, pixels: Tensor) -> Tensor:
        x: Tensor = self.proj(self.up_1(self.backbone(pixels)))
        return x + self.pos_embedding


class ResNet(nn.Module):
    """B x 3 x S x S -> B x 512 x S/32 x S/32."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 7, 2, padding=3, bias=False)
        self.bn1: nn.Module = nn.BatchNorm2d(WIDTHS[0], eps=TORCH_EPS)
        inputs = WIDTHS[0]
        for stage, width in enumerate(WIDTHS):
            blocks = [Block(inputs if i == 0 else width, width, 2 if stage and i == 0 else 1) for i in range(DEPTH)]
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
            inputs = width

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, padding=1)
        for stage in range(len(WIDTHS)):
            x = self.get_submodule(f"layer{stage + 1}")(x)
        return x

    def fold_norm(self) -> None:
        """Put the norm's statistics into the convolution, for inference. Does nothing the second time."""
        self.conv1, self.bn1 = folded(self.conv1, self.bn1)


class Block(nn.Module):
    """Two 3x3 convolutions beside the input, which a 1x1 convolution brings to their width and grid."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1: nn.Module = nn.BatchNorm2d(outputs, eps=TORCH_EPS)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2: nn.Module = nn.BatchNorm2d(outputs, eps=TORCH_EPS)
        self.downsample: nn.Sequential | None = None
        if stride > 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs, eps=TORCH_EPS)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))

    def fold_norm(self) -> None:
        """Put the norms' statistics into the convolutions, for inference. Does nothing the second time."""
        self.conv1, self.bn1 = folded(self.conv1, self.bn1)
        self.conv2, self.bn2 = folded(self.conv2, self.bn2)
        if self.downsample is not None:
            self.downsample = nn.Sequential(*folded(*self.downsample))


def folded(conv: nn.Module, norm: nn.Module) -> tuple[nn.Conv2d, nn.Module]:
    """A convolution that does the norm's work as well, and what takes the norm's place."""
    assert isinstance(conv, nn.Conv2d)
    if isinstance(norm, nn.BatchNorm2d):
        conv, norm = nn.utils.fuse_conv_bn_eval(conv.eval(), norm.eval()), nn.Identity()
    return conv, norm
