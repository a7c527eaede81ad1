"""How images fit into the square of a family that is not SAM's, masks back into them, and prompts beside."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from support.seeded import picture, seeded_predictor

from pipelines import rle
from pipelines.errors import UsageError
from pipelines.sam.encoders.efficientsam import CONVENTIONS
from pipelines.sam.frame import Fit, Frame, preprocess, squeezed, truncated
from pipelines.sam.masks import Upscaler
from pipelines.sam.points import always_six, as_given, padded_without_box
from pipelines.sam.predictor import SamPredictor

CPU = torch.device("cpu")
SQUEEZED = CONVENTIONS.fit
ROOM = 2e-3
"""Logits this near to a threshold may fall on either side."""


def smooth(seed: int, shift: float = 0.0) -> torch.Tensor:
    drawn = torch.randn(1, 3, 24, 24, generator=torch.Generator().manual_seed(seed)) * 6 + shift
    return F.interpolate(drawn, (256, 256), mode="bilinear")[0]


@settings(max_examples=40)
@given(st.integers(1, 700), st.integers(1, 700), st.integers(0, 2**32 - 1), st.floats(-9, 4))
def test_squeezed_masks_are_one_bicubic_resize(height: int, width: int, seed: int, shift: float) -> None:
    low = smooth(seed, shift)
    full = F.interpolate(low[None], (height, width), mode="bicubic", align_corners=False)[0]
    upscaler = Upscaler(height, width, CPU, SQUEEZED)
    torch.testing.assert_close(upscaler.to_logits(low), full, rtol=1e-4, atol=1e-3)
    bounds = upscaler.stability_bound(low, 1.0)
    for logits, mask, stability, bound in zip(full, *upscaler.to_masks(low), bounds, strict=True):
        differing = rle.decode(mask) != (logits > 0).numpy()
        assert (logits.abs().numpy()[differing] < ROOM).all()
        inner, outer = (
            (logits > 1 + sign * ROOM).sum() / (logits > -1 - sign * ROOM).sum().clamp(min=1) for sign in (1, -1)
        )
        assert inner - 1e-6 <= stability <= outer + 1e-6 and bound >= inner - 1e-6


def test_bicubic_pixels_beyond_all_their_sources_are_found() -> None:
    low = torch.full((1, 256, 256), -50.0)
    low[:, :, 128:130] = -0.1  # what lies between the two is above 0, as what lies beside them is far below
    upscaler = Upscaler(300, 1000, CPU, SQUEEZED)
    assert (upscaler.to_logits(low) > 0).any()
    (mask,), _ = upscaler.to_masks(low)
    assert (rle.decode(mask) == (upscaler.to_logits(low)[0] > 0).numpy()).all()


def test_of_no_squeezed_masks_there_is_nothing_to_bound() -> None:
    """As of a batch of clicks whose masks all have a low predicted IoU."""
    assert not len(Upscaler(300, 1000, CPU, SQUEEZED).stability_bound(torch.empty(0, 256, 256), 1.0))


@settings(max_examples=20)
@given(st.integers(1, 60), st.integers(1, 60))
def test_squeezed_images_fill_the_square(height: int, width: int) -> None:
    rgb = np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)
    pixels = preprocess(rgb, 64, SQUEEZED)
    mean, std = (torch.tensor(x)[:, None, None] for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    plain = torch.from_numpy(rgb).permute(2, 0, 1)[None] / 255
    plain = F.interpolate(plain, (64, 64), mode="bilinear", align_corners=False)
    torch.testing.assert_close(pixels, (plain - mean) / std, rtol=1e-4, atol=1e-4)
    corner = Frame(height, width, SQUEEZED).to_prompt_frame(torch.tensor([width, height]))
    torch.testing.assert_close(corner, torch.tensor([1024.0, 1024.0]))


def test_an_evenly_scaled_side_is_cut_and_its_masks_are_one_resize() -> None:
    fit = Fit(size=truncated, evenly=True, direct=True)
    assert truncated(427, 640, 1024) == (683, 1024) and truncated(640, 427, 256) == (256, 170)
    click = Frame(427, 640, fit).to_prompt_frame(torch.tensor([100.0, 100.0]))
    torch.testing.assert_close(click, torch.tensor([160.0, 160.0]))
    low = smooth(0)
    plain = F.interpolate(low[None, :, :170], (427, 640), mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(Upscaler(427, 640, CPU, fit).to_logits(low), plain, rtol=1e-4, atol=1e-4)
    assert squeezed(3, 5, 64) == (64, 64)


CLICKS = torch.tensor([[[10.0, 20.0], [-3.0, 40.0]]]), torch.tensor([[1.0, 0.0]])
BOX = torch.tensor([[1.0, 2.0, 3.0, 4.0]])


def test_prompts_become_points() -> None:
    points, labels = as_given(*CLICKS, BOX)
    assert points.tolist() == [[[10, 20], [-3, 40], [1, 2], [3, 4]]] and labels.tolist() == [[1, 0, 2, 3]]
    for got, wanted in zip(padded_without_box(*CLICKS, BOX), (points, labels), strict=True):
        assert (got == wanted).all()
    points, labels = padded_without_box(*CLICKS, None)
    assert points.tolist()[0][2:] == [[0, 0]] and labels.tolist() == [[1, 0, -1]]
    points, labels = always_six(*CLICKS, BOX)
    assert points.tolist()[0] == [[10, 20], [-1, 40], [1, 2], [3, 4], [-1, -1], [-1, -1]]
    assert labels.tolist() == [[1, 0, 2, 3, -1, -1]]
    five = CLICKS[0].repeat(1, 3, 1)[:, :5], CLICKS[1].repeat(1, 3)[:, :5]
    with pytest.raises(UsageError, match="sees 6 points of a prompt, two of them a box's, and here are 7"):
        always_six(*five, BOX)


@pytest.fixture(scope="module")
def efficient() -> SamPredictor:
    sam = seeded_predictor("efficient-sam-ti")
    sam.set_image(picture())
    return sam


def test_efficient_sam_takes_no_mask_prompt(efficient: SamPredictor) -> None:
    with pytest.raises(UsageError, match="takes no mask prompts"):
        efficient.predict(boxes=[[10, 20, 200, 250]], mask_input=np.zeros((1, 1, 256, 256)))


def test_a_point_off_the_object_is_its_position_alone(efficient: SamPredictor) -> None:
    encoder = efficient.model.prompt_encoder
    points, labels = torch.tensor([[[10.0, 20.0], [30.0, 40.0], [-1.0, -1.0]]]), torch.tensor([[0.0, 1.0, -1.0]])
    with torch.inference_mode():
        embedded = encoder.embed_points(points, labels)[0]
        position = encoder.position((points + 0.5) / 1024)[0]
    torch.testing.assert_close(embedded[0], position[0])
    torch.testing.assert_close(embedded[1], position[1] + encoder.point_embeddings.weight[0])
    torch.testing.assert_close(embedded[2], position[2] + encoder.invalid_points.weight[0])


def test_masks_of_a_squeezed_image_lie_where_it_was_asked(efficient: SamPredictor) -> None:
    box = [[30, 40, 300, 220]]
    (mask,) = efficient.segment_boxes(box).rles
    prediction = efficient.predict(box)
    best = prediction.predicted_iou[0].argmax()
    differing = rle.decode(mask) != prediction.masks[0, best]
    assert differing.mean() < 1e-4 and prediction.masks.shape == (1, 3, 300, 400)
