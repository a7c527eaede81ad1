"""Segment everything: `grid` equals the plain formulation, the other strategies do what their papers say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import plain_everything
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from make_parity import seeded_predictor

from pipelines import rle
from pipelines.detectors import DetectorConfig, build_detector
from pipelines.errors import ImageError, UsageError
from pipelines.everything import STRATEGIES
from pipelines.everything.config import CONFIGS, PRESETS, EdgesConfig, GridConfig, HierarchicalConfig, ObjectsConfig
from pipelines.everything.crops import Crop, clicks, crops
from pipelines.everything.edges import find_edges, thin
from pipelines.everything.filters import cut_off, suppress
from pipelines.everything.flatten import flatten
from pipelines.everything.grid import ask_grid, search
from pipelines.everything.hierarchical import ask_hierarchical
from pipelines.everything.instances import join
from pipelines.everything.objects import AnyClass
from pipelines.everything.regions import without_small_regions
from pipelines.run import Job, results_of
from pipelines.sam import build_sam
from pipelines.sam.masks import Upscaler
from pipelines.sam.predictor import SamPredictor
from pipelines.stages import StageClock
from pipelines.types import Bool, Image, Instances

CPU = torch.device("cpu")
RELAXED = GridConfig(points_per_side=3, pred_iou_thresh=0.05, stability_score_thresh=0.3, box_nms_thresh=0.9)
"""Thresholds under which the models of these tests, which are trained little or not at all, find masks."""


@pytest.fixture(scope="module")
def starter() -> SamPredictor:
    return build_sam("evsam-starter")


@pytest.fixture(scope="module")
def seeded() -> SamPredictor:
    return seeded_predictor("efficientvit-sam-l0")


@pytest.fixture(scope="module")
def scene(photograph: np.ndarray) -> Image:
    """People in front of a bus, 320 x 320."""
    return Image("scene", np.ascontiguousarray(photograph[100:420, 60:380]))


def found_by(sam: SamPredictor, image: Image, config: GridConfig, ask=ask_grid) -> Instances:
    return search(sam, image, StageClock(), config=config, ask=ask)


def points_of(found: Instances) -> np.ndarray:
    assert found.asked is not None
    return found.asked.points


# The grid


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
        assert (rle.decode(found.masks.rles[i]) != expected.mask).mean() <= 1e-5
        x0, y0, x1, y1 = found.detections.boxes[i]
        assert [x0, y0, x1 - 1, y1 - 1] == expected.box
        assert found.asked is not None and tuple(found.asked.crop_boxes[i]) == expected.crop
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
    chunks = list(starter.candidates(points, min_iou=-np.inf, at_once=2))
    assert [chunk.prompts.tolist() for chunk in chunks] == [
        [0] * 3 + [1] * 3, [2] * 3 + [3] * 3, [4] * 3 + [5] * 3, [6] * 3 + [7] * 3, [8] * 3
    ]  # fmt: skip
    one, many = (found_by(starter, scene, replace(RELAXED, points_per_side=2, points_per_batch=n)) for n in (1, 64))
    assert len(one) == len(many) > 0
    for a, b in zip(one.masks.rles, many.masks.rles, strict=True):
        assert (rle.decode(a) != rle.decode(b)).mean() <= 1e-5


def test_clicks_without_a_good_mask_are_not_upscaled(starter: SamPredictor, scene: Image) -> None:
    starter.set_image(scene.pixels)
    points = clicks(Crop(0, 0, scene.width, scene.height, 0), 3)
    every = starter.predict(points=points[:, None], labels=np.ones((9, 1)))
    least = float(np.median(every.predicted_iou.max(1)))
    chunks = list(starter.candidates(points, min_iou=least, at_once=64))
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
    assert len(found) and all(mask["size"] == list(size) for mask in found.masks.rles)


@pytest.mark.parametrize("ask", [ask_grid, ask_hierarchical])
def test_a_blank_image_holds_nothing(ask, starter: SamPredictor) -> None:
    blank = Image("blank", np.full((40, 60, 3), 128, np.uint8))
    assert len(found_by(starter, blank, HierarchicalConfig(points_per_side=4, pred_iou_thresh=0), ask)) == 0
    edges = find_edges(starter, blank, StageClock(), config=EdgesConfig()).edges
    assert edges is not None and edges.shape == (40, 60) and not edges.any()


@given(
    st.integers(1, 700),
    st.integers(1, 700),
    st.integers(0, 3),
    st.floats(0, 1),
)
def test_crops_equal_the_plain_ones(height: int, width: int, layers: int, overlap: float) -> None:
    config = GridConfig(crop_n_layers=layers, crop_overlap_ratio=overlap)
    plain = plain_everything.crop_layers(height, width, config)
    expected = [(*box, layer) for layer, boxes in enumerate(plain) for box in boxes]
    assert [tuple(crop) for crop in crops(height, width, config)] == [
        (x0, y0, x1, y1, layer) for x0, y0, x1, y1, layer in expected if x0 < x1 and y0 < y1
    ]


BOXES = arrays.arrays(np.float32, st.tuples(st.integers(0, 12), st.just(4)), elements=st.integers(0, 30).map(float))


@given(BOXES, st.data())
def test_suppression_equals_the_plain_one(corners: np.ndarray, data: st.DataObject) -> None:
    boxes = np.concatenate([corners[:, :2], corners[:, :2] + corners[:, 2:]], 1)
    scores = data.draw(st.lists(st.sampled_from([0.25, 0.5, 1.0]), min_size=len(boxes), max_size=len(boxes)))
    found = [plain_everything.Found(np.zeros(0), box, 0, 0, (0, 0), (0, 0, 0, 0)) for box in boxes.tolist()]
    assert suppress(boxes, scores, 0.5, CPU).tolist() == plain_everything.nms(found, scores, 0.5)


@given(BOXES)
def test_cut_off_equals_the_plain_rule(corners: np.ndarray) -> None:
    boxes = (4 * np.concatenate([corners[:, :2], corners[:, :2] + corners[:, 2:]], 1)).clip(30, 170)
    crop = Crop(30, 0, 170, 110, 1)
    plain = [plain_everything.near_crop_edge(box, crop[:4], (0, 0, 200, 110)) for box in boxes.tolist()]
    assert cut_off(boxes, crop, 110, 200).tolist() == plain


@settings(max_examples=300)
@given(arrays.arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12))), st.integers(1, 20))
def test_small_regions_go_as_in_the_plain_formulation(mask: Bool, min_area: int) -> None:
    mask[len(mask) // 2, 0] = True
    code = rle.encode(mask)
    cleaned = without_small_regions(code, min_area)
    plain = plain_everything.small_filled(plain_everything.small_filled(mask, min_area, holes=True), min_area)
    np.testing.assert_array_equal(rle.decode(cleaned), plain)
    assert (cleaned is code) == bool((plain == mask).all())


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 1500), st.integers(1, 900), st.sampled_from([0.0, 0.5, 1.0]))
def test_the_bound_on_stability_holds(seed: int, height: int, width: int, offset: float) -> None:
    noise = torch.randn(1, 2, 16, 16, generator=torch.Generator().manual_seed(seed)) * 8 - 1
    low_res = torch.nn.functional.interpolate(noise, size=(256, 256), mode="bicubic")[0]
    upscaler = Upscaler(height, width, CPU)
    bounds = upscaler.stability_bound(low_res, offset)
    scores = [region.stability(offset) for region in upscaler.regions(low_res, -offset)]
    assert (bounds >= np.float32(scores)).all()


def test_the_bound_on_stability_discards() -> None:
    low_res = torch.full((2, 256, 256), -5.0)
    low_res[0, 50:150, 50:150] = 0.0  # uncertain all over
    low_res[1, 50:150, 50:150] = 5.0
    bounds = Upscaler(480, 640, CPU).stability_bound(low_res)
    assert bounds[0] < 0.5 and bounds[1] == 1


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.data())
def test_windows_and_pixels_of_the_full_size_logits(height: int, width: int, data: st.DataObject) -> None:
    low_res = torch.randn(256, 256, generator=torch.Generator().manual_seed(height))
    upscaler = Upscaler(height, width, CPU)
    full = upscaler.full(low_res)
    (x0, x1), (y0, y1) = (sorted(data.draw(st.tuples(*[st.integers(0, side)] * 2))) for side in (width, height))
    part = upscaler.window(low_res, x0, x1, y0, y1)
    if x0 < x1 and y0 < y1:
        np.testing.assert_allclose(part.logits.T, full[y0:y1, x0:x1], atol=1e-4)
        rows, columns = np.array([y0, y1 - 1]), np.array([x1 - 1, x0])
        np.testing.assert_allclose(upscaler.at(low_res[None], rows, columns)[0], full[rows, columns], atol=1e-4)
    else:
        assert part.logits.size == 0


# The other strategies


def test_every_strategy_has_a_configuration_and_gives_a_job(starter: SamPredictor, scene: Image) -> None:
    assert set(CONFIGS) == set(STRATEGIES)
    small = {"objects": {"imgsz": 96, "conf": 0.01, "max_det": 3}}
    for name, row in STRATEGIES.items():
        config = CONFIGS[name](**small.get(name, {"points_per_side": 4}))
        job: Job[Any] = row.load()(starter, config, device="cpu", offline=True)
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
    covered = np.any([rle.decode(mask) for mask in coarse.masks.rles], axis=0)
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
    found = find_edges(starter, scene, StageClock(), config=EdgesConfig(points_per_side=4))
    assert found.edges is not None and found.edges.max() == 255 and len(found)
    outer = np.zeros((scene.height, scene.width), bool)
    for code in found.masks.rles:
        mask = np.pad(rle.decode(code), 1)
        neighbours = [np.roll(mask, (dy, dx), (0, 1)) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        outer |= (np.any(neighbours, axis=0) & ~mask)[1:-1, 1:-1]
    assert not found.edges[~outer].any()
    assert 0 < (found.edges > 0).sum() < outer.sum()
    with pytest.raises(ImageError, match="scale it down"):
        find_edges(starter, Image("long", np.zeros((1, 40_000, 3), np.uint8)), StageClock(), config=EdgesConfig())


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


# One id per pixel


@settings(max_examples=200)
@given(st.lists(arrays.arrays(np.bool_, (9, 11)), max_size=4), st.integers(0, 12))
def test_flat_labels_have_no_specks_and_report_what_was_done(masks: list[Bool], min_area: int) -> None:
    rles = [rle.encode(mask) for mask in masks]
    order = list(range(len(masks)))
    painted = np.zeros((9, 11), np.int32)
    for i in order:
        painted[masks[i]] = i + 1
    flat = flatten(rles, order, 9, 11, min_area)
    assert flat.removed - flat.filled == (painted > 0).sum() - (flat.labels > 0).sum()
    if min_area <= 1:
        assert flat.removed == flat.filled == 0
        np.testing.assert_array_equal(flat.labels, painted)
    covered, holes = flat.labels > 0, []
    if covered.any() and not covered.all():
        holes = parts_of(~covered)
        assert min(holes) >= min_area
    for i in order:
        for part in parts_of(flat.labels == i + 1):
            assert part >= min_area or 2 * part > masks[i].sum() or flat.filled


def parts_of(mask: Bool) -> list[int]:
    """Sizes of 8-connected parts, by flooding."""
    left, sizes = set(zip(*np.nonzero(mask), strict=True)), []
    while left:
        front, size = [left.pop()], 1
        while front:
            y, x = front.pop()
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            front += near
            size += len(near)
        sizes.append(size)
    return sizes


def test_flat_labels_of_a_scene_made_up() -> None:
    mask = np.zeros((3, 40, 40), bool)
    mask[0, 5:35, 5:35] = True
    mask[0, 10:12, 10:12] = False  # a hole that nothing covers
    mask[1, 20:30, 20:30] = True
    mask[1, 1:3, 1:3] = True  # an island
    mask[2, 0:2, 38:40] = True  # small, and all there is of it
    flat = flatten([rle.encode(m) for m in mask], [0, 1, 2], 40, 40, min_area=9)
    assert (flat.filled, flat.removed) == (4, 4)
    expected = np.zeros((40, 40), int)
    expected[5:35, 5:35] = 1
    expected[20:30, 20:30] = 2
    expected[0:2, 38:40] = 3
    np.testing.assert_array_equal(flat.labels, expected)


# Wrong requests


@pytest.mark.parametrize(
    ("field", "value"),
    [("points_per_side", 0), ("pred_iou_thresh", 1.5), ("crop_overlap_ratio", -0.1), ("points_per_batch", 0)],
)
def test_values_out_of_their_limits_are_refused(field: str, value: float) -> None:
    with pytest.raises(UsageError, match=field):
        GridConfig(**{field: value})


def test_nothing_joined_is_nothing() -> None:
    assert len(join([])) == 0
