"""Where to ask: crops of an image, and the clicks in each (segment-anything, automatic_mask_generator)."""

from __future__ import annotations

from itertools import product
from math import ceil
from typing import NamedTuple

import numpy as np

from pipelines.everything.config import GridConfig
from pipelines.types import Float32


class Crop(NamedTuple):
    """A part of an image, xyxy pixels, and the layer it belongs to: 0 is the whole image."""

    x0: int
    y0: int
    x1: int
    y1: int
    layer: int

    @property
    def area(self) -> int:
        return (self.x1 - self.x0) * (self.y1 - self.y0)


def crops(height: int, width: int, config: GridConfig) -> list[Crop]:
    """The image, and `crop_n_layers` layers of overlapping crops, 2**i on each side in layer i.

    Crops of an image so small that they hold no pixel are left out.
    """
    found = [Crop(0, 0, width, height, 0)]
    for layer in range(1, config.crop_n_layers + 1):
        count = 2**layer
        overlap = int(config.crop_overlap_ratio * min(height, width) * (2 / count))
        w, h = (ceil((overlap * (count - 1) + side) / count) for side in (width, height))
        for column, row in product(range(count), repeat=2):
            x0, y0 = (w - overlap) * column, (h - overlap) * row
            found.append(Crop(x0, y0, min(x0 + w, width), min(y0 + h, height), layer))
    return [crop for crop in found if crop.x0 < crop.x1 and crop.y0 < crop.y1]


def clicks(crop: Crop, per_side: int) -> Float32:
    """The centres of per_side x per_side equal cells of a crop, row by row: N x 2 float32 (x, y) in its own pixels."""
    share = (np.arange(per_side) + 0.5) / per_side
    x, y = np.meshgrid(share * (crop.x1 - crop.x0), share * (crop.y1 - crop.y0))
    return np.stack([x, y], axis=-1).reshape(-1, 2).astype(np.float32)


def points_per_side(crop: Crop, config: GridConfig) -> int:
    """How many clicks a side of a crop gets; 0 in layers that are thinned out to nothing."""
    return int(config.points_per_side / config.crop_n_points_downscale_factor**crop.layer)
