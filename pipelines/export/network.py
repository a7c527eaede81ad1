"""A network of two exported graphs, whatever runs them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pipelines.errors import UsageError
from pipelines.sam.conventions import SAM, Conventions
from pipelines.sam.model import Features
from pipelines.sam.network import Prompts

Graph = Callable[..., list[Tensor]]
"""Takes the inputs of one graph, float32 tensors on the device, by position; gives its outputs so."""

CORNERS = (2.0, 3.0)
PADDING = -1.0


@dataclass(frozen=True)
class GraphNetwork:
    """encoder, decoder: see `pipelines.export.graphs`."""

    encoder: Graph
    decoder: Graph
    input_size: int
    device: torch.device
    most_prompts: int | None = None
    conventions: Conventions = SAM
    prompt_sizes: ClassVar[Sequence[int]] = ()

    def encode(self, pixels: Tensor) -> Features:
        return tuple(self.encoder(pixels.contiguous().to(self.device)))

    def images(self, features: Features) -> GraphImages:
        return GraphImages(self.decoder, features)


@dataclass(frozen=True)
class GraphImages:
    """Features of images, and the graph that reads those of one at a time."""

    decoder: Graph
    features: Features

    def decode(self, prompts: Prompts) -> GraphDecoded:
        parts = [
            self.decoder(*(each[i][None] for each in self.features), *as_points(part)) for i, part in prompts.by_image()
        ]
        return GraphDecoded(*map(torch.cat, zip(*parts, strict=True)))


@dataclass(frozen=True)
class GraphDecoded:
    """The graph's outputs: low_res N x 4 x 256 x 256 logits, iou N x 4."""

    low_res: Tensor
    iou: Tensor

    def take(self, prompts: Tensor) -> GraphDecoded:
        return GraphDecoded(self.low_res[prompts], self.iou[prompts])

    def masks(self, which: Tensor) -> Tensor:
        return self.low_res[torch.arange(len(which), device=which.device)[:, None], which]


def as_points(prompts: Prompts) -> tuple[Tensor, Tensor]:
    """Coordinates N x P x 2 and labels N x P: clicks, then the corners of boxes, or else a padding point."""
    if prompts.masks is not None:
        raise UsageError("an exported graph takes no mask prompts, as the published exports do: use the torch back end")
    coords, labels = [], []
    if prompts.points is not None and prompts.labels is not None:
        coords.append(prompts.points)
        labels.append(prompts.labels)
    if prompts.boxes is not None:
        coords.append(prompts.boxes.reshape(-1, 2, 2))
        labels.append(prompts.boxes.new_tensor([CORNERS]).expand(len(prompts), -1))
    else:
        coords.append(coords[0].new_zeros(len(prompts), 1, 2))
        labels.append(coords[0].new_full((len(prompts), 1), PADDING))
    return torch.cat(coords, 1).contiguous(), torch.cat(labels, 1).contiguous()
