"""Training data: samples are right and repeatable, and so are prompts, losses and embeddings."""

from __future__ import annotations

import errno
import shutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from support.training_photos import training_set
from torchvision.ops import sigmoid_focal_loss

from pipelines.errors import DataError, EvsamError, SetupError
from pipelines.sam.frame import MEAN, STD, preprocess
from pipelines.training.augment import cut_out, draw_view, paste
from pipelines.training.config import LoopConfig, StageConfig
from pipelines.training.data import Keys, TrainingSet, batches, collate, worker_context
from pipelines.training.embeddings import SHAPE, cache_embeddings
from pipelines.training.finetune import normalise
from pipelines.training.losses import bce_loss, dice_loss, focal_loss, mask_iou, mask_loss, near_loss
from pipelines.training.photo_cache import PhotoCache
from pipelines.training.prompts import bounding_boxes, correction_points, draw_points, jitter_boxes
from pipelines.training.sources import open_source


def test_samples_depend_on_step_and_index_alone(photos: Path) -> None:
    def strong() -> TrainingSet:
        return training_set(photos, scale=(0.6, 2.0), colour=0.7, paste=0.7)

    keys = Keys(range(3, 6), photos=5, photos_at_once=2)
    forward = [strong()[key] for batch in keys for key in batch]
    again = strong()
    backward = [again[key] for key in reversed([key for batch in keys for key in batch])][::-1]
    for a, b in zip(forward, backward, strict=True):
        for name in ("pixels", "masks", "boxes", "points", "is_box"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert len({s.pixels.tobytes() for s in forward}) == 15, "samples differ"
    assert {s.points.shape[1] for s in forward[:5]} == {forward[0].points.shape[1]}, "one count of points a step"


def test_a_stages_zoom_multiplies_the_scale(photos: Path) -> None:
    near = training_set(photos, scale=(0.5, 1.0), zoom=2)
    same = training_set(photos, scale=(1.0, 2.0))
    far = training_set(photos, scale=(0.5, 1.0))
    for index in range(8):
        assert np.array_equal(near[0, index].pixels, same[0, index].pixels)
    assert any(not np.array_equal(near[0, index].pixels, far[0, index].pixels) for index in range(8))


def test_workers_give_the_batches_in_order(photos: Path) -> None:
    samples = training_set(photos, flip=0.5)
    keys = Keys(range(2), photos=3, photos_at_once=2)
    made = list(batches(samples, keys, LoopConfig(workers=2), collate))
    for batch, own in zip(made, keys, strict=True):
        expected = collate([samples[key] for key in own])
        for value, wanted in zip(batch, expected, strict=True):
            assert torch.equal(value, wanted) if isinstance(value, torch.Tensor) else value == wanted


@pytest.mark.skipif(worker_context().get_start_method() != "forkserver", reason="only a fork server can preload")
def test_workers_are_forked_with_their_imports_done() -> None:
    with ProcessPoolExecutor(1, worker_context()) as pool:
        assert pool.submit(eval, "'torch' in __import__('sys').modules").result()


def test_a_workers_fault_is_one_line(photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path, dirs_exist_ok=True)
    samples = training_set(tmp_path)
    for file in (tmp_path / "images").iterdir():
        file.write_bytes(b"not a photo")
    for workers in (0, 1):
        with pytest.raises(DataError, match=r"^\S+\.png: [^\n]+$"):
            list(batches(samples, Keys(range(1), 1, 1), LoopConfig(workers=workers), collate))


def test_devices_share_the_photos_of_a_step() -> None:
    parts = [[key for batch in Keys(range(2), 7, 2, rank, 3) for key in batch] for rank in range(3)]
    assert sorted(key for part in parts for key in part) == [(step, index) for step in range(2) for index in range(7)]


@pytest.mark.parametrize("zoom", [0.5, 1.0, 2.5])
def test_prompts_fit_the_masks(photos: Path, zoom: float) -> None:
    samples = training_set(photos, size=128, scale=(zoom, zoom), paste=0.5)
    for index in range(12):
        sample = samples[0, index]
        height, width = sample.size
        assert max(sample.size) <= 128 and not sample.pixels[height:].any() and not sample.pixels[:, width:].any()
        for mask, box, points in zip(sample.masks, sample.boxes, sample.points, strict=True):
            rows, columns = np.nonzero(mask > 127)
            tight = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) * 1024 / 64
            assert np.abs(tight - box).max() <= 20 + 1024 / 64  # the jitter's limit and a low-res pixel
            x, y = ((points + 0.5) * 64 / 1024).astype(int).T
            assert (mask[y, x] > 0).all()


@given(
    st.integers(0, 2**32),
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
    st.floats(0.2, 5),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_a_view_holds_its_focus(seed: int, shape: tuple[int, int], zoom: float, at_x: float, at_y: float) -> None:
    focus = int(at_x * (shape[1] - 1)), int(at_y * (shape[0] - 1))
    view = draw_view(np.random.default_rng(seed), shape, focus, 32, (zoom, zoom), 0.5)
    assert view.x <= focus[0] < view.x + view.crop_width <= shape[1]
    assert view.y <= focus[1] < view.y + view.crop_height <= shape[0]
    assert max(view.width, view.height) <= 32
    out = view(np.full((*shape, 3), 7, np.uint8))
    assert out.shape == (view.height, view.width, 3) and (out == 7).all()


def test_a_mirrored_view_moves_photo_and_mask_alike(photos: Path) -> None:
    photo = open_source(photos)[0]
    pixels, mask = photo.pixels(), photo.regions[0].decode(96, 128).astype(np.uint8) * 255
    marked = np.where(mask[..., None] > 0, np.uint8(255), pixels // 2)
    for seed in range(4):
        view = draw_view(np.random.default_rng(seed), (96, 128), (64, 48), 128, (1, 1), flip=seed % 2)
        np.testing.assert_array_equal((view(marked) == 255).all(2), view(mask) == 255)


def test_pasted_instances_hide_what_is_behind(photos: Path) -> None:
    photo = open_source(photos)[0]
    masks = [region.decode(96, 128).astype(np.uint8) * 255 for region in photo.regions]
    part, shape = cut_out(np.full((96, 128, 3), 200, np.uint8), masks[0] > 0)
    assert shape.shape == part.shape[:2] and shape[[0, -1]].any() and shape[:, [0, -1]].any()
    for seed in range(8):
        picture, after = paste(np.random.default_rng(seed), photo.pixels(), masks, part, shape)
        own = after[-1] == 255
        assert own.any() and (picture[own] == 200).all()
        assert not any((mask[own] > 0).any() for mask in after[:-1])
        untouched = after[-1] == 0
        np.testing.assert_array_equal(picture[untouched], photo.pixels()[untouched])


@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 40))
def test_boxes_points_and_jitter(seed: int, width: int, height: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = int(rng.integers(0, 65 - width)), int(rng.integers(0, 65 - height))
    mask = np.zeros((1, 64, 64), np.uint8)
    mask[0, y : y + height, x : x + width] = 255
    box = bounding_boxes(mask)
    np.testing.assert_array_equal(box, np.array([[x, y, x + width, y + height]]) * 16)
    np.testing.assert_array_equal(jitter_boxes(rng, box, 0.0), box)
    noisy = jitter_boxes(rng, box, 0.5)
    assert np.abs(noisy - box).max() <= 20 and noisy.min() >= 0 and noisy.max() <= 1024
    assert (noisy[:, 2:] > noisy[:, :2]).all()
    points = draw_points(rng, mask, 5)[0]
    assert ((points >= box[0, :2]) & (points < box[0, 2:])).all()


def test_correction_points_are_where_it_is_wrong() -> None:
    target = torch.zeros(3, 16, 16, dtype=torch.bool)
    target[:, 2:10, 2:10] = True
    predicted = target.clone()
    predicted[0, 4, 5] = False  # missed
    predicted[1, 12, 13] = True  # too much; the third is right
    points, labels = correction_points(predicted, target, torch.Generator().manual_seed(0))
    cells = ((points + 0.5) / 64).long()[:, 0]
    assert cells[0].tolist() == [5, 4] and cells[1].tolist() == [13, 12]
    assert labels[:, 0].tolist()[:2] == [1, 0]
    assert bool(labels[2, 0]) == bool(target[2, cells[2, 1], cells[2, 0]])


def test_normalised_batches_equal_the_predictors_input(photos: Path) -> None:
    pixels = open_source(photos)[0].pixels()
    square = np.zeros((128, 128, 3), np.uint8)
    square[:96] = pixels
    mean, std = (torch.tensor(values) * 255 for values in (MEAN, STD))
    ours = normalise(torch.from_numpy(square)[None], torch.tensor([[96, 128]]), mean, std)
    torch.testing.assert_close(ours, preprocess(pixels, 128), atol=1e-5, rtol=1e-5)


def test_losses() -> None:
    torch.manual_seed(0)
    target = torch.zeros(1, 8, 8)
    target[0, 2:6, 2:6] = 1
    right = (target * 2 - 1)[:, None] * 50
    logits = torch.cat([right, -right, torch.zeros_like(right)], dim=1)
    assert mask_iou(logits, target)[0].tolist() == pytest.approx([1, 0, 0])
    assert dice_loss(logits, target[:, None])[0].tolist() == pytest.approx([0, 1 - 1 / 65, 1 - 17 / 49])
    noise = torch.randn(1, 3, 8, 8)
    expected = sigmoid_focal_loss(noise, target[:, None].expand_as(noise)).flatten(2).mean(2)
    torch.testing.assert_close(focal_loss(noise, target[:, None]), expected)
    stage = StageConfig(size=64, photos=1, steps=1, focal=20, dice=1)
    total = 20 * focal_loss(noise, target[:, None]) + dice_loss(noise, target[:, None])
    torch.testing.assert_close(mask_loss(noise, target, stage), total)
    theirs = coco_mask.iou(
        [coco_mask.encode(np.asfortranarray((noise[0, i] > 0).numpy().astype(np.uint8))) for i in range(3)],
        [coco_mask.encode(np.asfortranarray(target[0].numpy().astype(np.uint8)))],
        [0],
    )
    assert mask_iou(noise, target)[0].tolist() == pytest.approx(theirs[:, 0].tolist())


def test_the_cache_keeps_shrunken_photos_within_its_budget(photos: Path) -> None:
    source = open_source(photos)
    cache = PhotoCache(side=64, budget=64 * 48 * 3 * 2)
    for i in range(4):
        pixels, size = cache(source[i])
        assert pixels.shape == (48, 64, 3) and size == (96, 128)
        np.testing.assert_array_equal(pixels, cv2.resize(source[i].pixels(), (64, 48), interpolation=cv2.INTER_AREA))
    assert cache(source[1])[0] is cache(source[1])[0]
    assert cache(source[3])[0] is not cache(source[3])[0]


def test_interrupted_embeddings_are_completed(tmp_path: Path) -> None:
    names = [tmp_path / f"{i}.jpg" for i in range(40)]
    asked: list[int] = []

    def embed(index: int) -> np.ndarray:
        if index == 36 and len(asked) == 36:
            raise KeyboardInterrupt
        asked.append(index)
        return np.full(SHAPE, index, np.float32)

    with pytest.raises(KeyboardInterrupt):
        cache_embeddings("teacher", embed, names, tmp_path / "cache")
    embeddings = np.load(cache_embeddings("teacher", embed, names, tmp_path / "cache"), mmap_mode="r")
    assert asked == [*range(36), *range(32, 40)], "what was flushed is not computed again"
    assert [float(e[0, 0, 0]) for e in embeddings] == list(range(40))
    with pytest.raises(Exception, match="another teacher"):
        cache_embeddings("other", embed, names, tmp_path / "cache")


def test_embeddings_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written through a map of a file, which would end the process."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    names = [tmp_path / f"{i}.jpg" for i in range(3)]
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", refuse)
        with pytest.raises(SetupError, match=r"cannot write to .*cache: the disk is full"):
            cache_embeddings("teacher", lambda index: np.ones(SHAPE, np.float32), names, tmp_path / "cache")
    asked: list[int] = []
    cache_embeddings("teacher", lambda index: asked.append(index) or np.zeros(SHAPE), names, tmp_path / "cache")
    assert asked == [0, 1, 2]
    for damage in ("[" * 100_000, "[]", "{"):
        (tmp_path / "cache/about.json").write_text(damage)
        with pytest.raises(EvsamError, match=r"cache"):
            cache_embeddings("teacher", lambda index: np.zeros(SHAPE), names, tmp_path / "cache")


def test_near_loss_counts_small_and_large_objects_alike() -> None:
    """The average over the target's box grown by half its size and two pixels: written out pixel by pixel."""
    target = torch.zeros(3, 1, 40, 40)
    boxes = [(10, 13, 20, 24), (4, 30, 2, 36), (0, 1, 39, 40)]
    for mask, (y0, y1, x0, x1) in zip(target, boxes, strict=True):
        mask[0, y0:y1, x0:x1] = 1
    logits = torch.randn(3, 2, 40, 40, generator=torch.Generator().manual_seed(0))
    ours = near_loss(logits, target)
    for i, (y0, y1, x0, x1) in enumerate(boxes):
        dy, dx = (y1 - y0) / 2 + 2, (x1 - x0) / 2 + 2
        inside = [
            (y, x) for y in range(40) for x in range(40) if y0 - dy <= y <= y1 - 1 + dy and x0 - dx <= x <= x1 - 1 + dx
        ]
        for k in range(2):
            terms = [F.binary_cross_entropy_with_logits(logits[i, k, y, x], target[i, 0, y, x]) for y, x in inside]
            assert float(ours[i, k]) == pytest.approx(float(torch.stack(terms).mean()), rel=1e-4)
    spill = torch.full((2, 1, 40, 40), -9.0)
    spill[0, 0, 8:16, 18:28] = 9
    assert near_loss(spill[:1], target[:1]) > 4 * bce_loss(spill[:1], target[:1])
    assert torch.isfinite(near_loss(logits, torch.zeros_like(target))).all()
