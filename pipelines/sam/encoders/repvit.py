"""RepViT-SAM's image encoder (arXiv 2312.05760): RepViT-M2.3 (arXiv 2307.09283) and SAM's neck; and EdgeSAM's (arXiv
2312.06660): RepViT-M1, whose last two levels are fused.

Module names are those of the official checkpoints, https://github.com/THU-MIG/RepViT and
https://github.com/chongzhou96/EdgeSAM. What has branches in training is one convolution in inference: see
`Mixer.fold_norm`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.sam.choice import EVERY, SINGLE, MaskChoice, by_stability
from pipelines.sam.conventions import SAM, Conventions
from pipelines.sam.encoders.vit import WIDTH, neck
from pipelines.sam.layers import TORCH_EPS, ConvBatchNorm, OpList, resize
from pipelines.sam.mask_decoder import MaskDecoder
from pipelines.sam.model import Sam


@dataclass(frozen=True)
class RepVit:
    """Per stage: width and number of blocks, of which all but the first stage's first change the width. strides: of
    the changes. sum_norm: whether a `Mixer` has a norm of its sum. fused: whether the neck sees the last two stages.
    """

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    strides: tuple[int, ...]
    sum_norm: bool = True
    fused: bool = False
    conventions: Conventions = SAM


EDGE = Conventions(choice=MaskChoice(boxes=SINGLE, clicks=EVERY, rank=by_stability))
"""EdgeSAM was not taught to predict IoUs. The choice is that of its authors' demo; their search for everything looks at
tokens 1 to 3."""

CONFIGS = {
    "m2.3": RepVit(widths=(80, 160, 320, 640), depths=(7, 8, 36, 3), strides=(2, 2, 1)),
    "edge": RepVit(
        widths=(48, 96, 192, 384),
        depths=(3, 4, 16, 3),
        strides=(2, 2, 2),
        sum_norm=False,
        fused=True,
        conventions=EDGE,
    ),
}


@dataclass(frozen=True)
class Architecture:
    """A row of CONFIGS."""

    config: str

    def build(self) -> Sam:
        """A freshly initialised, trainable network."""
        config = CONFIGS[self.config]
        encoder = FusedRepVitEncoder(config) if config.fused else RepVitEncoder(config)
        return Sam(encoder, 1024, multiple=32, mask_decoder=MaskDecoder(TORCH_EPS), conventions=config.conventions)


class RepVitEncoder(nn.Module):
    """B x 3 x 16G x 16G -> B x 256 x G x G."""

    def __init__(self, config: RepVit) -> None:
        super().__init__()
        width = config.widths[0]
        stem = nn.Sequential(ConvBatchNorm(3, width // 2, 3, 2), nn.GELU(), ConvBatchNorm(width // 2, width, 3, 2))
        blocks: list[nn.Module] = [stem]
        for stage, (outputs, depth) in enumerate(zip(config.widths, config.depths, strict=True)):
            if stage:
                blocks.append(Block(Change(width, outputs, config.strides[stage - 1]), outputs))
            width = outputs
            # every other block squeezes; a stage's last does not
            stays = depth - (stage > 0)
            blocks += [Block(Stay(config, width, squeeze=i % 2 == 0 and i < stays - 1), width) for i in range(stays)]
        self.features = nn.ModuleList(blocks)
        self.neck = neck(width)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.features:
            x = block(x)
        return self.neck(x)


class FusedRepVitEncoder(RepVitEncoder):
    """As RepVitEncoder, but the neck sees the sum of the last two stages, the last one's scaled up."""

    def __init__(self, config: RepVit) -> None:
        super().__init__(config)
        self.last = config.depths[-1]
        self.fuse_stage2 = nn.Conv2d(config.widths[-2], WIDTH, 1, bias=False)
        self.fuse_stage3 = OpList(nn.Conv2d(config.widths[-1], WIDTH, 1, bias=False))
        self.neck = neck(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.features[: -self.last]:
            x = block(x)
        finer = self.fuse_stage2(x)
        for block in self.features[-self.last :]:
            x = block(x)
        return self.neck(finer + resize(self.fuse_stage3(x), finer.shape[-1]))


class Block(nn.Module):
    """Mixes places, then channels."""

    def __init__(self, token_mixer: nn.Module, width: int) -> None:
        super().__init__()
        self.token_mixer = token_mixer
        self.channel_mixer = ChannelMixer(width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.token_mixer(x)
        return x + self.channel_mixer(x)


class ChannelMixer(nn.Module):
    """The feed-forward block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.m = nn.Sequential(ConvBatchNorm(width, 2 * width), nn.GELU(), ConvBatchNorm(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = self.m(x)
        return x


class Change(nn.Sequential):
    """To another width and grid."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__(
            ConvBatchNorm(inputs, inputs, 3, stride, groups=inputs), nn.Identity(), ConvBatchNorm(inputs, outputs)
        )


class Stay(nn.Sequential):
    """Mixes places on the same grid."""

    def __init__(self, config: RepVit, width: int, *, squeeze: bool) -> None:
        mixer = Mixer(width, sum_norm=config.sum_norm)
        super().__init__(mixer, SqueezeExcite(width) if squeeze else nn.Identity())


class Mixer(nn.Module):
    """Depthwise convolutions 3x3 and 1x1 beside the identity, and a norm of their sum, or one of each; folded, one
    convolution."""

    def __init__(self, width: int, *, sum_norm: bool) -> None:
        super().__init__()
        self.conv = ConvBatchNorm(width, width, 3, groups=width)
        self.conv1: nn.Conv2d | ConvBatchNorm | None
        self.conv1 = nn.Conv2d(width, width, 1, groups=width) if sum_norm else ConvBatchNorm(width, width, groups=width)
        self.bn = nn.BatchNorm2d(width, eps=TORCH_EPS) if sum_norm else None

    def forward(self, x: Tensor) -> Tensor:
        if self.conv1 is None:
            return self.conv(x)
        x = self.conv(x) + self.conv1(x) + x
        return x if self.bn is None else self.bn(x)

    def fold_norm(self) -> None:
        """One 3x3 depthwise convolution for all. Does nothing the second time."""
        if self.conv1 is None:
            return
        for branch in (self.conv, self.conv1):
            if isinstance(branch, ConvBatchNorm):
                branch.fold_norm()
        conv, point = self.conv.c, self.conv1.c if isinstance(self.conv1, ConvBatchNorm) else self.conv1
        assert conv.bias is not None and point.bias is not None
        with torch.no_grad():
            conv.weight += F.pad(point.weight + 1, (1, 1, 1, 1))
            conv.bias += point.bias
        self.conv.c = conv if self.bn is None else nn.utils.fuse_conv_bn_eval(conv, self.bn.eval())
        self.conv1 = self.bn = None


class SqueezeExcite(nn.Module):
    """Channels weighted by what the whole image says of them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        squeezed = 8 * int(width / 32 + 0.5)
        self.fc1 = nn.Conv2d(width, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(3, keepdim=True).mean(2, keepdim=True)  # at once, ONNX Runtime rounds a sum of 65 536 numbers
        return x * self.fc2(F.relu(self.fc1(mean))).sigmoid()
