"""MobileSAM's and TinySAM's image encoder (arXiv 2306.14289, 2312.13789): TinyViT-5M (arXiv 2207.10666), SAM's neck.

Module names are those of the official checkpoints, https://github.com/ChaoningZhang/MobileSAM.

Shapes: B images, C channels, H x W the stage's grid; W windows of S x S places, heads of 32 channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.sam.encoders.vit import neck
from pipelines.sam.layers import TORCH_EPS, ConvBatchNorm, RowNorm
from pipelines.sam.mask_decoder import MaskDecoder
from pipelines.sam.model import Sam, without

HEAD_WIDTH = 32
EARLY = 1
"""The stage whose output is an early feature."""
UNUSED = ("image_encoder.head.", "image_encoder.norm_head.")
"""Of the classifier that the encoder was before; the official files hold them still."""


@dataclass(frozen=True)
class TinyVit:
    """Per stage: width, depth, window; the first stage has convolutions alone. strides: at the ends of the others."""

    widths: tuple[int, ...] = (64, 128, 160, 320)
    depths: tuple[int, ...] = (2, 2, 6, 2)
    windows: tuple[int, ...] = (0, 7, 14, 7)
    strides: tuple[int, ...] = (2, 2, 1)


CONFIGS = {"5m": TinyVit()}


@dataclass(frozen=True)
class Architecture:
    """A row of CONFIGS."""

    config: str

    def build(self) -> Sam:
        """A freshly initialised, trainable network."""
        encoder = TinyVitEncoder(CONFIGS[self.config])
        return Sam(encoder, 1024, multiple=32, mask_decoder=MaskDecoder(TORCH_EPS), from_checkpoint=without(*UNUSED))


class TinyVitEncoder(nn.Module):
    """B x 3 x 16G x 16G -> B x 256 x G x G."""

    def __init__(self, config: TinyVit) -> None:
        super().__init__()
        first = config.widths[0]
        self.patch_embed = PatchEmbed(first)
        self.layers = nn.ModuleList(
            Stage(
                [MbConv(width) if window == 0 else Block(width, window) for _ in range(depth)],
                MergePatches(width, config.widths[i + 1], config.strides[i]) if i < len(config.strides) else None,
            )
            for i, (width, depth, window) in enumerate(zip(config.widths, config.depths, config.windows, strict=True))
        )
        self.neck = neck(config.widths[-1])

    def forward(self, pixels: Tensor) -> Tensor:
        return self.with_early(pixels)[0]

    def with_early(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The embedding, and what the second stage gives: B x 160 x G x G."""
        x = early = self.patch_embed(pixels)
        for i, stage in enumerate(self.layers):
            x = stage(x)
            if i == EARLY:
                early = x
        return self.neck(x), early


class PatchEmbed(nn.Module):
    """Two convolutions of stride 2."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(ConvBatchNorm(3, width // 2, 3, 2), nn.GELU(), ConvBatchNorm(width // 2, width, 3, 2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.seq(x)
        return x


class Stage(nn.Module):
    """Blocks on one grid, then the step to the next stage's."""

    def __init__(self, blocks: list[nn.Module], downsample: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x if self.downsample is None else self.downsample(x)


class MbConv(nn.Module):
    """Inverted bottleneck; its last activation follows the sum."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = ConvBatchNorm(width, 4 * width)
        self.conv2 = ConvBatchNorm(4 * width, 4 * width, 3, groups=4 * width)
        self.conv3 = ConvBatchNorm(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x + self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x))))))


class MergePatches(nn.Module):
    """To the next stage's width and grid."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvBatchNorm(inputs, outputs)
        self.conv2 = ConvBatchNorm(outputs, outputs, 3, stride, groups=outputs)
        self.conv3 = ConvBatchNorm(outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))
        return x


class Block(nn.Module):
    """Attention in windows, a depthwise convolution, a feed-forward block."""

    def __init__(self, width: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.attn = Attention(width, window)
        self.local_conv = ConvBatchNorm(width, width, 3, groups=width)
        self.mlp = Mlp(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        x = self.local_conv((x + self._in_windows(x)).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return (x + self.mlp(x)).permute(0, 3, 1, 2)

    def _in_windows(self, x: Tensor) -> Tensor:
        """Zero-padded at right and bottom before the norm, so padding is attended to as the norm's bias."""
        grid, window = x.shape[1], self.window
        across = -(-grid // window)
        missing = across * window - grid
        x = F.pad(x, (0, 0, 0, missing, 0, missing))
        windows = x.reshape(x.shape[0], across, window, across, window, -1).transpose(2, 3)
        windows = self.attn(windows.flatten(3, 4).flatten(0, 2))
        windows = windows.reshape(x.shape[0], across, across, window, window, -1).transpose(2, 3)
        return windows.reshape(x.shape)[:, :grid, :grid]


class Attention(nn.Module):
    """Self-attention in W x SS x C, with a bias by how far apart two places are in rows and in columns."""

    def __init__(self, width: int, window: int) -> None:
        super().__init__()
        self.heads = width // HEAD_WIDTH
        self.norm = RowNorm(width, TORCH_EPS)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.attention_biases = nn.Parameter(torch.zeros(self.heads, window * window))
        self.window = window

    def forward(self, x: Tensor) -> Tensor:
        heads = self.qkv(self.norm(x)).unflatten(-1, (self.heads, 3 * HEAD_WIDTH)).transpose(1, 2)
        q, k, v = heads.split(HEAD_WIDTH, dim=-1)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=self._bias()[None])
        return self.proj(out.transpose(1, 2).flatten(2))

    def _bias(self) -> Tensor:
        """Heads x SS x SS."""
        place = torch.arange(self.window, device=self.attention_biases.device)
        apart = (place[:, None] - place).abs()
        rows, columns = apart[:, None, :, None] * self.window, apart[None, :, None, :]
        return self.attention_biases[:, (rows + columns).flatten(2).flatten(0, 1)]


class Mlp(nn.Module):
    """The feed-forward block, with its norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = RowNorm(width, TORCH_EPS)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc2(F.gelu(self.fc1(self.norm(x))))
        return x
