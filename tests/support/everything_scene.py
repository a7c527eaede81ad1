"""What the tests of segmenting everything share: a scene, thresholds that it passes, and the search with them."""

from __future__ import annotations

import numpy as np

from pipelines.everything.config import GridConfig
from pipelines.everything.grid import ask_grid, search
from pipelines.run.stages import StageClock
from pipelines.sam.predictor import SamPredictor
from pipelines.types import Image, Instances

RELAXED = GridConfig(points_per_side=3, pred_iou_thresh=0.05, stability_score_thresh=0.3, box_nms_thresh=0.9)
"""Thresholds under which the models of these tests, which are trained little or not at all, find masks."""


def scene_of(photograph: np.ndarray) -> Image:
    """People in front of a bus, 320 x 320."""
    return Image("scene", np.ascontiguousarray(photograph[100:420, 60:380]))


def found_by(sam: SamPredictor, image: Image, config: GridConfig, ask=ask_grid) -> Instances:
    return search(sam, image, StageClock(), config=config, ask=ask)


def points_of(found: Instances) -> np.ndarray:
    assert found.asked is not None
    return found.asked.points
