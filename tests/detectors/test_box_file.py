"""Boxes from files: what each format means, which image a box belongs to, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.categories import COCO, OBJECT
from pipelines.detectors.box_file import BoxFileDetector
from pipelines.detectors.box_table import read_box_table
from pipelines.errors import DataError, ImageError, UnknownNameError
from pipelines.types import Category, Detections, Image

SHARED_FOLDER = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
BOX = {"xyxy": [10, 20, 40, 60], "xywh": [10, 20, 30, 40], "cxcywh": [25, 40, 30, 40]}
HEADER = {"xyxy": "x1,y1,x2,y2", "xywh": "x,y,w,h", "cxcywh": "cx,cy,w,h"}


def image(name: str = "a.jpg", width: int = 100, height: int = 80) -> Image:
    return Image(name, np.zeros((height, width, 3), np.uint8))


def write(folder: Path, content: object, name: str = "boxes") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def result(
    image_id: Any = 1, bbox: Sequence[Any] = (10, 20, 30, 40), score: Any = 0.5, category_id: Any = 1, **more: Any
) -> dict[str, Any]:
    return {"image_id": image_id, "category_id": category_id, "bbox": list(bbox), "score": score, **more}


def annotation(
    image_id: Any = 1, bbox: Sequence[Any] = (10, 20, 30, 40), area: Any = 1200.0, category_id: Any = 7, **more: Any
) -> dict[str, Any]:
    return {"image_id": image_id, "category_id": category_id, "bbox": list(bbox), "area": area, **more}


def ground_truth(
    annotations: Sequence[dict[str, Any]],
    images: Sequence[Any] = ({"id": 1, "file_name": "a.jpg"},),
    categories: Sequence[dict[str, Any]] = ({"id": 7, "name": "boat"},),
) -> dict[str, Any]:
    return {"images": list(images), "annotations": list(annotations), "categories": list(categories)}


def boxes_of(
    path: Path, images: Sequence[tuple[str, int]] = (("a.jpg", 1),), box_format: str | None = None, **options: Any
) -> tuple[BoxFileDetector, Detections]:
    source = BoxFileDetector(path, box_format, dict(images), **options)
    return source, source([image(images[0][0])])[0]


class TestMeaning:
    def test_results_list(self, tmp_path: Path) -> None:
        path = write(tmp_path, [result(score=0.2, category_id=3), result(score=0.9, category_id=90), result(2)])
        source, found = boxes_of(path)
        np.testing.assert_array_equal(found.boxes, [BOX["xyxy"]] * 2)
        np.testing.assert_allclose(found.scores, [0.9, 0.2])
        np.testing.assert_array_equal(found.category_ids, [90, 3])
        assert source.categories == COCO

    def test_results_with_ids_that_are_not_cocos(self, tmp_path: Path) -> None:
        source, _ = boxes_of(write(tmp_path, [result(category_id=12), result(category_id=1)]))
        assert source.categories == (Category(1, "category 1"), Category(12, "category 12"))

    def test_results_keep_low_scores_unless_told(self, tmp_path: Path) -> None:
        path = write(tmp_path, [result(score=score) for score in (0.0, 0.001, 0.4, 0.4, 0.7)])
        assert len(boxes_of(path)[1]) == 5
        np.testing.assert_allclose(boxes_of(path, min_score=0.4)[1].scores, [0.7, 0.4, 0.4])

    def test_equal_scores_keep_the_order_of_the_file(self, tmp_path: Path) -> None:
        path = write(tmp_path, [result(bbox=(x, 0, 5, 5)) for x in (30, 10, 20)])
        np.testing.assert_array_equal(boxes_of(path)[1].boxes[:, 0], [30, 10, 20])

    def test_ground_truth(self, tmp_path: Path) -> None:
        """Whatever area says: converters write 0, or a share of the image."""
        crowd = annotation(bbox=(0, 0, 5, 5), iscrowd=1, segmentation={"size": [80, 100], "counts": [3, 4]})
        others = [annotation(bbox=(n, 1, 2, 2), area=area) for n, area in enumerate((0.5, 0, -1, None, "?"), 1)]
        path = write(tmp_path, ground_truth([annotation(), crowd, *others]))
        source, found = boxes_of(path)
        np.testing.assert_array_equal(
            found.boxes, [BOX["xyxy"], [0, 0, 5, 5], *([n, 1, n + 2, 3] for n in range(1, 6))]
        )
        np.testing.assert_array_equal(found.scores, [1] * 7)
        assert source.categories == (Category(7, "boat"),)

    def test_ids_are_exact_however_large(self, tmp_path: Path) -> None:
        low, high = 2**60 + 1, 2**63 - 1
        images = [{"id": id, "file_name": f"{id}.jpg"} for id in (low, low + 1, high)]
        classes = [{"id": low, "name": "boat"}, {"id": low + 2, "name": "ship"}]
        truth = ground_truth([annotation(high, category_id=low), annotation(low, category_id=low + 2)], images, classes)
        table = read_box_table(write(tmp_path, truth))
        assert [image.id for image in table.images] == [low, low + 1, high]
        assert table.image_indices.tolist() == [2, 0] and table.category_ids.tolist() == [low, low + 2]
        table = read_box_table(write(tmp_path, [result(high, category_id=low), result(high - 1, category_id=-(2**62))]))
        assert [image.id for image in table.images] == [high, high - 1]
        assert table.category_ids.tolist() == [low, -(2**62)]
        table = read_box_table(write(tmp_path, f"image,x,y,w,h,category\na.jpg,1,2,3,4,{high}\n"))
        assert table.category_ids.tolist() == [high]

    def test_whole_floats_are_ids(self, tmp_path: Path) -> None:
        entry = {"image_id": 1.0, "category_id": 3.0, "bbox": [1.0, 2.0, 3.0, 4.0], "score": 1}
        source, found = boxes_of(write(tmp_path, [entry, result(category_id=3)]))
        assert found.category_ids.tolist() == [3, 3] and source.categories == COCO
        truth = ground_truth([annotation(1.0, category_id=7.0)], [{"id": 1.0, "file_name": "a.jpg", "width": 100.0,
            "height": 80.0}], [{"id": 7.0, "name": "boat"}])  # fmt: skip
        _, found = boxes_of(write(tmp_path, truth))
        assert found.category_ids.tolist() == [7]
        table = read_box_table(write(tmp_path, "image,x,y,w,h,category\na.jpg,1,2,3,4,12.0\na.jpg,1,2,3,4,200.\n"))
        assert table.category_ids.tolist() == [12, 200]

    def test_lvis_names_images_by_their_url(self, tmp_path: Path) -> None:
        images = [{"id": 9, "coco_url": "http://images.example.org/val2017/a.jpg"}]
        _, found = boxes_of(write(tmp_path, ground_truth([annotation(9)], images)))
        assert len(found) == 1

    @pytest.mark.parametrize("layout", BOX)
    def test_csv(self, tmp_path: Path, layout: str) -> None:
        line = ",".join(map(str, BOX[layout]))
        path = write(
            tmp_path, f"\ufeffImage, {HEADER[layout]} ,score,label\na.jpg,{line},0.5,dog\na.jpg,{line},0.75,cat\n"
        )
        source, found = boxes_of(path)
        np.testing.assert_array_equal(found.boxes, [BOX["xyxy"]] * 2)
        np.testing.assert_array_equal(found.scores, [0.75, 0.5])
        np.testing.assert_array_equal(found.category_ids, [17, 18])
        assert source.categories == COCO

    def test_csv_without_scores_and_categories(self, tmp_path: Path) -> None:
        source, found = boxes_of(write(tmp_path, "image,x1,y1,x2,y2\na.jpg,10,20,40,60\n"))
        assert source.categories == (OBJECT,)
        np.testing.assert_array_equal(found.category_ids, [OBJECT.id])
        np.testing.assert_array_equal(found.scores, [1])

    def test_csv_labels_of_the_users_own_and_ids(self, tmp_path: Path) -> None:
        lines = "\na.jpg,0,0,9,9,{}\na.jpg,0,0,9,9,{}\n"
        source, found = boxes_of(write(tmp_path, "image,x,y,w,h,category" + lines.format("gull", "dog")))
        assert source.categories == (Category(1, "gull"), Category(2, "dog"))
        np.testing.assert_array_equal(found.category_ids, [1, 2])
        source, found = boxes_of(write(tmp_path, "image,x,y,w,h,category" + lines.format(200, 12)))
        assert source.categories == (Category(12, "category 12"), Category(200, "category 200"))
        np.testing.assert_array_equal(found.category_ids, [200, 12])

    def test_categories_of_the_caller(self, tmp_path: Path) -> None:
        mine = (Category(5, "gull"), Category(12, "boat"))
        source, _ = boxes_of(write(tmp_path, [result(category_id=12)]), categories=mine)
        assert source.categories == mine
        with pytest.raises(DataError, match="entry 1 is of category 6"):
            boxes_of(write(tmp_path, [result(category_id=12), result(category_id=6)]), categories=mine)

    @pytest.mark.parametrize("layout", BOX)
    def test_declared_formats(self, tmp_path: Path, layout: str) -> None:
        numbers = np.array(BOX[layout])
        shares = (numbers / [100, 80, 100, 80]).tolist()
        csv = f"image,{HEADER[layout]}\na.jpg,{','.join(map(str, shares))}\n"
        for content in ([result(bbox=shares)], ground_truth([annotation(bbox=shares)]), csv):
            _, found = boxes_of(write(tmp_path, content), box_format=f"{layout}-normalised")
            np.testing.assert_allclose(found.boxes, [BOX["xyxy"]], atol=1e-4)
        _, found = boxes_of(write(tmp_path, [result(bbox=numbers.tolist())]), box_format=layout)
        np.testing.assert_array_equal(found.boxes, [BOX["xyxy"]])

    def test_boxes_that_are_counted_otherwise_are_told(self, tmp_path: Path) -> None:
        shares = write(tmp_path, [result(bbox=(0.1, 0.2, 0.3, 0.4))])
        source, _ = boxes_of(shares)
        assert source.notes == [
            "no number of boxes is above 1: of shares of the image, say --box-format xywh-normalised"
        ]
        assert boxes_of(shares, box_format="xywh-normalised")[0].notes == []
        _, found = boxes_of(write(tmp_path, [result(bbox=(40, 30, 90, 70)), result(bbox=(1, 1, 5, 5))] * 2))
        assert found.notes == ()
        _, found = boxes_of(write(tmp_path, [result(bbox=(40, 30, 90, 70)), result(bbox=(50, 30, 80, 70))]))
        assert found.notes == ("most boxes reach far out of the image and were cut: is --box-format right?",)
        _, found = boxes_of(write(tmp_path, [result(), result(bbox=(200, 0, 5, 5))]))
        assert found.notes == ("boxes without area inside the image were dropped",)

    def test_boxes_are_clipped_and_those_outside_counted(self, tmp_path: Path) -> None:
        inside, across, outside, flat = (10, 20, 30, 40), (-10, 70, 30, 40), (100, 0, 5, 5), (3, 3, 0, 5)
        source, found = boxes_of(write(tmp_path, [result(bbox=box) for box in (inside, across, outside, flat)]))
        np.testing.assert_array_equal(found.boxes, [BOX["xyxy"], [0, 70, 20, 80]])
        assert source.counts == {"kept": 2, "dropped_outside_the_image": 2}

    @settings(SHARED_FOLDER)
    @given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 1, width=32)), min_size=1))
    def test_every_box_reaches_its_own_image_once(self, tmp_path: Path, rows: list[tuple[int, float]]) -> None:
        path = write(tmp_path, [result(i, (n, 0, 1, 1), score) for n, (i, score) in enumerate(rows)])
        source = BoxFileDetector(path, None, {f"{i}.jpg": i for i in range(4)})
        found = source([image(f"{i}.jpg", width=len(rows)) for i in range(4)])
        for i, detections in enumerate(found):
            expected = sorted((-score, n) for n, (j, score) in enumerate(rows) if i == j)
            assert [(-score, n) for score, n in zip(detections.scores, detections.boxes[:, 0], strict=True)] == expected


class TestMatching:
    def csv(self, folder: Path, *names: str) -> Path:
        return write(folder, "image,x,y,w,h\n" + "".join(f"{name},{n},0,1,1\n" for n, name in enumerate(names)))

    def places(self, path: Path, *names: str) -> list[int | None]:
        """Each image's first x, which tells the line it came from; None without boxes."""
        found = BoxFileDetector(path, None, {name: n for n, name in enumerate(names)})([image(name) for name in names])
        return [int(boxes.boxes[0, 0]) if len(boxes) else None for boxes in found]

    def test_full_names_come_first(self, tmp_path: Path) -> None:
        assert self.places(self.csv(tmp_path, "1.jpg", "x/1.jpg"), "x/1.jpg", "1.jpg") == [1, 0]

    def test_last_part_where_it_is_unique(self, tmp_path: Path) -> None:
        assert self.places(self.csv(tmp_path, "deep\\er\\1.jpg", "2.jpg"), "x/1.jpg", "y/2.jpg") == [0, 1]

    def test_last_part_shared_in_the_run_or_the_file_is_nobodys(self, tmp_path: Path) -> None:
        assert self.places(self.csv(tmp_path, "1.jpg", "2.jpg"), "x/1.jpg", "y/1.jpg", "2.jpg") == [None, None, 1]
        assert self.places(self.csv(tmp_path, "x/1.jpg", "z/1.jpg"), "x/1.jpg", "y/1.jpg") == [0, None]

    def test_results_named_by_stem_as_ultralytics_writes_them(self, tmp_path: Path) -> None:
        path = write(tmp_path, [result("cat"), result("b.7")])
        found = BoxFileDetector(path, None, {"x/cat.jpg": 1, "b.7.png": 2})([image("x/cat.jpg"), image("b.7.png")])
        assert [len(boxes) for boxes in found] == [1, 1]

    @pytest.mark.parametrize(
        "fields",
        [
            lambda name: {"image_id": 0, "file_name": name},
            lambda name: {"image_id": None, "file_name": name},
            lambda name: {"image_id": name, "file_name": f"deep/{name}"},
            lambda name: {"image_id": name},
        ],
    )
    def test_names_tell_images_apart_whose_ids_do_not(
        self, tmp_path: Path, fields: Callable[[str], dict[str, Any]]
    ) -> None:
        rows = [(10, "a.jpg"), (20, "b.jpg"), (30, "a.jpg")]
        path = write(tmp_path, [result(bbox=(x, 0, 5, 5)) | fields(name) for x, name in rows])
        source = BoxFileDetector(path, None, {"a.jpg": 1, "b.jpg": 2})
        found = source([image("a.jpg"), image("b.jpg")])
        assert [boxes.boxes[:, 0].tolist() for boxes in found] == [[10, 30], [20]]
        assert len(set(source.image_ids.values())) == 2

    def test_names_without_ids(self, tmp_path: Path) -> None:
        named = {key: value for key, value in result(file_name="a.jpg").items() if key != "image_id"}
        assert len(boxes_of(write(tmp_path, [named]))[1]) == 1

    def test_ground_truth_by_id_when_no_name_is_known(self, tmp_path: Path) -> None:
        images = [{"id": 5, "file_name": "five.jpg"}, {"id": 6, "file_name": "six.jpg"}]
        path = write(tmp_path, ground_truth([annotation(6)], images))
        assert len(boxes_of(path, [("p/006.png", 6)])[1]) == 1
        # One known name is enough for ids to say nothing: here 6 is another image.
        source = BoxFileDetector(path, None, {"five.jpg": 1, "other.jpg": 6})
        assert [len(boxes) for boxes in source([image("five.jpg"), image("other.jpg")])] == [0, 0]

    def test_ids_that_only_count_the_images_do_not_stand_for_names(self, tmp_path: Path) -> None:
        named = [result(1, file_name="a.jpg"), result(2, file_name="b.jpg")]
        for content in (named, ground_truth([annotation()])):
            with pytest.raises(DataError, match="is it the right file"):
                boxes_of(write(tmp_path, content), [("other.jpg", 1), ("2.jpg", 2)])

    def test_file_of_other_images_is_refused(self, tmp_path: Path) -> None:
        for content in (
            [result(8)],
            ground_truth([], [{"id": 9, "file_name": "b.jpg"}]),
            "image,x,y,w,h\nb.jpg,1,1,2,2\n",
        ):
            with pytest.raises(DataError, match=r"boxes for none of the run's 1 images"):
                boxes_of(write(tmp_path, content))

    def test_listed_image_without_boxes_is_empty(self, tmp_path: Path) -> None:
        assert len(boxes_of(write(tmp_path, ground_truth([])))[1]) == 0

    @pytest.mark.parametrize("content", [[], "image,x,y,w,h\n"])
    def test_file_without_boxes_is_empty(self, tmp_path: Path, content: object) -> None:
        assert len(boxes_of(write(tmp_path, content))[1]) == 0

    def test_image_of_another_size_fails_alone(self, tmp_path: Path) -> None:
        images = [{"id": 1, "file_name": "a.jpg", "width": 200, "height": 160}]
        with pytest.raises(ImageError, match=r"100 x 80.*200 x 160"):
            boxes_of(write(tmp_path, ground_truth([annotation()], images)))


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in result().items() if name != key}


HUGE = 10**400
BAD_RESULTS = [
    ("entry 1: it has no 'score'", without("score")),
    ("entry 1: it has no 'category_id'", without("category_id")),
    ("entry 1 has no 'bbox' or no 'image_id'", without("bbox")),
    ("entry 1 has no 'bbox' or no 'image_id'", None),
    (r"entry 1: 'bbox' is \[1, 2, 3\], not a list of four numbers", result(bbox=(1, 2, 3))),
    ("entry 1: 'bbox' is null, not a list", without("bbox") | {"bbox": None}),
    (r"entry 1: 'bbox' is .* which holds \"1\", not a number", result(bbox=("1", 2, 3, 4))),
    ("entry 1: 'bbox' is .* which holds true, not a number", result(bbox=(1, 2, 3, True))),
    ("entry 1: 'bbox' is .* which holds .* too large", result(bbox=(HUGE, 2, 3, 4))),
    ("entry 1: 'bbox' is .* which holds .* too large", result(bbox=(HUGE, 2.5, 3, 4))),
    (r"entry 1: 'bbox' is .* which holds 1e\+308, too large", result(bbox=(1, 2, 1e308, 4))),
    ("entry 1: 'bbox' is .* which holds NaN, not a finite number", result(bbox=(10, 20, float("nan"), 4))),
    ("entry 1: 'category_id' is \"dog\", not a whole number", result(category_id="dog")),
    ("entry 1: 'category_id' is true, not a whole number", result(category_id=True)),
    ("entry 1: 'category_id' is null, not a whole number", result(category_id=None)),
    ("entry 1: 'category_id' is 9223372036854775808, not a whole number", result(category_id=2**63)),
    ("entry 1: 'image_id' is 1.5, not a whole number", result(image_id=1.5)),
    (r"entry 1: 'image_id' is \[1\], not a whole number", result(image_id=[1])),
    (r"entry 1: 'image_id' is \"\"", result(image_id="")),
    (r"entry 1: 'image_id' is 1.152921504606847e\+18, a float of 2\^53 or more", result(image_id=2.0**60)),
    ("entry 1: 'score' is Infinity, not a finite number", result(score=float("inf"))),
    ("entry 1: 'score' is null, not a number", result(score=None)),
    ("entry 1: 'file_name' is 5, not text", result(file_name=5)),
    ("entry 1 .* no area when read as xywh", result(bbox=(10, 20, -3, 4))),
]
TWINS = [{"id": 1, "file_name": "a.jpg"}, {"id": 1, "file_name": "b.jpg"}]
NAMESAKES = [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "a.jpg"}]
BAD_TRUTHS = [
    ("annotation 1 is for image 4", ground_truth([annotation(), annotation(4)])),
    ("annotation 2 is of category 8", ground_truth([annotation(), annotation(), annotation(category_id=8)])),
    ("annotation 2 .* no area", ground_truth([annotation(), annotation(), annotation(bbox=(5, 5, -2, 4))])),
    ("annotation 0 has no 'bbox'", ground_truth([{"image_id": 1}])),
    ("no annotation of its list", {**ground_truth([]), "other": [annotation()]}),
    ("list 'categories'", {"images": [], "annotations": []}),
    ("list 'images'", {"boxes": []}),
    ("COCO ground truth", annotation()),
    ("image 0: it has no 'id'", ground_truth([], [{"file_name": "a.jpg"}])),
    ('image 0: it is "a.jpg", not an object', ground_truth([], ["a.jpg"])),
    ("image 0: 'id' is \"1\", not a whole number", ground_truth([], [{"id": "1", "file_name": "a.jpg"}])),
    ("image 0: 'file_name' is 3, not text", ground_truth([], [{"id": 1, "file_name": 3}])),
    ("image 0: 'width' is \"3\", not", ground_truth([], [{"id": 1, "file_name": "a.jpg", "width": "3", "height": 5}])),
    ("category 0: it has no 'name'", ground_truth([], categories=[{"id": 7}])),
    ("images have the same id, 1", ground_truth([], TWINS)),
    ('same file_name, "a.jpg"', ground_truth([], NAMESAKES)),
    ("categories have the same id, 7", ground_truth([annotation()], categories=[{"id": 7, "name": "a"}] * 2)),
]
BAD_TEXTS = [
    ("is not a file of boxes", '[{"image_id": 1, '),
    ("its values are nested too deep", "[" * 100_000),
    ("a number of thousands of digits", "[" + "1" * 9999),
    ("its header has no image, x1", ""),
    ("its header has no image", "x1,y1,x2,y2\n1,2,3,4\n"),
    ("its header has no x2", "image,x1,y1,y2\na.jpg,1,2,4\n"),
    ("line 3: 'w' is \"three\", not a number", "image,x,y,w,h\na.jpg,1,2,3,4\na.jpg,1,2,three,4\n"),
    ("line 3: it has no 'w'", "image,x,y,w,h\na.jpg,1,2,3,4\na.jpg,1,2\n"),
    ("line 2: it has no 'image'", "image,x,y,w,h\n,1,2,3,4\n"),
    ("line 2: 'x' is NaN, not a finite number", "image,x,y,w,h\na.jpg,nan,2,3,4\n"),
    ("line 2: 'h' is 1e\\+300, too large a number", "image,x,y,w,h\na.jpg,1,2,3,1e300\n"),
    ("'category' is 9223372036854775808, not", f"image,x,y,w,h,category\na.jpg,1,2,3,4,{2**63}\n"),
    ("'category' is .* a float of 2", f"image,x,y,w,h,category\na.jpg,1,2,3,4,{2**53}.0\n"),
    ("line 4 .* no area", "image,x1,y1,x2,y2\n\na.jpg,1,2,3,4\na.jpg,30,20,10,40\n"),
]


class TestRefusal:
    @pytest.mark.parametrize(("why", "entry"), BAD_RESULTS)
    def test_bad_entry(self, tmp_path: Path, why: str, entry: Any) -> None:
        path = write(tmp_path, [result(), entry])
        with pytest.raises(DataError, match=f"^{path}: {why}"):
            read_box_table(path)

    @pytest.mark.parametrize(("why", "document"), BAD_TRUTHS)
    def test_bad_ground_truth(self, tmp_path: Path, why: str, document: Any) -> None:
        path = write(tmp_path, document)
        with pytest.raises(DataError, match=f"^{path}: .*{why}"):
            read_box_table(path)

    @pytest.mark.parametrize(("why", "text"), BAD_TEXTS)
    def test_bad_text(self, tmp_path: Path, why: str, text: str) -> None:
        path = write(tmp_path, text)
        with pytest.raises(DataError, match=f"^{path}.*{why}"):
            read_box_table(path)

    def test_pixels_declared_as_shares(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"entry 0 .* are these pixels"):
            read_box_table(write(tmp_path, [result()]), "xywh-normalised")

    def test_declared_format_that_the_header_contradicts(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="its header has no h, w, x, y"):
            read_box_table(write(tmp_path, "image,x1,y1,x2,y2\na.jpg,1,2,3,4\n"), "xywh")

    def test_unknown_format(self, tmp_path: Path) -> None:
        with pytest.raises(UnknownNameError, match="xyxy-normalised"):
            read_box_table(write(tmp_path, [result()]), "xyyx")

    def test_files_that_are_no_text(self, tmp_path: Path) -> None:
        path = tmp_path / "boxes"
        for content in (b"\xff\xd8\xff\xe0\x00\x10JFIF", b"image,x,y,w,h\n\xff", b"[\xff]", b"image,x,y\0,w,h\n1,1"):
            path.write_bytes(content)
            with pytest.raises(DataError, match=f"^{path}"):
                read_box_table(path)
        with pytest.raises(DataError, match="holds no labels"):
            read_box_table(tmp_path)
        with pytest.raises(DataError, match="No such file"):
            read_box_table(tmp_path / "none")

    @given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
    @settings(SHARED_FOLDER)
    def test_any_bytes_are_boxes_or_one_error(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "boxes"
        path.write_bytes(content)
        with pytest.raises(DataError, match="boxes"):
            read_box_table(path)

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
            lambda inner: (
                st.lists(inner, max_size=5)
                | st.dictionaries(
                    st.sampled_from(
                        ["image_id", "bbox", "score", "category_id", "images", "annotations", "categories", "id"]
                    ),
                    inner,
                    max_size=6,
                )
            ),
            max_leaves=20,
        )
    )
    @settings(SHARED_FOLDER, max_examples=200)
    def test_any_json_is_boxes_or_one_error(self, tmp_path: Path, document: Any) -> None:
        path = write(tmp_path, document)
        try:
            table = read_box_table(path)
        except DataError as error:
            assert str(path) in str(error)
        else:
            assert len(table.boxes) == len(table.scores) == len(table.image_indices) == len(table.category_ids)
