"""The strategies beside the grid: hierarchical, objects, edges."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from reference import plain_everything
from support.everything_scene import RELAXED, edges_in, found_by, points_of

from pipelines import rle
from pipelines.detectors import DetectorConfig, build_detector
from pipelines.errors import ImageError
from pipelines.everything import STRATEGIES
from pipelines.everything.config import EdgesConfig, HierarchicalConfig, ObjectsConfig
from pipelines.everything.edges import thin
from pipelines.everything.hierarchical import ask_hierarchical
from pipelines.everything.objects import AnyClass
from pipelines.run import Job
from pipelines.run.loop import results_of
from pipelines.run.stages import StageClock
from pipelines.sam import SamConfig
from pipelines.sam.predictor import SamPredictor
from pipelines.types import Image, Instances


def test_every_strategy_has_a_configuration_and_gives_a_job(scene: Image) -> None:
    small = {"objects": {"imgsz": 96, "conf": 0.01, "max_det": 3}}
    for name, row in STRATEGIES.items():
        assert row.config.strategy == name
        config = row.config(**small.get(name, {"points_per_side": 4}))
        job: Job[Any] = row.load()(SamConfig(), config, offline=True)
        (found,) = results_of(job, [scene], StageClock())
        assert isinstance(found, Instances) and job.categories and job.batch == 1 and job.report() == {}
        assert (found.edges is not None) == (name == "edges")


def test_hierarchical_asks_only_outside_confident_masks(starter: SamPredictor, scene: Image) -> None:
    config = HierarchicalConfig(**{**RELAXED.__dict__, "points_per_side": 4, "box_nms_thresh": 1.0})
    coarse = found_by(starter, scene, replace(config, points_per_side=1))
    dense = found_by(starter, scene, config)
    assert 0 < len(coarse) < len(dense)

    def asked(high_score_thresh: float) -> set[tuple[float, ...]]:
        found = found_by(starter, scene, replace(config, high_score_thresh=high_score_thresh), ask_hierarchical)
        return set(map(tuple, points_of(found).tolist()))

    first, second = (set(map(tuple, points_of(found).tolist())) for found in (coarse, dense))
    assert asked(np.inf) == first | second
    assert asked(-np.inf) == first
    some = asked(0.0)
    assert first < some <= first | second
    covered = np.any([rle.decode(mask) for mask in coarse.rles], axis=0)
    assert {(x, y) for x, y in second if not covered[int(y), int(x)]} == some - first


def test_objects_suppress_boxes_across_classes(scene: Image) -> None:
    detector = build_detector(DetectorConfig(imgsz=192, conf=0.001, iou=1.0, max_det=40))
    apart = AnyClass(detector, 0.5)
    (every,), (found,) = detector([scene]), apart([scene])
    boxes = found.boxes
    assert 0 < len(found) < len(every) and (np.diff(found.scores) <= 0).all()
    overlaps = [plain_everything.box_iou(a, b) for i, a in enumerate(boxes) for b in boxes[:i]]
    assert max(overlaps, default=0) <= 0.5
    assert ObjectsConfig().max_det == 320


def test_edges_run_along_the_borders_of_masks(starter: SamPredictor, scene: Image) -> None:
    found = edges_in(starter, scene, EdgesConfig(points_per_side=4))
    assert found.edges is not None and found.edges.max() == 255 and len(found)
    outer = np.zeros((scene.height, scene.width), bool)
    for code in found.rles:
        mask = np.pad(rle.decode(code), 1)
        neighbours = [np.roll(mask, (dy, dx), (0, 1)) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        outer |= (np.any(neighbours, axis=0) & ~mask)[1:-1, 1:-1]
    assert not found.edges[~outer].any()
    assert 0 < (found.edges > 0).sum() < outer.sum()
    with pytest.raises(ImageError, match="scale it down"):
        edges_in(starter, Image("long", np.eye(1, 40_000, dtype=np.uint8)[..., None].repeat(3, 2)), EdgesConfig())


@pytest.mark.parametrize("angle", [0, 20, 45, 70, 90, 130])
def test_thinning_leaves_the_ridge(angle: float) -> None:
    y, x = np.mgrid[-30:31, -30:31]
    distance = x * np.sin(np.radians(angle)) - y * np.cos(np.radians(angle))
    ridge = np.maximum(1 - np.abs(distance) / 4, 0).astype(np.float32)
    kept = thin(ridge) > 0
    inside = (np.abs(x) < 20) & (np.abs(y) < 20)
    assert (np.abs(distance[kept & inside]) < 1).all()
    assert 35 <= (kept & inside).sum() <= 85  # one or two pixels to each of 39 rows or columns
    flat = np.zeros((5, 5), np.float32)
    assert not thin(flat).any()
