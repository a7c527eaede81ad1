"""A small crop that stands for a part of the network's whole input.

Taken for the whole input, a crop of half the side teaches the decoder boxes at half of their resolution: its 32 x 32
embedding is told to lie where 64 x 64 will. As a window it has the positions of 32 x 32 of the 64 x 64 cells,
and its prompts go there too: what is learnt is what the whole input needs, at a quarter of the price.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pipelines.sam.prompt_encoder import PROMPT_SIDE

CELLS = 64
"""A side of the whole input's image embedding."""


@dataclass(frozen=True)
class Window:
    """left, top, side: cells of the whole input's embedding that the crop's embedding takes."""

    left: int = 0
    top: int = 0
    side: int = CELLS

    def positions(self, dense_pe: Tensor) -> Tensor:
        """The positional encoding of all cells, CELLS^2 x C row by row -> of the window's, side^2 x C."""
        cells = dense_pe.unflatten(0, (CELLS, CELLS))
        return cells[self.top : self.top + self.side, self.left : self.left + self.side].flatten(0, 1)

    def place(self, coordinates: Tensor) -> Tensor:
        """... x (x, y) or (x, y, x, y) of the crop, as wide as the 1024 frame -> of the whole input in that frame.

        The prompt encoder adds half a pixel on either side of this.
        """
        corner = coordinates.new_tensor([self.left, self.top]).repeat(coordinates.shape[-1] // 2) * (
            PROMPT_SIDE / CELLS
        )
        return (coordinates + 0.5) * (self.side / CELLS) + corner - 0.5


def draw_window(side: int, generator: torch.Generator) -> Window:
    """A window of `side` x `side` cells anywhere."""
    where = torch.randint(CELLS - side + 1, (2,), generator=generator, device=generator.device)
    left, top = where.tolist()
    return Window(left, top, side)
