"""TinySAM's hierarchical strategy (arXiv 2312.13789, section 3.3): ask where nothing confident has been found yet."""

from __future__ import annotations

import numpy as np

from pipelines.everything.clicks import ask_clicks, passing
from pipelines.everything.config import HierarchicalConfig
from pipelines.everything.crops import Crop, clicks, points_per_side
from pipelines.everything.funnel import Funnel
from pipelines.everything.grid import ask_grid
from pipelines.everything.instances import join
from pipelines.everything.search import Part, SearchJob, search_job
from pipelines.sam import SamConfig
from pipelines.types import Float32, Instances

COARSER = 4
"""The first grid has so many times fewer clicks on a side."""
OFFSETS = np.array(
    [(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1) if (x, y) != (0, 0)]
    + [(2, -1), (2, 0), (2, 1), (-1, 2), (0, 2), (1, 2), (2, 2)]
)
"""From a click of the first grid to those around it, (x, y) in steps of the full grid, in TinySAM's order."""


def hierarchical(sam: SamConfig, config: HierarchicalConfig, *, offline: bool | None) -> SearchJob:
    """The masks of a coarse grid, and those that finer clicks find outside them."""
    return search_job(sam.build(offline=offline), config, ask_hierarchical)


def ask_hierarchical(part: Part, config: HierarchicalConfig, funnel: Funnel) -> Instances:
    """The masks of both rounds in one crop, together. Of equal masks the earlier stays: in TinySAM's code, of the
    second round."""
    side = points_per_side(part.crop, config)
    if side < COARSER:
        return ask_grid(part, config, funnel)
    coarse = clicks(part.crop, side // COARSER)
    fine = clicks(part.crop, side) if config.second_pass == "grid" else around(coarse, part.crop, side)
    columns, rows = fine.T.astype(np.int64)
    inside = np.zeros(len(fine), np.bool_)
    first, upscaler = [], part.encoded.upscaler
    for some, low_res in passing(coarse, part, config, funnel):
        first.append(some)
        if len(some):
            inside |= (upscaler.logits_at(low_res, rows, columns) > config.high_score_thresh).any(0).cpu().numpy()
    second = ask_clicks(fine[~inside], part, config, funnel)
    return join([*first, second] if config.second_pass == "grid" else [second, *first])


def around(coarse: Float32, crop: Crop, per_side: int) -> Float32:
    """The clicks around each of a coarse grid's in whole steps of the full grid's, as TinySAM's code has them: N x 2
    (x, y) pixels of the crop. Steps are cut to whole pixels, so that some lie just inside the far borders.
    """
    size = np.array([crop.x1 - crop.x0, crop.y1 - crop.y0])
    places = coarse[:, None] + OFFSETS * (size // per_side)
    within = ((OFFSETS < 2) | (places < size)).all(-1)
    found: Float32 = places[within].astype(np.float32)
    return found
