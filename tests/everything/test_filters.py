"""Geometry and filters of the grid against the plain formulation: crops, suppression, small regions, stability."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from reference import plain_everything, plain_sam

from pipelines import rle
from pipelines.everything.config import GridConfig
from pipelines.everything.crops import Crop, crops
from pipelines.everything.filters import cut_off, suppress
from pipelines.sam.masks import Upscaler
from pipelines.sam.regions import without_small_regions
from pipelines.types import Bool

CPU = torch.device("cpu")
BOXES = arrays.arrays(np.float32, st.tuples(st.integers(0, 12), st.just(4)), elements=st.integers(0, 30).map(float))


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


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(1, 1500), st.integers(1, 900), st.sampled_from([0.0, 0.5, 1.0]))
def test_the_bound_on_stability_holds(seed: int, height: int, width: int, offset: float) -> None:
    noise = torch.randn(1, 2, 16, 16, generator=torch.Generator().manual_seed(seed)) * 8 - 1
    low_res = torch.nn.functional.interpolate(noise, size=(256, 256), mode="bicubic")[0]
    bounds = Upscaler(height, width, CPU).stability_bound(low_res, offset)
    full, room = plain_sam.upscale(low_res[None], height, width)[0], 1e-3
    inner, outer = (full > offset + room).sum((1, 2)), (full > -offset - room).sum((1, 2))
    assert (bounds >= (inner / outer.clamp(min=1)).numpy() - 1e-6).all()


def test_the_bound_on_stability_discards() -> None:
    low_res = torch.full((2, 256, 256), -5.0)
    low_res[0, 50:150, 50:150] = 0.0  # uncertain all over
    low_res[1, 50:150, 50:150] = 5.0
    bounds = Upscaler(480, 640, CPU).stability_bound(low_res)
    assert bounds[0] < 0.5 and bounds[1] == 1


@settings(max_examples=25)
@given(st.integers(1, 400), st.integers(1, 400), st.data())
def test_windows_and_pixels_of_the_full_size_logits(height: int, width: int, data: st.DataObject) -> None:
    low_res = torch.randn(256, 256, generator=torch.Generator().manual_seed(height))
    upscaler = Upscaler(height, width, CPU)
    full = plain_sam.upscale(low_res[None, None], height, width)[0, 0]
    np.testing.assert_allclose(upscaler.to_logits(low_res), full, atol=1e-4)
    (x0, x1), (y0, y1) = (sorted(data.draw(st.tuples(*[st.integers(0, side)] * 2))) for side in (width, height))
    part = upscaler.logit_window(low_res, x0, x1, y0, y1)
    if x0 < x1 and y0 < y1:
        np.testing.assert_allclose(part.logits.T, full[y0:y1, x0:x1], atol=1e-4)
        rows, columns = np.array([y0, y1 - 1]), np.array([x1 - 1, x0])
        np.testing.assert_allclose(upscaler.logits_at(low_res[None], rows, columns)[0], full[rows, columns], atol=1e-4)
    else:
        assert part.logits.size == 0
