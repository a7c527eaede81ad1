"""Segment everything by a grid of clicks: segment-anything's automatic mask generator, mask for mask.

Reference: arXiv 2304.02643, appendix B, and segment_anything/automatic_mask_generator.py.
"""

from __future__ import annotations

from pipelines.everything.clicks import ask_clicks
from pipelines.everything.config import GridConfig
from pipelines.everything.crops import clicks, points_per_side
from pipelines.everything.funnel import Funnel
from pipelines.everything.search import Part, SearchJob, search_job
from pipelines.sam import SamConfig
from pipelines.types import Instances


def grid(sam: SamConfig, config: GridConfig, *, offline: bool | None) -> SearchJob:
    """All masks that clicks on a grid find, best predicted IoU first."""
    return search_job(sam.build(offline=offline), config, ask_grid)


def ask_grid(part: Part, config: GridConfig, funnel: Funnel) -> Instances:
    """The masks of a grid of clicks in one crop."""
    return ask_clicks(clicks(part.crop, points_per_side(part.crop, config)), part, config, funnel)
