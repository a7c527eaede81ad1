"""SAM's prompt encoder (arXiv 2304.02643, section 3 and appendix A). Coordinates are in the 1024 prompt frame.

Shapes: N prompts, P points each, G the image embedding's grid (64).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.sam.layers import ChannelNorm
from pipelines.sam.points import PADDING, PointRule, padded_without_box

PROMPT_SIDE = 1024
"""Longest side of the frame that prompts live in, whatever the encoder's input size."""


class EncodedPrompts(NamedTuple):
    """sparse: N x T x 256 tokens. dense: N x 256 x G x G from mask prompts, or 1 x 256 x 1 x 1 without."""

    sparse: Tensor
    dense: Tensor


class RandomFourier(nn.Module):
    """Positional encoding by random Fourier features of coordinates in [0, 1]; computed in float32."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, 128))

    def forward(self, coordinates: Tensor) -> Tensor:
        """... x 2 (x, y) in [0, 1] -> ... x 256."""
        with torch.autocast(coordinates.device.type, enabled=False):
            angles = 2 * math.pi * ((2 * coordinates.float() - 1) @ self.positional_encoding_gaussian_matrix.float())
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class PointEncoder(nn.Module):
    """What the prompt encoders of all families share: points to tokens. rule: see `pipelines.sam.points`."""

    def __init__(self, rule: PointRule) -> None:
        super().__init__()
        self.rule = rule
        self.pe_layer = RandomFourier()

    @property
    def dtype(self) -> torch.dtype:
        """Of what is computed; the positional encoding is in float32."""
        return next(self.parameters()).dtype

    @property
    def no_mask(self) -> Tensor:
        """1 x 256 x 1 x 1: what is added to the image embedding where a prompt has no mask."""
        return self.pe_layer.positional_encoding_gaussian_matrix.new_zeros(1, 256, 1, 1, dtype=self.dtype)

    def dense_pe(self, grid: int) -> Tensor:
        """Positional encoding of the grid's cell centres: (grid * grid) x 256, row by row."""
        centres = (torch.arange(grid, device=self.pe_layer.positional_encoding_gaussian_matrix.device) + 0.5) / grid
        y, x = torch.meshgrid(centres, centres, indexing="ij")
        return self.position(torch.stack([x, y], dim=-1).reshape(-1, 2))

    def position(self, coordinates: Tensor) -> Tensor:
        """... x 2 (x, y) in [0, 1] -> ... x 256."""
        return self.pe_layer(coordinates).to(self.dtype)

    def forward(
        self,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
    ) -> EncodedPrompts:
        """points: N x P x 2 and labels: N x P; boxes: N x 4 xyxy; masks: N x 1 x 4G x 4G logits of an earlier round."""
        if points is None and boxes is None:
            assert masks is not None
            sparse = self.no_mask.new_zeros(len(masks), 0, 256)
        else:
            sparse = self.embed_points(*self.rule(points, labels, boxes))
        return EncodedPrompts(sparse, self.no_mask if masks is None else self.embed_masks(masks))

    def embed_points(self, points: Tensor, labels: Tensor) -> Tensor:
        """points: N x P x 2, labels: N x P, box corners and padding among them -> N x P x 256."""
        raise NotImplementedError

    def embed_masks(self, masks: Tensor) -> Tensor:
        """N x 1 x 4G x 4G logits -> N x 256 x G x G. Raises UsageError where the family takes none."""
        raise NotImplementedError


class PromptEncoder(PointEncoder):
    """Points, boxes and mask prompts to embeddings, as SAM does it.

    Point labels: 1 on the object, 0 off it, 2 and 3 a box's top-left and bottom-right corner, -1 padding.
    """

    def __init__(self, rule: PointRule = padded_without_box) -> None:
        super().__init__(rule)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, 256) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, 256)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, 4, 2, 2),
            ChannelNorm(4),
            nn.GELU(),
            nn.Conv2d(4, 16, 2, 2),
            ChannelNorm(16),
            nn.GELU(),
            nn.Conv2d(16, 256, 1),
        )
        self.no_mask_embed = nn.Embedding(1, 256)

    @property
    def no_mask(self) -> Tensor:
        return self.no_mask_embed.weight.reshape(1, 256, 1, 1)

    def embed_points(self, points: Tensor, labels: Tensor) -> Tensor:
        """A padding point has no position."""
        position = self.position((points + 0.5) / PROMPT_SIDE)
        padding = (labels == PADDING)[..., None]
        position = position.masked_fill(padding, 0.0)
        kinds = cast(Iterable[nn.Embedding], self.point_embeddings)
        table = torch.cat([self.not_a_point_embed.weight, *(kind.weight for kind in kinds)])
        return position + F.embedding(labels.long() + 1, table)

    def embed_masks(self, masks: Tensor) -> Tensor:
        embedded: Tensor = self.mask_downscaling(masks.to(self.dtype))
        return embedded
