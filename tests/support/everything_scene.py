"""What the tests of segmenting everything share: a scene, thresholds that it passes, and the search with them."""

from __future__ import annotations

from functools import partial

import numpy as np

from pipelines.errors import ImageError
from pipelines.everything.config import EdgesConfig, GridConfig
from pipelines.everything.edges import find_edges, no_edges
from pipelines.everything.grid import ask_grid
from pipelines.everything.search import Ask, SearchJob, search_job
from pipelines.run.loop import results_of
from pipelines.run.stages import StageClock
from pipelines.sam.predictor import SamPredictor
from pipelines.types import Image, Instances

RELAXED = GridConfig(points_per_side=3, pred_iou_thresh=0.05, stability_score_thresh=0.3, box_nms_thresh=0.9)
"""Thresholds under which the models of these tests, which are trained little or not at all, find masks."""


def scene_of(photograph: np.ndarray) -> Image:
    """People in front of a bus, 320 x 320."""
    return Image("scene", np.ascontiguousarray(photograph[100:420, 60:380]))


def found_by(
    sam: SamPredictor, image: Image, config: GridConfig, ask: Ask = ask_grid, clock: StageClock | None = None
) -> Instances:
    return found_in(search_job(sam, config, ask), image, clock)


def edges_in(sam: SamPredictor, image: Image, config: EdgesConfig, clock: StageClock | None = None) -> Instances:
    return found_in(SearchJob(sam, partial(find_edges, config=config), no_edges), image, clock)


def found_in(job: SearchJob, image: Image, clock: StageClock | None = None) -> Instances:
    """Raises the ImageError that the job gives."""
    (found,) = results_of(job, [image], clock or StageClock())
    if isinstance(found, ImageError):
        raise found
    return found


def points_of(found: Instances) -> np.ndarray:
    assert found.clicks is not None
    return found.clicks.points
