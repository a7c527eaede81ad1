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
from support.training_photos import training_set

from pipelines import rle
from pipelines.errors import DataError
from pipelines.training.config import DataConfig
from pipelines.training.distill import photo_paths
from pipelines.training.regions import Region, read_labels
from pipelines.training.sources import open_source


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


def spoil(photos: Path, folder: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """A copy of the data set whose annotations are changed."""
    shutil.copytree(photos, folder / "a", dirs_exist_ok=True)
    document = json.loads((photos / "annotations.json").read_text())
    changed = change(document)
    (folder / "a" / "annotations.json").write_text(json.dumps([] if changed == [] else document))
    return folder / "a"


BAD_FILES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "annotations.json: COCO ground truth has a list 'images'": lambda d: [],
    "outside of": lambda d: d["images"][0].update(file_name="../../secret.png"),
    "gone.png.* is in none of": lambda d: d["images"][0].update(file_name="gone.png"),
    "json: annotation 0: 'image_id' is 99, which is not in its list 'images'": lambda d: d["annotations"][0].update(
        image_id=99
    ),
    "json: annotation 0: 'image_id' is \"1\", not a whole number": lambda d: d["annotations"][0].update(image_id="1"),
    "json: annotation 1: 'category_id' is true, not a whole number": lambda d: d["annotations"][1].update(
        category_id=True
    ),
    "json: annotation 1: 'iscrowd' is \"no\", neither 0 nor 1": lambda d: d["annotations"][1].update(iscrowd="no"),
    "json: image 1: 'id' is 1.5, not a whole number": lambda d: d["images"][1].update(id=1.5),
    "json: image 1: 'width' is -4, not a whole number": lambda d: d["images"][1].update(width=-4),
    "json: image 1: 'file_name' is 3, not text": lambda d: d["images"][1].update(file_name=3),
    "json: image 1: it has neither a 'file_name' nor": lambda d: d["images"][1].pop("file_name"),
    "json: two of its images have the same id": lambda d: d["images"].append(d["images"][0]),
    "json: category 0: 'name' is null, not text": lambda d: d.update(categories=[{"id": 1, "name": None}]),
    "json holds no mask": lambda d: d.update(annotations=[{**one, "segmentation": []} for one in d["annotations"]]),
}


@pytest.mark.parametrize("message", BAD_FILES)
def test_bad_annotation_files_are_named(photos: Path, tmp_path: Path, message: str) -> None:
    (tmp_path / "secret.png").write_bytes(b"")
    path = spoil(photos, tmp_path, BAD_FILES[message])
    with pytest.raises(DataError, match=message.replace("json holds", "a holds")):
        open_source(path)[0].pixels()


def test_ids_may_be_large_or_whole_floats(photos: Path, tmp_path: Path) -> None:
    large = {**{number: 2**53 + number for number in range(100)}, 1: 2**63 - 1}

    def change(document: dict[str, Any]) -> None:
        for row in document["images"]:
            row["id"] = large[row["id"]]
        for row in document["annotations"]:
            row.update(image_id=large[row["image_id"]], category_id=float(row.get("category_id", 1)), iscrowd=0.0)

    path = spoil(photos, tmp_path, change)
    np.testing.assert_array_equal(masks_of(path), masks_of(photos))
    assert open_source(path)[0].regions[0].category_id == 1


def test_what_covers_nothing_is_left_out_and_told(photos: Path, tmp_path: Path) -> None:
    square = [10, 10, 60, 10, 60, 40, 10, 40]

    def change(document: dict[str, Any]) -> None:
        one, two, three, *_ = document["annotations"]
        one["segmentation"], two["segmentation"] = [[1, 1, 5, 5], square], []
        del three["segmentation"]

    source = open_source(spoil(photos, tmp_path, change))
    assert source[0].regions[0].decode(96, 128).sum() == 50 * 30
    assert sum(len(source[i].regions) for i in range(len(source))) == 8 * 2 - 2
    assert list(source.notes) == [
        "left out of annotations.json: a polygon, which covers nothing with fewer than three corners (annotation 0)",
        "left out of annotations.json: what has no mask (2 annotations, such as 1, 2)",
    ]


BAD_MASKS: dict[str, Any] = {
    "a corner at NaN, not a finite number": [[0, 0, float("nan"), 0, 5, 5]],
    "a corner at 1e+300, too large": [[0, 0, 1e300, 0, 5, 5]],
    'a corner at "a", not a number': [["a"] * 6],
    "'counts' of 'segmentation' is [5, -7]": {"size": [96, 128], "counts": [5, -7]},
    "run lengths do not fill": {"size": [96, 128], "counts": "~~"},
    "'segmentation' has no 'counts'": {"size": [96, 128]},
    "'segmentation' is of size [128, 96], but its image is 96 x 128": {"size": [128, 96], "counts": ""},
    "'segmentation' is 3": 3,
}


@pytest.mark.parametrize("message", BAD_MASKS)
def test_damaged_masks_are_refused_by_file_and_annotation(photos: Path, tmp_path: Path, message: str) -> None:
    path = spoil(photos, tmp_path, lambda d: d["annotations"][1].update(segmentation=BAD_MASKS[message]))
    photo = open_source(path)[0]
    with pytest.raises(DataError, match=r"annotations\.json: annotation 1: ") as caught:
        photo.mask(photo.regions[1], 96, 128)
    assert message in str(caught.value)


def test_corners_far_outside_are_drawn_as_far_as_the_photo_goes() -> None:
    mask = Region([[-1e9, -1e9, 1e9, -1e9, 1e9, 20.5, -1e9, 20.5]]).decode(96, 128)
    assert mask[:20].all() and not mask[22:].any()


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
    with pytest.raises(DataError, match="its image is 480 x 640"):
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
