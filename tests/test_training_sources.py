"""Data sets to train on: every kind gives the same masks, bad files are named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pil
from training_photos import training_set, write_photos

from pipelines import rle
from pipelines.errors import DataError
from pipelines.training.config import DataConfig
from pipelines.training.distill import photo_paths
from pipelines.training.sources import Region, open_source, read_labels


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


def test_masks_are_not_lost_for_a_spoilt_text(photos: Path, tmp_path: Path) -> None:
    as_label_pngs(photos, tmp_path)
    expected = masks_of(tmp_path)
    read_labels.cache_clear()
    for path in (tmp_path / "masks").iterdir():
        content = path.read_bytes()
        path.write_bytes(content[:33] + b"\0\0\0\1pHYsa\0\0\0\0" + content[33:])
    np.testing.assert_array_equal(masks_of(tmp_path), expected)


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
