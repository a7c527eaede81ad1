"""Crafted masks come out of every kind as others read them: pycocotools, Pillow, OpenCV, shapely, pyarrow; and, where
they are installed, datumaro and Label Studio's SDK. ultralytics is in test_yolo.py."""

from __future__ import annotations

import base64
import csv
import io
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image as Pil
from PIL import ImageDraw
from pyarrow import parquet
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from support.output_cases import (
    CATEGORIES,
    FOUND,
    HEIGHT,
    NOTHING,
    WIDTH,
    build,
    hard_masks,
    make_instances,
    photo,
    put_down,
    put_photos,
)

from pipelines import polygons, rle
from pipelines.errors import UsageError
from pipelines.outputs import Destination
from pipelines.outputs.split import part_of
from pipelines.outputs.table import COLUMNS
from pipelines.types import Bool, Category, Instances

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools's
MASKS = hard_masks()
SOLID = [mask for mask in MASKS if mask.any()]
FOUND_ALL = {"a/x.png": make_instances(MASKS, [7, 1, 90, 1, 1, 7, 1, 7]), "empty.png": NOTHING}
SCORES = [round(float(score), 6) for score in FOUND_ALL["a/x.png"].detections.scores]


def written(folder: Path, kind: str, found: dict[str, Instances] = FOUND_ALL, **options: Any) -> tuple[Path, list[str]]:
    """The run's folder, and the notes."""
    destination = put_photos(folder, [photo(name) for name in found])
    return folder / "out", put_down(build(kind, destination, **options), found)


def union(parts: list[Bool]) -> Bool:
    return np.logical_or.reduce([np.zeros((HEIGHT, WIDTH), np.bool_), *parts])


def test_pycocotools_opencv_and_pillow_fill_coco_s_polygons_alike(tmp_path: Path) -> None:
    out, _ = written(tmp_path, "dataset", polygons=True)
    truth = COCO(str(out / "coco_dataset.json"))
    for annotation, mask in zip(truth.anns.values(), MASKS, strict=True):
        outlines = [np.reshape(each, (-1, 2)) for each in annotation["segmentation"]]
        pixels = [each.astype(np.int32) for each in outlines]
        by_opencv = [cv2.fillPoly(np.zeros(mask.shape, np.uint8), [each], 1) > 0 for each in pixels]
        assert np.array_equal(union(by_opencv), mask)
        assert np.array_equal(union([drawn_by_pillow(each) for each in outlines]), mask)
        if mask.any():
            assert np.array_equal(truth.annToMask(annotation), mask)
        assert (annotation["area"], annotation["iscrowd"]) == (mask.sum(), 0)


def drawn_by_pillow(corners: Any) -> Bool:
    """As LabelMe draws a polygon (labelme/utils/shape.py, shape_to_mask)."""
    picture = Pil.new("L", (WIDTH, HEIGHT))
    ImageDraw.Draw(picture).polygon([tuple(corner) for corner in corners], outline=1, fill=1)
    return np.asarray(picture) > 0


@pytest.mark.parametrize("masks", [False, True])
def test_labelme_s_shapes_are_the_masks(tmp_path: Path, masks: bool) -> None:
    out, notes = written(tmp_path, "labelme", masks=masks)
    assert notes == ["a mask covers no pixel, and is left out of labelme (a/x.png)"]
    file = out / "labelme/a/x.json"
    document = json.loads(file.read_text("utf-8"))
    assert (document["imageHeight"], document["imageWidth"], document["imageData"]) == (HEIGHT, WIDTH, None)
    assert (file.parent / document["imagePath"]).samefile(tmp_path / "photos/a/x.png")
    for number, (mask, score) in enumerate(zip(SOLID, SCORES, strict=False), 1):
        shapes = [shape for shape in document["shapes"] if shape["group_id"] == number]
        assert {shape["score"] for shape in shapes} == {score}
        if masks:
            ((x1, y1), (x2, y2)) = shapes[0]["points"]
            png = Pil.open(io.BytesIO(base64.b64decode(shapes[0]["mask"])))
            assert np.array_equal(np.asarray(png).astype(np.bool_), mask[y1 : y2 + 1, x1 : x2 + 1])
            assert mask.sum() == mask[y1 : y2 + 1, x1 : x2 + 1].sum()
        else:
            assert np.array_equal(union([drawn_by_pillow(shape["points"]) for shape in shapes]), mask)
    assert json.loads((out / "labelme/empty.json").read_text("utf-8"))["shapes"] == []


def test_shapely_finds_polygons_valid_and_exact(tmp_path: Path) -> None:
    geometry: Any = pytest.importorskip("shapely.geometry")
    out, _ = written(tmp_path, "geojson")
    features = json.loads((out / "geojson/a/x.geojson").read_text("utf-8"))["features"]
    for feature, mask in zip(features, MASKS, strict=True):
        if not mask.any():
            assert feature["geometry"] is None
            continue
        shape = geometry.shape(feature["geometry"])
        assert shape.is_valid and shape.area == mask.sum() == feature["properties"]["area"]
        outside, inside = (
            union([rle.decode(polygons.draw([np.ravel(ring.coords)], HEIGHT, WIDTH)) for ring in rings])
            for rings in (
                [part.exterior for part in shape.geoms],
                [ring for part in shape.geoms for ring in part.interiors],
            )
        )
        assert np.array_equal(mask, mask & outside) and (outside & ~inside <= mask).all()


def test_tables_hold_every_object(tmp_path: Path) -> None:
    out, _ = written(tmp_path / "csv", "csv")
    with (out / "instances.csv").open(encoding="utf-8", newline="") as file:
        texts = list(csv.DictReader(file))
    out, _ = written(tmp_path / "parquet", "parquet")
    table = parquet.read_table(out / "instances.parquet")
    assert table.column_names == list(texts[0]) == list(COLUMNS)
    for text, row, mask, score in zip(texts, table.to_pylist(), MASKS, SCORES, strict=True):
        assert text == {name: str(value) for name, value in row.items()}
        assert (row["image"], row["score"], row["area"]) == ("a/x.png", score, mask.sum())
        decoded = coco_mask.decode({"size": [row["height"], row["width"]], "counts": row["rle"].encode()})
        assert np.array_equal(decoded, mask)


def test_label_studio_s_sdk_decodes_the_brushes(tmp_path: Path) -> None:
    brush: Any = pytest.importorskip("label_studio_sdk.converter.brush")
    out, _ = written(tmp_path, "label-studio")
    task, _ = json.loads((out / "label_studio/tasks.json").read_text())
    for region, mask in zip(task["predictions"][0]["result"], MASKS, strict=True):
        pixels = brush.decode_rle(region["value"]["rle"]).reshape(HEIGHT, WIDTH, 4)
        assert np.array_equal(pixels > 0, np.repeat(mask[..., None], 4, axis=2))


def test_datumaro_reads_cvat_s_masks(tmp_path: Path) -> None:
    datumaro: Any = pytest.importorskip("datumaro")
    out, notes = written(tmp_path, "cvat")
    assert len(notes) == 1
    (tmp_path / "photos").rename(out / "images")
    found = {item.id: item.annotations for item in datumaro.Dataset.import_from(str(out), "cvat")}
    masks = [annotation.image.astype(np.bool_) for annotation in found["a/x"]]
    assert all(np.array_equal(one, other) for one, other in zip(masks, SOLID, strict=True)) and not found["empty"]


def test_label_studio_says_where_images_are_and_who_found_them(tmp_path: Path) -> None:
    found = {"a b/ü&.png": FOUND, "empty.png": NOTHING}
    for root, address in (
        ("/data/local-files/?d=", "/data/local-files/?d=a%20b/%C3%BC%26.png"),
        ("https://host/x/", "https://host/x/a%20b/%C3%BC%26.png"),
        ("s3://bucket/", "s3://bucket/a b/ü&.png"),
    ):
        out, _ = written(tmp_path / root[:2].strip("/"), "label-studio", found, image_root=root)
        task, empty = json.loads((out / "label_studio/tasks.json").read_text())
        assert task["data"] == {"image": address, "width": WIDTH, "height": HEIGHT}
        (prediction,) = task["predictions"]
        assert prediction["model_version"] == "evsam some-sam" and prediction["score"] == pytest.approx(0.6)
        assert empty["predictions"][0]["result"] == []


def test_voc_s_pngs_show_the_smallest_and_its_class(tmp_path: Path) -> None:
    many = make_instances([np.roll(MASKS[3], (i // 40, i % 40), (0, 1)) for i in range(255)])
    found = {"a/x.png": FOUND, "many.png": many, "empty.png": NOTHING}
    out, notes = written(tmp_path, "voc", found, split=(0.5, 0.5))
    objects, classes = (np.asarray(Pil.open(out / f"voc/Segmentation{what}/a/x.png")) for what in ("Object", "Class"))
    order = np.argsort([-mask.sum() for mask in MASKS[:4]], kind="stable")
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    for i in order:
        expected[MASKS[i]] = i + 1
    assert np.array_equal(objects, expected)
    assert np.array_equal(classes, np.array([0, 1, 2, 3, 1], np.uint8)[expected])
    with Pil.open(out / "voc/SegmentationObject/many.png") as picture:
        assert picture.mode == "I;16", "255 stands for pixels that are left open"
    listed = {part: (out / f"voc/ImageSets/Main/{part}.txt").read_text().split() for part in ("train", "val")}
    expected_parts = {name: part_of(name, (0.5, 0.5)) for name in found}
    assert listed == {
        part: [name[:-4] for name in found if expected_parts[name] == part] for part in ("train", "val")
    } and len(notes) == sum(not names for names in listed.values())


def test_voc_takes_no_more_classes_than_eight_bits_do(tmp_path: Path) -> None:
    destination = Destination(tmp_path, tmp_path, {id: Category(id, str(id)) for id in range(255)})
    with pytest.raises(UsageError, match="254 classes"):
        build("voc", destination)


def test_a_data_set_that_is_split_is_the_whole_in_parts(tmp_path: Path) -> None:
    found = {f"{i}.png": FOUND if i % 2 else NOTHING for i in range(8)}
    out, notes = written(tmp_path / "parts", "dataset", found, split=(0.5, 0.25, 0.25))
    parts = {part: COCO(str(out / f"coco_dataset_{part}.json")) for part in ("train", "val", "test")}
    assert not (out / "coco_dataset.json").exists()
    names = {part: [image["file_name"] for image in each.imgs.values()] for part, each in parts.items()}
    assert names == {
        part: [name for name in found if part_of(name, (0.5, 0.25, 0.25)) == part] for part in names
    } and len(notes) == (not all(names.values()))
    whole, _ = written(tmp_path / "whole", "dataset", found)
    ids = {image["file_name"]: image["id"] for image in COCO(str(whole / "coco_dataset.json")).imgs.values()}
    assert ids == {image["file_name"]: image["id"] for each in parts.values() for image in each.imgs.values()}
    assert sum(len(each.anns) for each in parts.values()) == 4 * len(FOUND)
    assert all(each.cats == {id: {"id": id, "name": c.name} for id, c in CATEGORIES.items()} for each in parts.values())
