"""mIoU, boundaries, clicks and the annotation file: equal to plain formulations, crafted and on photographs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from reference import plain_evaluation as plain
from support.evaluation_cases import HEIGHT, WIDTH, blob, crafted, decoded, rectangle, uncompressed, write
from support.scoring import distorted, records_for

from pipelines import rle
from pipelines.errors import DataError
from pipelines.evaluation.annotations import read_ground_truth
from pipelines.evaluation.boundary import boundary
from pipelines.evaluation.clicks import click_rounds, next_click
from pipelines.evaluation.miou import iou
from pipelines.evaluation.protocols import PROTOCOLS, find_protocol
from pipelines.evaluation.score import score_prompted
from pipelines.records import Record
from pipelines.sam import build_sam


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("name", "reference"), [("efficientvit-sam", plain.published_miou), ("coco", plain.coco_miou)])
def test_miou_equals_the_plain_formulation(tmp_path: Path, name: str, reference: object, seed: int) -> None:
    truth = crafted(seed)
    masks = distorted(truth, seed)
    read = read_ground_truth(write(tmp_path, "truth.json", truth))
    scored = score_prompted(read, records_for(truth, masks), find_protocol(name))
    pairs = list(zip(masks, decoded(truth["annotations"]), strict=True))
    assert scored.metrics["mIoU"] == pytest.approx(reference(pairs), abs=1e-9)
    bands = [(plain.boundary(mask), {**one, "mask": plain.boundary(one["mask"])}) for mask, one in pairs]
    assert scored.metrics["boundary mIoU"] == pytest.approx(reference(bands), abs=1e-9)


def test_borders_of_the_sizes(tmp_path: Path) -> None:
    """An object of 1024 or 9216 pixels counts in two sizes of the published protocol and in one of COCO's."""
    truth = crafted()
    for keep, area in (("small", 1024.0), ("large", 9216.0)):
        truth["annotations"] = [{**crafted()["annotations"][0], "area": area}]
        read = read_ground_truth(write(tmp_path, "truth.json", truth))
        records = records_for(truth, [decoded(truth["annotations"])[0]["mask"]])
        sizes = {
            name: {
                size
                for size, value in score_prompted(read, records, protocol).metrics["mIoU"].items()
                if value is not None
            }
            for name, protocol in PROTOCOLS.items()
        }
        assert sizes["efficientvit-sam"] == {"all", "medium", keep}
        assert sizes["coco"] == {"all", "medium" if area == 1024 else "large"}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_perfect_masks_score_100_and_empty_ones_0(tmp_path: Path, name: str) -> None:
    truth = crafted()
    read = read_ground_truth(write(tmp_path, "truth.json", truth))
    masks = [one["mask"] for one in decoded(truth["annotations"])]
    for predicted, expected in ((masks, 100.0), ([np.zeros_like(mask) for mask in masks], 0.0)):
        metrics = score_prompted(read, records_for(truth, predicted), find_protocol(name)).metrics
        for family in ("mIoU", "boundary mIoU"):
            assert list(metrics[family].values()) == pytest.approx([expected] * 4, abs=1e-5)


def test_images_that_failed_count_as_empty_and_missing_ones_are_told(tmp_path: Path) -> None:
    truth = crafted()
    read = read_ground_truth(write(tmp_path, "truth.json", truth))
    masks = [one["mask"] for one in decoded(truth["annotations"])]
    records = records_for(truth, masks)
    records[0] = Record(records[0].name, records[0].image_id, 0, 0, "failed", "broken")
    scored = score_prompted(read, records, find_protocol("coco"))
    assert len(scored.objects) == sum(not one["iscrowd"] for one in truth["annotations"])
    assert {one.image_id for one in scored.objects if one.iou == 0} == {truth["images"][0]["id"]}
    with pytest.raises(DataError, match="has no record"):
        score_prompted(read, records[:2] + records[3:], find_protocol("coco"))


def test_records_of_other_annotations_are_refused(tmp_path: Path) -> None:
    truth = crafted()
    records = records_for(truth, [one["mask"] for one in decoded(truth["annotations"])])
    truth["annotations"].pop(0)
    read = read_ground_truth(write(tmp_path, "truth.json", truth))
    with pytest.raises(DataError, match="the annotations have changed"):
        score_prompted(read, records, find_protocol("coco"))


masks = st.integers(0, 2**32 - 1).map(lambda seed: blob(np.random.default_rng(seed)))


@settings(max_examples=60)
@given(masks, masks)
def test_iou_of_any_masks(one: np.ndarray, other: np.ndarray) -> None:
    first, second = rle.encode(one), rle.encode(other)
    assert iou(first, second) == pytest.approx(plain.overlap(one, other, False), abs=1e-12)
    assert iou(first, second) == iou(second, first)


@settings(max_examples=40)
@given(masks, st.integers(0, 3), st.integers(1, 4))
def test_boundary_of_any_mask(mask: np.ndarray, turns: int, bigger: int) -> None:
    """Also of masks that touch the image's border, of other sizes and upright."""
    mask = np.ascontiguousarray(np.rot90(np.kron(mask[::bigger, ::bigger], np.ones((bigger, 1), bool)), turns))
    assert (rle.decode(boundary(rle.encode(mask))) == plain.boundary(mask)).all()


@settings(max_examples=30)
@given(masks, masks, st.lists(st.tuples(st.integers(0, 39), st.integers(0, 29)), max_size=4))
def test_next_click_of_any_masks(mask: np.ndarray, truth: np.ndarray, clicked: list[tuple[int, int]]) -> None:
    mask, truth = (np.ascontiguousarray(shape[::4, ::4]) for shape in (mask, truth))
    assert next_click(mask, truth, clicked) == plain.ritm_click(mask, truth, clicked)


def test_the_first_of_equally_far_pixels_is_clicked() -> None:
    truth = rectangle(10, 20, 40, 40) | rectangle(80, 20, 40, 40)
    assert next_click(np.zeros_like(truth), truth, []) == (29, 39, 1)
    assert next_click(np.zeros_like(truth), truth, [(29, 39)]) == (30, 39, 1)
    assert next_click(truth, rectangle(10, 20, 40, 40), []) == (99, 39, 0)
    assert next_click(truth, truth, []) == (0, 0, 0)  # nothing is wrong: as RITM's clicker, which still must click


def test_clicks_on_a_photograph_equal_the_plain_protocol(photograph: np.ndarray) -> None:
    """RITM with the starter SAM, one object at a time, through the general `predict`: the same masks and IoU."""
    sam = build_sam("evsam-starter", offline=True)
    sam.set_image(photograph)
    height, width = photograph.shape[:2]
    y, x = np.mgrid[:height, :width]
    truths = [
        ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1 for cx, cy, rx, ry in ((140, 250, 60, 150), (420, 200, 150, 90))
    ]
    ours = click_rounds(sam.image, [rle.encode(truth) for truth in truths], (1, 2, 3))
    for place, truth in enumerate(truths):
        mask, clicks = np.zeros_like(truth), []
        for masks in ours:
            clicks.append(next_click(mask, truth, [(cx, cy) for cx, cy, _ in clicks]))
            points = np.array([[[cx, cy] for cx, cy, _ in clicks]], np.float32)
            answer = sam.predict(points=points, labels=np.array([[label for *_, label in clicks]]))
            best = answer.predicted_iou[0].argmax()
            mask = rle.decode(masks.rles[place])
            logits = sam.image.upscaler.to_logits(torch.from_numpy(answer.low_res_masks[0, [best]]))[0].numpy()
            on_the_edge = np.abs(logits) < 1e-4  # where the order of a sum decides
            assert (mask == answer.masks[0, best])[~on_the_edge].all()
            assert on_the_edge.mean() < 1e-4
            assert iou(masks.rles[place], rle.encode(truth)) == pytest.approx(
                plain.overlap(mask, truth, False), abs=1e-9
            )


def test_ground_truth_is_read_as_pycocotools_reads_it(tmp_path: Path) -> None:
    truth = crafted(2)
    path = write(tmp_path, "truth.json", truth)
    read, coco = read_ground_truth(path), COCO(str(path))
    assert [one for of_image in read.objects.values() for one in of_image]
    for image_id, objects in read.objects.items():
        for found in objects:
            theirs = coco.anns[found.id]
            assert theirs["image_id"] == image_id
            assert (rle.decode(found.rle) == coco.annToMask(theirs)).all()
            assert list(found.bbox) == theirs["bbox"] and found.area == theirs["area"]
            assert found.crowd == bool(theirs["iscrowd"])


def test_what_a_file_leaves_out_comes_from_the_mask(tmp_path: Path) -> None:
    truth = crafted()
    mask = rectangle(3, 4, 50, 20)
    truth["annotations"] = [{"id": 1, "image_id": 10, "category_id": 2, "segmentation": uncompressed(mask)}]
    truth["images"] = [
        {"id": 10, "coco_url": "http://images/val2017/000000000010.jpg", "width": WIDTH, "height": HEIGHT}
    ]
    read = read_ground_truth(write(tmp_path, "truth.json", truth))
    (found,) = read.objects[10]
    assert (found.bbox, found.area, found.crowd) == ((3, 4, 50, 20), 1000, False)
    assert read.images[10].name == "val2017/000000000010.jpg"


def test_whole_floats_are_ids_and_sizes(tmp_path: Path) -> None:
    truth = crafted()
    expected = read_ground_truth(write(tmp_path, "whole.json", truth))
    as_floats = json.loads(json.dumps(truth), parse_int=float)
    assert isinstance(as_floats["annotations"][0]["image_id"], float)
    found = read_ground_truth(write(tmp_path, "floats.json", as_floats))
    assert (found.images, found.objects, found.categories) == (expected.images, expected.objects, expected.categories)
    assert all(type(id) is int for id in found.images)


def test_polygons_that_cover_nothing_are_left_out_and_told(tmp_path: Path) -> None:
    truth = crafted()
    sound = [10.0, 10, 60, 12, 40, 70]
    one, two, three, four = ({**truth["annotations"][0], "id": id} for id in range(4))
    one["segmentation"] = [[3, 3, 9, 9], sound, []]
    two["segmentation"] = [[3, 3, 9, 9]]
    three["segmentation"] = [[5, 5, 50, 50, 90, 90]]
    four["segmentation"] = [[900.0, 900, 960, 900, 960, 960]]
    read = read_ground_truth(write(tmp_path, "truth.json", {**truth, "annotations": [one, two, three, four]}))
    mended, *empty = read.objects[one["image_id"]]
    assert (rle.decode(mended.rle) == plain.decode([sound], HEIGHT, WIDTH)).all()
    assert [rle.area(found.rle) for found in empty] == [0, 0, 0] and all(found.masked for found in empty)
    assert read.notes == [
        "left out of truth.json: 3 polygons, which cover nothing with fewer than three corners "
        "(2 annotations, such as 0, 1)",
        "masks of truth.json that cover no pixel count as objects that no mask finds (3 annotations, such as 1, 2, 3)",
    ]


def test_corners_far_outside_are_drawn_as_far_as_the_image_goes(tmp_path: Path) -> None:
    truth = crafted()
    entry = truth["annotations"][0]
    entry["segmentation"] = [[-9e5, -9e5, 9e5, -9e5, 9e5, 20.5, -9e5, 20.5] * 999]
    read = read_ground_truth(write(tmp_path, "truth.json", {**truth, "annotations": [entry]}))
    mask = rle.decode(read.objects[entry["image_id"]][0].rle)
    assert mask[:20].all() and not mask[22:].any()


def of_image(**fields: object) -> Callable[[dict], dict]:
    return lambda d: {**d, "images": [{**d["images"][0], **fields}]}


def of_annotation(**fields: object) -> Callable[[dict], dict]:
    return lambda d: {**d, "annotations": [{**d["annotations"][0], **fields}]}


def of_category(**fields: object) -> Callable[[dict], dict]:
    return lambda d: {**d, "categories": [{**d["categories"][0], **fields}]}


BAD_TRUTHS = {
    "a results file is itself a list": lambda d: [],
    "list 'images'": lambda d: {**d, "images": 3},
    "it lists no image": lambda d: {**d, "images": [], "annotations": []},
    "it lists no category": lambda d: {**d, "categories": [], "annotations": []},
    "two of its images have the same id, 1": lambda d: {**d, "images": d["images"] * 2},
    'two of its images have the same name, "a.jpg"': lambda d: {
        **d,
        "images": [{**one, "file_name": "a.jpg"} for one in d["images"]],
    },
    "two of its categories have the same id": lambda d: {**d, "categories": d["categories"] * 2},
    "two of its annotations have the same id, 1": lambda d: {**d, "annotations": d["annotations"][:1] * 2},
    "image 0: it has no 'width'": lambda d: {**d, "images": [{"id": 1, "file_name": "a.jpg"}]},
    "image 0: it has neither a 'file_name'": lambda d: {**d, "images": [{"id": 1, "width": 2, "height": 2}]},
    "image 0: it is 3, not an object": lambda d: {**d, "images": [3]},
    "leaves the folder": of_image(file_name="../secret.jpg"),
    "image 0: 'id' is -1, not a whole number from 0": of_image(id=-1),
    "image 0: 'id' is \"5\", not a whole number": of_image(id="5"),
    "image 0: 'id' is 9007199254740992.0, a float of 2^53 or more": of_image(id=2.0**53),
    "image 0: 'id' is 9223372036854775808, not a whole number": of_image(id=2**63),
    "image 0: 'height' is true, not a whole number from 1": of_image(height=True),
    "image 0: it is said to be 1000000 x 1000000": of_image(width=10**6, height=10**6),
    "image 0: 'neg_category_ids' is null, not a list": of_image(neg_category_ids=None),
    "image 0: 'not_exhaustive_category_ids' is \"23\", not": of_image(not_exhaustive_category_ids="23"),
    "image 0: 'neg_category_ids' is 2.5, not a whole number": of_image(neg_category_ids=[2.5]),
    "category 0: it has no 'name'": lambda d: {**d, "categories": [{"id": 2}]},
    "category 0: 'id' is -2, not": of_category(id=-2),
    "category 0: 'name' is null, not text": of_category(name=None),
    "category 0: 'frequency' is 5, not text": of_category(frequency=5),
    "annotation 0: it is null, not an object": lambda d: {**d, "annotations": [None]},
    "annotation 0: 'id' is -1, not a whole number": of_annotation(id=-1),
    "annotation 0: 'image_id' is 99, which is not in its list 'images'": of_annotation(image_id=99),
    "annotation 0: 'image_id' is [], not a whole number": of_annotation(image_id=[]),
    "annotation 0: 'category_id' is 1, which is not in its list 'categories'": of_annotation(category_id=1),
    "annotation 0: it has neither a 'segmentation' nor a 'bbox'": of_annotation(segmentation=[], bbox=None),
    "annotation 0: the run lengths of 'segmentation' do not fill": of_annotation(
        segmentation={"size": [HEIGHT, WIDTH], "counts": [5]}
    ),
    "annotation 0: a mask's run lengths": of_annotation(segmentation={"size": [HEIGHT, WIDTH], "counts": "05"}),
    "annotation 0: a mask's run": of_annotation(segmentation={"size": [HEIGHT, WIDTH], "counts": "\ud800"}),
    "annotation 0: 'segmentation' has a polygon with a corner at Infinity": of_annotation(
        segmentation=[[0, 0, 5, 5, 0, float("inf")]]
    ),
    "annotation 0: 'area' is NaN, not a finite number": of_annotation(area=float("nan")),
    "annotation 0: 'area' is null, not a number": of_annotation(area=None),
    "annotation 0: 'bbox' is [1, 2, -3, 4], whose width or height is below 0": of_annotation(bbox=[1, 2, -3, 4]),
    "annotation 0: 'bbox' is [1, 2, 1e+308, 4], which holds 1e+308, too large": of_annotation(bbox=[1, 2, 1e308, 4]),
    'annotation 0: \'bbox\' is [1, 2, "3", 4], which holds "3", not a number': of_annotation(bbox=[1, 2, "3", 4]),
    "annotation 0: 'iscrowd' is \"0\", neither 0 nor 1": of_annotation(iscrowd="0"),
}


@pytest.mark.parametrize("message", BAD_TRUTHS)
def test_bad_annotation_files_are_refused_in_one_line(tmp_path: Path, message: str) -> None:
    path = write(tmp_path, "truth.json", BAD_TRUTHS[message](crafted()))
    with pytest.raises(DataError, match=r"truth\.json: ") as caught:
        read_ground_truth(path)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "\x00", '{"images": [' * 100_000])
def test_what_is_no_json_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "truth.json"
    path.write_text(text)
    with pytest.raises(DataError, match="is not an annotation file"):
        read_ground_truth(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_ground_truth(tmp_path / "none.json")


def test_the_crafted_case_has_what_it_promises() -> None:
    truth = crafted()
    areas = [one["area"] for one in truth["annotations"]]
    assert {1024, 9216, 0.4} <= set(areas) and sum(one["iscrowd"] for one in truth["annotations"]) == 2
    assert len({one["image_id"] for one in truth["annotations"]}) < len(truth["images"])
    assert any(0 in one["bbox"][2:] for one in truth["annotations"])
    assert any(one["bbox"][0] > WIDTH for one in truth["annotations"])
