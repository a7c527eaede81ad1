"""TinySAM's hierarchical strategy (arXiv 2312.13789, section 3.3): ask where nothing confident has been found yet."""

from __future__ import annotations

from functools import partial

import numpy as np

from pipelines.everything.config import HierarchicalConfig
from pipelines.everything.crops import Crop, clicks, points_per_side
from pipelines.everything.funnel import Funnel
from pipelines.everything.grid import ask_clicks, passing, search
from pipelines.everything.instances import join
from pipelines.everything.job import SearchJob
from pipelines.sam import SamConfig
from pipelines.sam.predictor import SamPredictor
from pipelines.types import Image, Instances

COARSER = 4
"""The first grid has so many times fewer clicks on a side."""


def hierarchical(sam: SamConfig, config: HierarchicalConfig, *, offline: bool | None) -> SearchJob:
    """The masks of a coarse grid, and those that the full grid finds outside them."""
    return SearchJob(sam.build(offline=offline), partial(search, config=config, ask=ask_hierarchical))


def ask_hierarchical(
    sam: SamPredictor, crop: Crop, image: Image, config: HierarchicalConfig, funnel: Funnel
) -> Instances:
    """The masks of both rounds in one crop, together."""
    side = points_per_side(crop, config)
    dense = clicks(crop, side)
    columns, rows = dense.T.astype(np.int64)
    inside = np.zeros(len(dense), np.bool_)
    found = []
    for part, low_res in passing(sam, clicks(crop, side // COARSER), crop, image, config, funnel):
        found.append(part)
        inside |= (sam.upscaler.at(low_res, rows, columns) > config.high_score_thresh).any(0).cpu().numpy()
    return join([*found, ask_clicks(sam, dense[~inside], crop, image, config, funnel)])
