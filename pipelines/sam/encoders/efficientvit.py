"""EfficientViT-SAM's image encoders (arXiv 2402.05008, section 3): an EfficientViT backbone and the SAM neck.

Module names are those of the official checkpoints, https://huggingface.co/mit-han-lab/efficientvit-sam.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

from pipelines.sam.layers import (
    AttentionBlock,
    Block,
    ChannelNorm,
    ConvNorm,
    DSConv,
    FusedMBConv,
    MBConv,
    OpList,
    ResConv,
    gelu,
    resize,
)
from pipelines.sam.model import Sam


@dataclass(frozen=True)
class Large:
    """EfficientViT-L / -XL backbone. Per stage: width, depth, kind (res, fmb, mb or att) and expand ratio."""

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    kinds: tuple[str, ...]
    expands: tuple[int, ...]
    scales: tuple[int, ...]
    neck_depth: int
    neck_expand: int
    neck_width: int = 256
    head_dim: int = 32

    def backbone(self) -> LargeBackbone:
        return LargeBackbone(self)


@dataclass(frozen=True)
class Small:
    """EfficientViT-B backbone: two convolutional stages, two with attention; hard-swish."""

    widths: tuple[int, ...] = (16, 32, 64, 128, 256)
    depths: tuple[int, ...] = (1, 2, 3, 3, 4)
    expand: int = 4
    scales: tuple[int, ...] = (5,)
    neck_depth: int = 2
    neck_expand: int = 1
    neck_width: int = 128
    head_dim: int = 16

    def backbone(self) -> SmallBackbone:
        return SmallBackbone(self)


def _l(depths: tuple[int, ...], neck_depth: int) -> Large:
    return Large(
        widths=(32, 64, 128, 256, 512),
        depths=depths,
        kinds=("res", "fmb", "fmb", "mb", "att"),
        expands=(1, 4, 4, 4, 6),
        scales=(5,),
        neck_depth=neck_depth,
        neck_expand=1,
    )


def _xl(depths: tuple[int, ...], neck_depth: int) -> Large:
    return Large(
        widths=(32, 64, 128, 256, 512, 1024),
        depths=depths,
        kinds=("res", "fmb", "fmb", "fmb", "att", "att"),
        expands=(1, 4, 4, 4, 4, 6),
        scales=(3,),
        neck_depth=neck_depth,
        neck_expand=4,
    )


CONFIGS: dict[str, Large | Small] = {
    "l0": _l((1, 1, 1, 4, 4), neck_depth=4),
    "l1": _l((1, 1, 1, 6, 6), neck_depth=8),
    "l2": _l((1, 2, 2, 8, 8), neck_depth=12),
    "xl0": _xl((0, 1, 1, 2, 3, 3), neck_depth=6),
    "xl1": _xl((1, 2, 2, 4, 6, 6), neck_depth=12),
    "b1": Small(),
}


@dataclass(frozen=True)
class Architecture:
    """A row of CONFIGS and the side of the encoder's input in pixels."""

    config: str
    input_size: int

    def build(self) -> Sam:
        """A freshly initialised, trainable network."""
        return Sam(EfficientViTEncoder(CONFIGS[self.config], self.input_size), self.input_size, multiple=32)


class LargeBackbone(nn.Module):
    """B x 3 x S x S -> the last three stages' features, deepest first. Stage i works at stride 2 ** (i + 1).

    The first, stride-2 block of a stage multiplies its expand ratio by 4.
    """

    def __init__(self, config: Large) -> None:
        super().__init__()
        stem = ConvNorm(3, config.widths[0], 3, 2, act=gelu)
        body = [Block(ResConv(config.widths[0], gelu)) for _ in range(config.depths[0])]
        self.stages = nn.ModuleList([OpList(stem, *body)])
        for (inputs, width), depth, kind, expand in zip(
            pairwise(config.widths), config.depths[1:], config.kinds[1:], config.expands[1:], strict=True
        ):
            first = FusedMBConv if kind == "fmb" else MBConv
            blocks: list[nn.Module] = [Block(first(inputs, width, expand * 4, 2, gelu), residual=False)]
            for _ in range(depth):
                if kind == "att":
                    blocks.append(AttentionBlock(width, config.head_dim, config.scales, expand, gelu))
                else:
                    blocks.append(Block(first(width, width, expand, 1, gelu)))
            self.stages.append(OpList(*blocks))

    def forward(self, x: Tensor) -> list[Tensor]:
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features[:-4:-1]


class SmallBackbone(nn.Module):
    """B x 3 x S x S -> the last three stages' features, deepest first; strides 8 to 32."""

    def __init__(self, config: Small) -> None:
        super().__init__()
        act = nn.Hardswish
        widths, depths, expand = config.widths, config.depths, config.expand
        body = [Block(DSConv(widths[0], act)) for _ in range(depths[0])]
        self.input_stem = OpList(ConvNorm(3, widths[0], 3, 2, act=act), *body)
        self.stages = nn.ModuleList()
        for index, ((inputs, width), depth) in enumerate(zip(pairwise(widths), depths[1:], strict=True)):
            if index < 2:
                blocks: list[nn.Module] = [
                    Block(
                        MBConv(
                            inputs if i == 0 else width,
                            width,
                            expand,
                            2 if i == 0 else 1,
                            act,
                            fewer_norm=False,
                        ),
                        residual=i > 0,
                    )
                    for i in range(depth)
                ]
            else:
                blocks = [Block(MBConv(inputs, width, expand, 2, act), residual=False)]
                blocks += [AttentionBlock(width, config.head_dim, config.scales, expand, act) for _ in range(depth)]
            self.stages.append(OpList(*blocks))

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.input_stem(x)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features[:-4:-1]


class SamNeck(nn.Module):
    """Three feature maps, deepest first -> one of `grid` x `grid`: projected, resized (bicubic), summed, refined."""

    def __init__(self, inputs: Sequence[int], width: int, depth: int, expand: int) -> None:
        super().__init__()
        self.input_ops = nn.ModuleList(OpList(ConvNorm(channels, width)) for channels in inputs)
        self.middle = OpList(*(Block(FusedMBConv(width, width, expand, 1, gelu)) for _ in range(depth)))
        self.output_ops = nn.ModuleList([OpList(ConvNorm(width, 256, norm=False))])

    def forward(self, features: Sequence[Tensor], grid: int) -> Tensor:
        total: Tensor | None = None
        for feature, project in zip(features, self.input_ops, strict=True):
            x = project(feature)
            if x.shape[-1] != grid:
                x = resize(x, grid)
            total = x if total is None else total + x
        return self.output_ops[0](self.middle(total))


class EfficientViTEncoder(nn.Module):
    """Backbone, neck and channel norm.

    Input: B x 3 x S x S. Output: B x 256 x G x G with G = 64 at the model's own `input_size`; other sizes (training
    on small images) give G = 64 * S / input_size.
    """

    def __init__(self, config: Large | Small, input_size: int) -> None:
        super().__init__()
        self.stride = input_size // 64
        self.backbone = config.backbone()
        self.neck = SamNeck(config.widths[:-4:-1], config.neck_width, config.neck_depth, config.neck_expand)
        self.norm = ChannelNorm(256)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.neck(self.backbone(x), x.shape[-1] // self.stride))
