"""Training data: every kind of data set gives the same masks, samples are right and repeatable, bad files are named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pil
from pycocotools import mask as coco_mask
from torchvision.ops import sigmoid_focal_loss
from training_photos import write_photos

from pipelines import rle
from pipelines.errors import DataError
from pipelines.sam.frame import MEAN, STD, preprocess
from pipelines.training.augment import cut_out, draw_view, paste
from pipelines.training.config import AugmentConfig, DataConfig, FinetuneConfig, LoopConfig, PromptConfig, StageConfig
from pipelines.training.data import Keys, PhotoCache, TrainingSet, batches, collate
from pipelines.training.distill import photo_paths
from pipelines.training.embeddings import SHAPE, cache_embeddings
from pipelines.training.finetune import normalise
from pipelines.training.losses import bce_loss, dice_loss, focal_loss, mask_iou, mask_loss, near_loss
from pipelines.training.prompts import bounding_boxes, correction_points, draw_points, jitter_boxes
from pipelines.training.sources import Region, open_source


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, photographs: list[Path]) -> Path:
    return write_photos(tmp_path_factory.mktemp("data") / "photos", photographs)


def masks_of(path: Path, images: Path | None = None) -> list[list[np.ndarray]]:
    source = open_source(path, images)
    photos = [source[i] for i in range(len(source))]
    return [[region.decode(*photo.pixels().shape[:2]) for region in photo.regions] for photo in photos]


def as_lvis(photos: Path, out: Path) -> Path:
    """LVIS: no file_name, uncompressed RLE; photos in a folder named after the split."""
    document = json.loads((photos / "annotations.json").read_text())
    for row in document["images"]:
        row["coco_url"] = f"http://images.example.org/val2017/{row.pop('file_name')}"
    for row in document["annotations"]:
        mask = rle.decode(row["segmentation"])
        runs = np.diff(np.flatnonzero(np.diff(mask.T.ravel(), prepend=False, append=False)), prepend=0)
        counts = [*runs.tolist(), mask.size - int(runs.sum())]
        row["segmentation"] = {"size": list(mask.shape), "counts": counts}
        del row["iscrowd"]
    shutil.copytree(photos / "images", out / "val2017")
    (out / "annotations").mkdir()
    (out / "annotations" / "lvis_val.json").write_text(json.dumps(document))
    return out / "annotations" / "lvis_val.json"


def as_sa1b(photos: Path, out: Path) -> Path:
    document = json.loads((photos / "annotations.json").read_text())
    (out / "sa_000000").mkdir()
    for row in document["images"]:
        shutil.copy(photos / "images" / row["file_name"], out / "sa_000000")
        own = [{"segmentation": a["segmentation"]} for a in document["annotations"] if a["image_id"] == row["id"]]
        text = json.dumps({"image": row, "annotations": own})
        (out / "sa_000000" / row["file_name"]).with_suffix(".json").write_text(text)
    return out


def as_label_pngs(photos: Path, out: Path) -> Path:
    shutil.copytree(photos / "images", out / "images")
    (out / "masks").mkdir()
    for file, masks in zip(sorted((out / "images").iterdir()), masks_of(photos), strict=True):
        labels = np.zeros(masks[0].shape, np.uint16)
        for number, mask in enumerate(masks, start=300):
            labels[mask] = number
        Pil.fromarray(labels).save(out / "masks" / file.name)
    return out


def as_object_pngs(photos: Path, out: Path) -> Path:
    shutil.copytree(photos / "images", out / "images")
    for file, masks in zip(sorted((out / "images").iterdir()), masks_of(photos), strict=True):
        (out / "masks" / file.stem).mkdir(parents=True)
        for number, mask in enumerate(masks):
            Pil.fromarray(mask).save(out / "masks" / file.stem / f"{number}.png")
    return out


@pytest.mark.parametrize("form", [as_lvis, as_sa1b, as_label_pngs, as_object_pngs])
def test_every_kind_of_data_set_gives_the_same_masks(
    photos: Path, tmp_path: Path, form: Callable[[Path, Path], Path]
) -> None:
    path = form(photos, tmp_path)
    expected, got = masks_of(photos), masks_of(path)
    assert [len(masks) for masks in got] == [2] * 8
    for a, b in zip(expected, got, strict=True):
        for mask, other in zip(a, b, strict=True):
            np.testing.assert_array_equal(mask, other)
    assert [p.name for p in photo_paths(DataConfig(str(path)))] == [f"{i:02}.png" for i in range(8)]


def test_polygons_and_crowds(photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path, dirs_exist_ok=True)
    document = json.loads((tmp_path / "annotations.json").read_text())
    document["annotations"] = document["annotations"][:2]
    document["annotations"][0]["segmentation"] = [[10, 10, 60, 10, 60, 40, 10, 40], [80, 50, 100, 50, 100, 70, 80, 70]]
    document["annotations"][1]["iscrowd"] = 1
    (tmp_path / "annotations.json").write_text(json.dumps(document))
    source = open_source(tmp_path)
    assert len(source) == 1, "photos without annotations are left out"
    square, crowd = source[0].regions
    mask = square.decode(96, 128)
    assert (mask.sum(), mask[20, 30], mask[60, 90], mask[60, 30]) == (50 * 30 + 20 * 20, True, True, False)
    assert crowd.crowd and not square.crowd
    sample = training_set(tmp_path, masks=8)[0, 0]
    assert len(sample.masks) == 1, "a crowd is no object"


def spoil(document: dict[str, Any], what: str) -> Any:
    if what == "list":
        return []
    if what == "escape":
        document["images"][0]["file_name"] = "../../secret.png"
    if what == "lost photo":
        document["annotations"][0]["image_id"] = 99
    if what == "no masks":
        del document["annotations"][0]["segmentation"]
    if what == "gone":
        document["images"][0]["file_name"] = "gone.png"
    return document


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("list", "does not hold COCO annotations"),
        ("escape", "outside of"),
        ("lost photo", "annotations of photo 99"),
        ("no masks", "does not hold COCO annotations"),
        ("gone", "gone.png.* is in none of"),
    ],
)
def test_bad_annotation_files_are_named(photos: Path, tmp_path: Path, what: str, message: str) -> None:
    shutil.copytree(photos, tmp_path / "a", dirs_exist_ok=True)
    (tmp_path / "secret.png").write_bytes(b"")
    document = json.loads((photos / "annotations.json").read_text())
    (tmp_path / "a" / "annotations.json").write_text(json.dumps(spoil(document, what)))
    with pytest.raises(DataError, match=message):
        open_source(tmp_path / "a")[0].pixels()


@pytest.mark.parametrize(
    "segmentation",
    [
        [[0, 0, 1e9, 0, 0, 1e9]],
        [[0, 0, float("nan"), 0, 5, 5]],
        [["a"] * 6],
        {"size": [96, 128], "counts": [5, -7]},
        {"size": [96, 128], "counts": "~~"},
        {"size": [96, 128]},
        3,
    ],
)
def test_damaged_masks_are_refused(segmentation: Any) -> None:
    with pytest.raises(DataError, match="mask"):
        Region(segmentation).decode(96, 128)


def test_bad_masks_photos_and_folders_are_named(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no data set"):
        open_source(tmp_path)
    region = open_source(photos)[0].regions[0]
    with pytest.raises(DataError, match="its photo 640 x 480"):
        region.decode(480, 640)
    as_object_pngs(photos, tmp_path)
    Pil.new("RGB", (128, 96)).save(tmp_path / "masks" / "00" / "0.png")
    with pytest.raises(DataError, match=r"00\.png: .* a mask has one channel"):
        photo = open_source(tmp_path)[0]
        photo.mask(photo.regions[0], 96, 128)
    (tmp_path / "images" / "01.png").write_bytes(b"not a photo")
    with pytest.raises(DataError, match=r"01\.png"):
        open_source(tmp_path)[1].pixels()
    shutil.rmtree(tmp_path / "masks" / "02")
    with pytest.raises(DataError, match=r"02\.png: neither"):
        open_source(tmp_path)


def training_set(photos: Path, size: int = 64, masks: int = 2, zoom: float = 1, **augment: Any) -> TrainingSet:
    config = FinetuneConfig(
        model="tiny",
        stages=(StageConfig(size=size, photos=4, masks=masks, steps=1, zoom=zoom),),
        data=(DataConfig(str(photos)),),
        augment=AugmentConfig(**augment),
        prompts=PromptConfig(points=4),
        loop=LoopConfig(workers=2, cache_gb=0.001),
    )
    return TrainingSet([open_source(photos)], config, config.stages[0], size // 2)


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
    embeddings = cache_embeddings("teacher", embed, names, tmp_path / "cache")
    assert asked == [*range(36), *range(32, 40)], "what was flushed is not computed again"
    assert [float(e[0, 0, 0]) for e in embeddings] == list(range(40))
    with pytest.raises(Exception, match="another teacher"):
        cache_embeddings("other", embed, names, tmp_path / "cache")


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
