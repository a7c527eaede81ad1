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

FRAME = 1024
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


class PromptEncoder(nn.Module):
    """Points, boxes and mask prompts to embeddings.

    Point labels: 1 on the object, 0 off it, 2 and 3 a box's top-left and bottom-right corner, -1 padding.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pe_layer = RandomFourier()
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
    def dtype(self) -> torch.dtype:
        return self.no_mask_embed.weight.dtype

    def dense_pe(self, grid: int) -> Tensor:
        """Positional encoding of the grid's cell centres: (grid * grid) x 256, row by row."""
        centres = (torch.arange(grid, device=self.no_mask_embed.weight.device) + 0.5) / grid
        y, x = torch.meshgrid(centres, centres, indexing="ij")
        return self.pe_layer(torch.stack([x, y], dim=-1).reshape(-1, 2)).to(self.dtype)

    def forward(
        self,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
    ) -> EncodedPrompts:
        """points: N x P x 2 and labels: N x P; boxes: N x 4 xyxy; masks: N x 1 x 4G x 4G logits of an earlier round.

        A padding point is added when there are points and no box, as in SAM.
        """
        tokens = [] if masks is None else [self.no_mask_embed.weight.new_zeros(len(masks), 0, 256)]
        if points is not None and labels is not None:
            if boxes is None:
                points = torch.cat([points, points.new_zeros(len(points), 1, 2)], dim=1)
                labels = torch.cat([labels, labels.new_full((len(labels), 1), -1)], dim=1)
            tokens.append(self.embed_points(points, labels))
        if boxes is not None:
            tokens.append(self._embed_boxes(boxes))
        if masks is not None:
            dense = self.mask_downscaling(masks.to(self.dtype))
        else:
            dense = self.no_mask_embed.weight.reshape(1, 256, 1, 1)
        return EncodedPrompts(torch.cat(tokens, dim=1), dense)

    def embed_points(self, points: Tensor, labels: Tensor) -> Tensor:
        """points: N x P x 2, labels: N x P, box corners and padding among them -> N x P x 256."""
        position = self.pe_layer((points + 0.5) / FRAME).to(self.dtype)
        padding = (labels == -1)[..., None]
        position = position.masked_fill(padding, 0.0)
        kinds = torch.cat([self.not_a_point_embed.weight, *self._point_kinds])
        return position + F.embedding(labels.long() + 1, kinds)

    def _embed_boxes(self, boxes: Tensor) -> Tensor:
        corners = self.pe_layer((boxes.reshape(-1, 2, 2) + 0.5) / FRAME).to(self.dtype)
        return corners + torch.cat(self._point_kinds[2:])

    @property
    def _point_kinds(self) -> list[Tensor]:
        return [kind.weight for kind in cast(Iterable[nn.Embedding], self.point_embeddings)]
