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
from pipelines.sam.points import PointRule

Graph = Callable[..., list[Tensor]]
"""Takes the inputs of one graph, float32 tensors on the device, by position; gives its outputs so."""


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
        return GraphImages(self.decoder, features, self.conventions.points)


@dataclass(frozen=True)
class GraphImages:
    """Features of images, and the graph that reads those of one at a time."""

    decoder: Graph
    features: Features
    points: PointRule

    def decode(self, prompts: Prompts) -> GraphDecoded:
        parts = [self.decoder(*self._image(i), *self._points(part)) for i, part in prompts.by_image()]
        return GraphDecoded(*map(torch.cat, zip(*parts, strict=True)))

    def _image(self, index: int) -> list[Tensor]:
        return [each[index][None] for each in self.features]

    def _points(self, prompts: Prompts) -> list[Tensor]:
        if prompts.masks is not None:
            raise UsageError(
                "an exported graph takes no mask prompts, as the published exports do: use the torch back end"
            )
        return [part.contiguous() for part in self.points(prompts.points, prompts.labels, prompts.boxes)]


@dataclass(frozen=True)
class GraphDecoded:
    """The graph's outputs: low_res N x 4 x 256 x 256 logits, iou N x 4."""

    low_res: Tensor
    iou: Tensor

    def take(self, prompts: Tensor) -> GraphDecoded:
        return GraphDecoded(self.low_res[prompts], self.iou[prompts])

    def masks(self, which: Tensor) -> Tensor:
        return self.low_res[torch.arange(len(which), device=which.device)[:, None], which]
