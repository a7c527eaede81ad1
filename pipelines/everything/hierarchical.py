"""TinySAM's hierarchical strategy (arXiv 2312.13789, section 3.3): ask where nothing confident has been found yet."""

from __future__ import annotations

import numpy as np

from pipelines.everything.clicks import ask_clicks, passing
from pipelines.everything.config import HierarchicalConfig
from pipelines.everything.crops import clicks, points_per_side
from pipelines.everything.funnel import Funnel
from pipelines.everything.instances import join
from pipelines.everything.search import Part, SearchJob, search_job
from pipelines.sam import SamConfig
from pipelines.types import Instances

COARSER = 4
"""The first grid has so many times fewer clicks on a side."""


def hierarchical(sam: SamConfig, config: HierarchicalConfig, *, offline: bool | None) -> SearchJob:
    """The masks of a coarse grid, and those that the full grid finds outside them."""
    return search_job(sam.build(offline=offline), config, ask_hierarchical)


def ask_hierarchical(part: Part, config: HierarchicalConfig, funnel: Funnel) -> Instances:
    """The masks of both rounds in one crop, together."""
    side = points_per_side(part.crop, config)
    dense = clicks(part.crop, side)
    columns, rows = dense.T.astype(np.int64)
    inside = np.zeros(len(dense), np.bool_)
    found, upscaler = [], part.encoded.upscaler
    for some, low_res in passing(clicks(part.crop, side // COARSER), part, config, funnel):
        found.append(some)
        inside |= (upscaler.at(low_res, rows, columns) > config.high_score_thresh).any(0).cpu().numpy()
    return join([*found, ask_clicks(dense[~inside], part, config, funnel)])
