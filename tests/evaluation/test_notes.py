"""What a score says beside its numbers: why one has no value, and what is not in it. Truths with boxes alone."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.evaluation_cases import annotated_photographs, crafted, noisy_results, perfect_results, score, write
from support.runs import evsam
from support.scoring import pycocotools_stats

from pipelines.evaluation.annotations import TruthObject, read_ground_truth
from pipelines.evaluation.detection import Evaluator
from pipelines.evaluation.predictions import read_results
from pipelines.evaluation.protocols import find_protocol
from pipelines.evaluation.score import Scored, score_detections, score_prompted
from pipelines.records import InstanceRecord, Record


def changed(truth: dict, **fields: object) -> dict:
    return {**truth, "annotations": [{**one, **fields} for one in truth["annotations"]]}


def without_masks(truth: dict, count: int = 1000) -> dict:
    """The first objects have boxes alone: `segmentation` is missing, null or empty, in turn."""
    annotations = [dict(one) for one in truth["annotations"]]
    for place, one in enumerate(annotations[:count]):
        one["segmentation"] = (None, [])[place % 2]
        if place % 3 == 0:
            del one["segmentation"]
    return {**truth, "annotations": annotations}


def prompted(folder: Path, truth: dict, protocol: str = "efficientvit-sam") -> Scored:
    """Every object was given its own mask."""
    read = read_ground_truth(write(folder, "truth.json", truth))
    records = [
        Record(image.name, id, image.width, image.height, "done", None, tuple(map(instance, read.objects[id])))
        for id, image in read.images.items()
    ]
    return score_prompted(read, records, find_protocol(protocol))


def instance(found: TruthObject) -> InstanceRecord:
    return InstanceRecord(category_id=2, bbox=[0, 0, 1, 1], score=1.0, segmentation=found.rle)


def detected(folder: Path, truth: dict, results: list[dict], **options: bool) -> Scored:
    read = read_ground_truth(write(folder, "truth.json", truth))
    return score_detections(
        read, read_results(write(folder, "results.json", results), read), Evaluator(read), **options
    )


NO_MIOU: dict[str, tuple[Callable[[dict], dict], str]] = {
    "all objects have areas below 1": (lambda truth: changed(truth, area=0), "efficientvit-sam"),
    "all objects are crowds": (lambda truth: changed(truth, iscrowd=1), "coco"),
    "no object is annotated": (lambda truth: {**truth, "annotations": []}, "efficientvit-sam"),
    "no object has a mask": (without_masks, "efficientvit-sam"),
}


@pytest.mark.parametrize("reason", NO_MIOU)
def test_a_mean_iou_without_objects_says_why(tmp_path: Path, reason: str) -> None:
    change, protocol = NO_MIOU[reason]
    found = prompted(tmp_path, change(crafted()), protocol)
    assert list(found.notes) == [f"no value for mIoU, boundary mIoU: {reason}"]
    assert {value for family in found.metrics.values() for value in family.values()} == {None}


def test_what_is_not_in_a_mean_iou_is_counted(tmp_path: Path) -> None:
    truth = crafted()
    small = next(place for place, one in enumerate(truth["annotations"]) if one["area"] == 0.4)
    assert small > 3
    found = prompted(tmp_path, without_masks(truth, 3))
    total = len(truth["annotations"])
    assert found.metrics["mIoU"]["all"] == pytest.approx(100)
    assert list(found.notes) == [
        f"3 of {total} objects have no mask: they are not in mIoU",
        f"1 of {total} objects have areas below 1: they are not in mIoU",
    ]
    assert len(found.objects) == total - 4


NO_AP: dict[str, Callable[[dict], dict]] = {
    "no value for segm, bbox, class-agnostic: all objects are crowds": lambda truth: changed(truth, iscrowd=1),
    "no value for segm, bbox, class-agnostic: no object is annotated": lambda truth: {**truth, "annotations": []},
    "no value for segm, bbox, class-agnostic: all objects have areas below 0": lambda truth: changed(truth, area=-1),
    "no value for APm, APl, ARm, ARl: no object is of that size": lambda truth: changed(truth, area=1),
}


@pytest.mark.parametrize("note", NO_AP)
def test_an_ap_without_objects_says_why(tmp_path: Path, note: str) -> None:
    truth = crafted()
    assert list(detected(tmp_path, NO_AP[note](truth), noisy_results(truth)).notes) == [note]


def test_an_ap_of_lvis_says_which_classes_are_not_there(tmp_path: Path) -> None:
    truth = changed(crafted(), category_id=2, area=2000.0)
    found = detected(tmp_path, truth, perfect_results(truth), lvis=True)
    assert found.metrics["segm"]["APf"] is not None
    assert list(found.notes) == [
        "no value for APs, APl, ARs, ARl: no object is of that size",
        "no value for APr, APc: no object is of a class of that frequency",
    ]


@pytest.mark.parametrize("lvis", [False, True])
def test_boxes_alone_are_scored_as_boxes(tmp_path: Path, lvis: bool) -> None:
    truth = crafted()
    results = noisy_results(truth)
    whole = detected(tmp_path, truth, results, lvis=lvis)
    found = detected(tmp_path, without_masks(truth), results, lvis=lvis, boundary=True)
    assert found.metrics["bbox"] == whole.metrics["bbox"]
    assert set(found.metrics["segm"].values()) == {None} == set(found.metrics["boundary"].values())
    total = len(truth["annotations"])
    assert list(found.notes) == [f"no value for segm, boundary: {total} of {total} objects have no mask"]
    assert found.classes and all(one.iou <= 1 for one in found.objects)
    boxes = [{key: value for key, value in one.items() if key != "segmentation"} for one in results]
    assert detected(tmp_path, without_masks(truth), boxes, lvis=lvis).metrics["bbox"] == whole.metrics["bbox"]
    if not lvis:
        theirs = pycocotools_stats(truth, results, "bbox")
        assert list(found.metrics["bbox"].values()) == pytest.approx(theirs, abs=1e-12)


def test_where_some_have_masks_boxes_are_scored_of_all(tmp_path: Path) -> None:
    """A mask that is found for an object without one would count as wrong."""
    truth = crafted()
    results = noisy_results(truth)
    found = detected(tmp_path, without_masks(truth, 3), results)
    assert found.metrics["bbox"] == detected(tmp_path, truth, results).metrics["bbox"]
    assert set(found.metrics["segm"].values()) == {None}
    assert list(found.notes) == [f"no value for segm: 3 of {len(truth['annotations'])} objects have no mask"]


def test_boundary_of_boxes_says_why_not(tmp_path: Path) -> None:
    truth = crafted()
    boxes = [{key: value for key, value in one.items() if key != "segmentation"} for one in noisy_results(truth)]
    found = detected(tmp_path, truth, boxes, boundary=True)
    assert list(found.notes) == ["boundary AP needs masks, and the results have boxes alone"]


@pytest.fixture(scope="module")
def data(photographs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return annotated_photographs(tmp_path_factory.mktemp("data"), photographs)


def test_the_command_prints_and_writes_them(data: Path, tmp_path: Path) -> None:
    """A truth with boxes alone, whose areas were not worked out, prompted with its boxes and with clicks."""
    truth = changed(without_masks(json.loads((data / "truth.json").read_text())), area=0)
    path = write(tmp_path, "truth.json", truth)
    options = ("--images", data / "images", "--gt-boxes", "--clicks", "2", "--boxes", path, "--device", "cpu")
    out, err = evsam("evaluate", "coco", path, "-o", tmp_path / "out", *options)
    masks = "no value for mIoU, boundary mIoU: no object has a mask"
    boxes = "no value for segm: 7 of 7 objects have no mask"
    assert f"note: {masks}\n" in err and f"note: {boxes}\n" in err
    assert score(tmp_path / "out" / "gt-box+evsam-starter")["notes"] == [masks]
    of_boxes = score(tmp_path / "out" / "truth+evsam-starter")
    assert boxes in of_boxes["notes"] and of_boxes["metrics"]["bbox"]["AP"] > 0.5
    assert " - " in out and (tmp_path / "out" / "report.html").is_file()


def test_text_that_is_no_text_is_scored(data: Path, tmp_path: Path) -> None:
    """A category of a lone surrogate, and photos whose names are no UTF-8, as file systems give them."""
    truth = json.loads((data / "truth.json").read_text())
    truth["categories"][0]["name"] = "a\ud800b"
    (tmp_path / "images").mkdir()
    for place, image in enumerate(truth["images"]):
        photo = (data / "images" / image["file_name"]).read_bytes()
        image["file_name"] = os.fsdecode(b"caf\xe9 %d.jpg" % place)
        try:
            (tmp_path / "images" / image["file_name"]).write_bytes(photo)
        except OSError:
            pytest.skip("this file system takes UTF-8 alone")
    for one in truth["categories"]:
        one["frequency"] = "\udcff"
    path = write(tmp_path, "truth.json", truth)
    options = ("--images", tmp_path / "images", "--gt-boxes", "--device", "cpu")
    evsam("evaluate", "coco", path, "-o", tmp_path / "out", *options)
    scores = score(tmp_path / "out" / "gt-box+evsam-starter")
    assert "a\ud800b" in scores["classes"] and scores["metrics"]["mIoU"]["all"] > 30
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "a\\ud800b" in page and "caf\\udce9 0.jpg" in page and "data:image/jpeg" in page
    own = tmp_path / "out" / "gt-box+evsam-starter" / "coco_results.json"
    evsam("evaluate", "coco", path, "-o", tmp_path / "again", "--results", own)
