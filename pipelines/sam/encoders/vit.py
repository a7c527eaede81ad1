"""SAM's own image encoder (arXiv 2304.02643, appendix A), a plain vision transformer with windows, after ViTDet; and
SlimSAM's (arXiv 2312.05284): SAM ViT-B with fewer channels.

Module names are those of the official checkpoints, https://github.com/facebookresearch/segment-anything.

Shapes: B images, G x G patches in each, C channels, W windows (or whole images) of S x S patches, H heads of width D.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.sam.layers import EPS, TORCH_EPS, ChannelNorm, RowNorm
from pipelines.sam.mask_decoder import MaskDecoder
from pipelines.sam.model import Sam


@dataclass(frozen=True)
class Vit:
    """width, depth, heads: of the transformer. whole: the blocks that attend to the whole image, not to windows.

    hidden: of the feed-forward blocks; None: four times the width. relative: whether attention has a bias by distance.
    """

    width: int
    depth: int
    heads: int
    whole: tuple[int, ...]
    hidden: int | None = None
    relative: bool = True
    window: int = 14
    patch: int = 16
    grid: int = 64


CONFIGS = {
    "b": Vit(width=768, depth=12, heads=12, whole=(2, 5, 8, 11)),
    "l": Vit(width=1024, depth=24, heads=16, whole=(5, 11, 17, 23)),
    "slim-50": Vit(width=384, depth=12, heads=12, whole=(2, 5, 8, 11)),
    "slim-77": Vit(width=168, depth=12, heads=12, whole=(2, 5, 8, 11), hidden=696),
    "h": Vit(width=1280, depth=32, heads=16, whole=(7, 15, 23, 31)),
}

WIDTH = 256
"""Of the image embedding."""


@dataclass(frozen=True)
class Architecture:
    """A row of CONFIGS."""

    config: str

    def build(self) -> Sam:
        """A freshly initialised, trainable network."""
        config = CONFIGS[self.config]
        return Sam(
            VitEncoder(config),
            config.grid * config.patch,
            mask_decoder=MaskDecoder(TORCH_EPS),
            from_checkpoint=official,
        )


HUB = (
    (r"^vision_encoder\.layers\.(\d+)\.layer_norm", r"image_encoder.blocks.\1.norm"),
    (r"^vision_encoder\.layers\.", "image_encoder.blocks."),
    (r"^vision_encoder\.patch_embed\.projection", "image_encoder.patch_embed.proj"),
    (r"^vision_encoder\.neck\.conv1", "image_encoder.neck.0"),
    (r"^vision_encoder\.neck\.layer_norm1", "image_encoder.neck.1"),
    (r"^vision_encoder\.neck\.conv2", "image_encoder.neck.2"),
    (r"^vision_encoder\.neck\.layer_norm2", "image_encoder.neck.3"),
    (r"^vision_encoder\.", "image_encoder."),
    (r"^shared_image_embedding\.positional_", "prompt_encoder.pe_layer.positional_"),
    (r"pe_layer\.positional_embedding$", "pe_layer.positional_encoding_gaussian_matrix"),
    (r"\.point_embed\.", ".point_embeddings."),
    (r"\.mask_embed\.conv1", ".mask_downscaling.0"),
    (r"\.mask_embed\.layer_norm1", ".mask_downscaling.1"),
    (r"\.mask_embed\.conv2", ".mask_downscaling.3"),
    (r"\.mask_embed\.layer_norm2", ".mask_downscaling.4"),
    (r"\.mask_embed\.conv3", ".mask_downscaling.6"),
    (r"\.upscale_conv1", ".output_upscaling.0"),
    (r"\.upscale_layer_norm", ".output_upscaling.1"),
    (r"\.upscale_conv2", ".output_upscaling.3"),
    (r"\.layer_norm_final_attn", ".norm_final_attn"),
    (r"\.layer_norm(\d)", r".norm\1"),
    (r"(mlps\.\d|head)\.layers\.0", r"\1.layers.1"),
    (r"\.proj_in", ".layers.0"),
    (r"\.proj_out", ".layers.2"),
)
"""From the names of files for transformers, as SlimSAM's are, to those of the official checkpoints of SAM."""
TIED = "prompt_encoder.shared_embedding.positional_embedding"
"""A second name in those files, or in none, of the positional encoding."""


def official(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """SAM's own names for those of either kind of file."""
    if not any(key.startswith("vision_encoder.") for key in state):
        return dict(state)
    named = {}
    for key in state.keys() - {TIED}:
        name = key
        for pattern, replacement in HUB:
            name = re.sub(pattern, replacement, name)
        named[name] = state[key]
    return named


class VitEncoder(nn.Module):
    """B x 3 x 16G x 16G -> B x 256 x G x G."""

    def __init__(self, config: Vit) -> None:
        super().__init__()
        self.early = config.whole[0]
        self.pos_embed = nn.Parameter(torch.zeros(1, config.grid, config.grid, config.width))
        self.patch_embed = PatchEmbed(config.width, config.patch)
        self.blocks = nn.ModuleList(
            Block(config, None if i in config.whole else config.window) for i in range(config.depth)
        )
        self.neck = neck(config.width)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.with_early(pixels)[0]

    def positions(self) -> Tensor:
        """1 x G x G x C, or for one after the other."""
        return self.pos_embed

    def with_early(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The embedding, and what the first block that attends to the whole image gives: B x C x G x G."""
        x = self.patch_embed(pixels) + self.positions()
        early = x
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i == self.early:
                early = x
        return self.neck(x.permute(0, 3, 1, 2)), early.permute(0, 3, 1, 2)


def neck(width: int) -> nn.Sequential:
    """From the encoder's width to the embedding's."""
    return nn.Sequential(
        nn.Conv2d(width, WIDTH, 1, bias=False),
        ChannelNorm(WIDTH),
        nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False),
        ChannelNorm(WIDTH),
    )


class PatchEmbed(nn.Module):
    """Patches to vectors: B x G x G x C."""

    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, patch)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.proj(pixels).permute(0, 2, 3, 1)


class Block(nn.Module):
    """Attention, in windows of `window` patches a side or (None) in the whole image, then a feed-forward block."""

    def __init__(self, config: Vit, window: int | None) -> None:
        super().__init__()
        width = config.width
        self.window = window
        self.norm1 = RowNorm(width, EPS)
        side = window or config.grid
        self.attn = Attention(width, config.heads, side) if config.relative else PlainAttention(width, config.heads)
        self.norm2 = RowNorm(width, EPS)
        self.mlp = Mlp(width, config.hidden or 4 * width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + (self.attn(y) if self.window is None else self._in_windows(y, self.window))
        return x + self.mlp(self.norm2(x))

    def _in_windows(self, x: Tensor, window: int) -> Tensor:
        batch, grid, _, width = x.shape
        across = -(-grid // window)
        missing = across * window - grid
        x = F.pad(x, (0, 0, 0, missing, 0, missing))
        windows = x.reshape(batch, across, window, across, window, width).transpose(2, 3).flatten(0, 2)
        windows = self.attn(windows).reshape(batch, across, across, window, window, width).transpose(2, 3)
        return windows.reshape(x.shape)[:, :grid, :grid]


class PlainAttention(nn.Module):
    """Self-attention in W x S x S x C."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x).flatten(1, 2).unflatten(-1, (3, self.heads, -1))  # W x SS x 3 x H x D
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        return self.proj(self.attend(q, k, v, x.shape[1]).transpose(1, 2).reshape(x.shape))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, side: int) -> Tensor:
        """W x H x SS x D each -> W x H x SS x D."""
        return F.scaled_dot_product_attention(q, k, v)


class Attention(PlainAttention):
    """As PlainAttention, with a bias by how far apart two patches are in rows and in columns.

    In training it is added to the logits as published: W x H x SS x SS, larger than all other tensors. In inference the
    2 S numbers that it is the sums of are further channels of each query, and keys have a one at their row and a one at
    their column: whatever fuses attention adds it as it goes along, and it is never there in full.
    """

    def __init__(self, width: int, heads: int, side: int) -> None:
        super().__init__(width, heads)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * side - 1, width // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * side - 1, width // heads))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, side: int) -> Tensor:
        rows, columns = self.biases(q, side)
        if self.training:
            bias = (rows[..., :, None] + columns[..., None, :]).flatten(3)
            return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        width = q.shape[-1]
        one = torch.eye(side, dtype=q.dtype, device=q.device)
        ones = torch.cat([one.repeat_interleave(side, 0), one.repeat(side, 1)], 1).expand(*k.shape[:2], -1, -1)
        q = torch.cat([q, rows * width**0.5, columns * width**0.5], 3)  # the logits' scale takes it back
        k = torch.cat([k, ones], 3)
        if not torch.compiler.is_exporting():  # what fuses attention here wants all three alike
            v = F.pad(v, (0, 2 * side))
        return F.scaled_dot_product_attention(q, k, v, scale=width**-0.5)[..., :width]

    def biases(self, q: Tensor, side: int) -> tuple[Tensor, Tensor]:
        """Queries times the vectors of the distances to each row, and to each column: W x H x SS x S."""
        place = torch.arange(side, device=q.device)
        distance = place[:, None] - place + side - 1  # query's x key's
        grid = q.unflatten(2, (side, side))
        rows = torch.einsum("whijd,ikd->whijk", grid, self.rel_pos_h[distance])
        columns = torch.einsum("whijd,jkd->whijk", grid, self.rel_pos_w[distance])
        return rows.flatten(2, 3), columns.flatten(2, 3)


class Mlp(nn.Module):
    """The feed-forward block."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.lin1 = nn.Linear(width, hidden)
        self.lin2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.lin2(F.gelu(self.lin1(x)))
        return x
