"""Segment everything: `grid` equals the plain formulation, on every size of photograph."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from reference import plain_everything
from support.everything_scene import RELAXED, edges_in, found_by, points_of
from support.seeded import seeded_predictor

from pipelines import rle
from pipelines.errors import UsageError
from pipelines.everything.config import PRESETS, EdgesConfig, GridConfig, HierarchicalConfig
from pipelines.everything.crops import Crop, clicks
from pipelines.everything.grid import ask_grid
from pipelines.everything.hierarchical import ask_hierarchical
from pipelines.everything.instances import join
from pipelines.sam.predictor import SamPredictor
from pipelines.types import Image


@pytest.fixture(scope="module")
def seeded() -> SamPredictor:
    return seeded_predictor("efficientvit-sam-l0")


CROPS = {"points_per_side": 2, "crop_n_layers": 1, "crop_nms_thresh": 0.8, "min_mask_region_area": 40}
UNSURE = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.5, "stability_score_offset": 0.02, "box_nms_thresh": 1.0}
"""For seeded weights, whose masks are noise all over the image."""


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("starter", {}),
        ("starter", {**CROPS, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.1}),
        ("starter", {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "points_per_side": 2}),
        ("seeded", {**UNSURE, "points_per_side": 2}),
        ("seeded", {**UNSURE, **CROPS, "points_per_side": 1, "crop_nms_thresh": 1.0, "crop_overlap_ratio": 0.95}),
    ],
)
def test_grid_equals_the_plain_formulation(
    model: str, options: dict[str, float], scene: Image, request: pytest.FixtureRequest
) -> None:
    sam: SamPredictor = request.getfixturevalue(model)
    config = replace(RELAXED, **options)
    found = found_by(sam, scene, config)
    plain = [mask for mask in plain_everything.everything(sam, scene.pixels, config) if mask.mask.any()]
    assert len(found) == len(plain) >= 4
    for i, expected in enumerate(plain):
        assert (rle.decode(found.rles[i]) != expected.mask).mean() <= 1e-5
        x0, y0, x1, y1 = found.detections.boxes[i]
        assert [x0, y0, x1 - 1, y1 - 1] == expected.box
        assert found.clicks is not None and tuple(found.clicks.crop_boxes[i]) == expected.crop
    np.testing.assert_allclose(points_of(found), [mask.point for mask in plain], atol=1e-3)
    np.testing.assert_allclose(found.masks.predicted_iou, [mask.iou for mask in plain], atol=1e-5)
    np.testing.assert_allclose(found.masks.stability_score, [mask.stability for mask in plain], atol=1e-3)
    if "crop_n_layers" in options:
        assert len({mask.crop for mask in plain}) > 1


def test_defaults_are_those_of_segment_anything() -> None:
    """The class defaults of its automatic mask generator, and the values of EfficientViT-SAM's demo."""
    assert GridConfig() == GridConfig(32, 64, 0.88, 0.95, 1.0, 0.7, 0, 0.7, 512 / 1500, 1, 0)
    demo = GridConfig(**PRESETS["efficientvit"])
    assert (demo.pred_iou_thresh, demo.stability_score_thresh, demo.min_mask_region_area) == (0.8, 0.85, 100)


def test_clicks_at_once_bound_memory_and_change_nothing(starter: SamPredictor, scene: Image) -> None:
    starter.set_image(scene.pixels)
    points = clicks(Crop(0, 0, scene.width, scene.height, 0), 3)
    chunks = list(starter.image.candidates(points, min_iou=-np.inf, at_once=2))
    assert [chunk.prompts.tolist() for chunk in chunks] == [
        [0] * 3 + [1] * 3, [2] * 3 + [3] * 3, [4] * 3 + [5] * 3, [6] * 3 + [7] * 3, [8] * 3
    ]  # fmt: skip
    one, many = (found_by(starter, scene, replace(RELAXED, points_per_side=2, points_per_batch=n)) for n in (1, 64))
    assert len(one) == len(many) > 0
    for a, b in zip(one.rles, many.rles, strict=True):
        assert (rle.decode(a) != rle.decode(b)).mean() <= 1e-5


def test_clicks_without_a_good_mask_are_not_upscaled(starter: SamPredictor, scene: Image) -> None:
    starter.set_image(scene.pixels)
    points = clicks(Crop(0, 0, scene.width, scene.height, 0), 3)
    every = starter.predict(points=points[:, None], labels=np.ones((9, 1)))
    least = float(np.median(every.predicted_iou.max(1)))
    chunks = list(starter.image.candidates(points, min_iou=least, at_once=64))
    prompts = np.concatenate([chunk.prompts for chunk in chunks])
    which = every.predicted_iou > least
    assert 0 < which.sum() == len(prompts) < which.size
    np.testing.assert_array_equal(prompts, np.nonzero(which)[0])
    low_res = torch.cat([chunk.low_res for chunk in chunks]).numpy()
    np.testing.assert_allclose(low_res, every.low_res_masks[which], atol=1e-3)


@pytest.mark.parametrize("size", [(64, 64), (1, 300), (3000, 4000)])
def test_icons_strips_and_photos_of_12_megapixels(size: tuple[int, int], starter: SamPredictor, scene: Image) -> None:
    rows, columns = (np.linspace(0, side - 1, n).astype(int) for side, n in zip(scene.pixels.shape, size, strict=False))
    image = Image("resized", scene.pixels[np.ix_(rows, columns)])
    config = replace(RELAXED, points_per_side=2, pred_iou_thresh=0.0, stability_score_thresh=0.0)
    found = found_by(starter, image, config)
    assert len(found) and all(mask["size"] == list(size) for mask in found.rles)


@pytest.mark.parametrize("ask", [ask_grid, ask_hierarchical])
def test_a_blank_image_holds_nothing(ask: Any, starter: SamPredictor) -> None:
    blank = Image("blank", np.full((40, 60, 3), 128, np.uint8))
    assert len(found_by(starter, blank, HierarchicalConfig(points_per_side=4, pred_iou_thresh=0), ask)) == 0
    edges = edges_in(starter, blank, EdgesConfig()).edges
    assert edges is not None and edges.shape == (40, 60) and not edges.any()


@pytest.mark.parametrize(
    ("field", "value"),
    [("points_per_side", 0), ("pred_iou_thresh", 1.5), ("crop_overlap_ratio", -0.1), ("points_per_batch", 0)],
)
def test_values_out_of_their_limits_are_refused(field: str, value: float) -> None:
    with pytest.raises(UsageError, match=field):
        GridConfig(**{field: value})


def test_nothing_joined_is_nothing() -> None:
    assert len(join([])) == 0
