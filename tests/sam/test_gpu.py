"""A GPU's masks are a CPU's. Each comparison takes the ways that a GPU takes, on a CPU too: there it checks itself."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from pipelines import rle
from pipelines.sam import build_sam
from pipelines.sam.masks import STABILITY_OFFSET, LowResMasks, Upscaler
from pipelines.sam.predictor import SamPredictor
from pipelines.sam.prompting import PixelPrompts
from pipelines.sam.run_lengths import compressed
from pipelines.types import Masks

CPU = torch.device("cpu")
NEAR = 1e-3
"""Two ways to the same logit may differ by this much."""
BOXES = np.array([[60, 40, 420, 300], [300, 200, 620, 420], [10.5, 12.25, 90.75, 80.5], [0, 0, 640, 480]])
CLICKS = PixelPrompts(points=np.array([[[250, 180], [30, 400]], [[300, 200], [0, 0]]]), labels=[[1, 0], [1, -1]])

on_each = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])


@pytest.fixture(scope="module")
def low_res(starter: SamPredictor, photograph: np.ndarray) -> torch.Tensor:
    """N x 256 x 256 logits on the CPU."""
    encoded = starter.encode([starter.prepare(photograph)])
    parts = encoded.segment([PixelPrompts(boxes=BOXES)]) + encoded.segment([CLICKS])
    return torch.cat([part.low_res for part in parts])


def assert_near(ours: list[rle.Rle], wanted: list[rle.Rle], logits: np.ndarray) -> None:
    for mask, other, logit in zip(ours, wanted, logits, strict=True):
        assert (np.abs(logit[rle.decode(mask) != rle.decode(other)]) < NEAR).all()


@on_each
@pytest.mark.parametrize("windowed", [False, True])
def test_masks_are_upscaled_alike(device: str, windowed: bool, low_res: torch.Tensor, photograph: np.ndarray) -> None:
    height, width = photograph.shape[:2]
    windows = np.array([[50, 30, 430, 310]] * len(low_res)) if windowed else None
    upscaler = Upscaler(height, width, CPU)
    wanted, scores = upscaler.to_masks(low_res, windows)
    there = Upscaler(height, width, torch.device(device))
    kept, ours, ours_scores = there.masks_on_gpu(
        low_res.to(device), STABILITY_OFFSET, None, height, width, windows=windows
    )
    assert kept.tolist() == list(range(len(low_res)))
    assert_near(ours, wanted, upscaler.to_logits(low_res).numpy())
    np.testing.assert_allclose(ours_scores, scores, atol=1e-3)


@on_each
def test_the_same_masks_are_stable(device: str, low_res: torch.Tensor, photograph: np.ndarray) -> None:
    height, width = photograph.shape[:2]
    upscaler = Upscaler(height, width, CPU)
    scores = np.sort(upscaler.to_masks(low_res)[1])
    least = float(scores[2] + scores[3]) / 2
    place = (STABILITY_OFFSET, least, height + 20, width + 30, 10, 5)
    kept, wanted, _ = upscaler.stable_masks(low_res, *place)
    ours_kept, ours, _ = Upscaler(height, width, torch.device(device)).masks_on_gpu(low_res.to(device), *place)
    assert 0 < len(kept) < len(low_res) and ours_kept.tolist() == kept.tolist()
    logits = upscaler.to_logits(low_res).numpy()[kept]
    assert_near(ours, wanted, np.pad(logits, ((0, 0), (5, 15), (10, 20)), constant_values=np.inf))


@on_each
def test_runs_are_compressed_alike(device: str, photograph: np.ndarray) -> None:
    """Of ragged masks, of nothing, and of all."""
    channels = photograph.transpose(2, 1, 0)
    masks = np.concatenate([channels > level for level in (90, 170)] + [np.stack([channels[0] >= 0, channels[0] < 0])])
    ours = compressed(torch.from_numpy(masks).to(device), 0, 0, *photograph.shape[:2])
    assert ours == [rle.encode(mask.T) for mask in masks]


@on_each
def test_predictions_are_alike(device: str, starter: SamPredictor, photograph: np.ndarray) -> None:
    ours, wanted = (
        sam.encode([sam.prepare(photograph)]) for sam in (build_sam("evsam-starter", device=device), starter)
    )
    for prompts in (PixelPrompts(boxes=BOXES), CLICKS):
        a, b = ours.predict(prompts), wanted.predict(prompts)
        assert np.linalg.norm(a.low_res_masks - b.low_res_masks) < 1e-3 * np.linalg.norm(b.low_res_masks)
        np.testing.assert_allclose(a.predicted_iou, b.predicted_iou, atol=1e-3)


@on_each
def test_masks_are_finished_in_threads_beside_the_next_images(
    device: str, starter: SamPredictor, photograph: np.ndarray
) -> None:
    photos = [np.roll(photograph, 90 * turn, axis=1)[: 300 + 40 * turn] for turn in range(4)]
    asked = [PixelPrompts(boxes=BOXES / 2)]

    def begun(sam: SamPredictor, photo: np.ndarray) -> LowResMasks:
        return sam.encode([sam.prepare(photo)]).segment(asked)[0]

    sam = build_sam("evsam-starter", device=device)
    with ThreadPoolExecutor(len(photos)) as pool:
        ours = [each.result() for each in [pool.submit(begun(sam, photo).upscale) for photo in photos * 3]]
    for photo, masks, again, *_ in zip(photos, ours, ours[len(photos) :], ours[-len(photos) :], strict=False):
        wanted = begun(starter, photo)
        assert_alike(masks, wanted)
        assert again.rles == masks.rles


def assert_alike(ours: Masks, wanted: LowResMasks) -> None:
    upscaler = Upscaler(wanted.frame.height, wanted.frame.width, CPU)
    logits = upscaler.to_logits(wanted.low_res).numpy()
    error = 1e-3 * float(np.abs(logits).max())
    for mask, logit in zip(ours.rles, logits, strict=True):
        assert (np.abs(logit[rle.decode(mask) != (logit > 0)]) < error).all()
