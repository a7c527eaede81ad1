"""Results files: which image an entry is of when it has a name, an id or both; and AP 0 is never without a reason."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest
from support.evaluation_cases import write
from support.runs import evsam

from pipelines.errors import DataError
from pipelines.evaluation.annotations import GroundTruth, read_ground_truth
from pipelines.evaluation.predictions import read_results

CAFE = unicodedata.normalize("NFC", "val/caf\u00e9.jpg")


def entry(image: dict, x: int = 10, **more: object) -> dict:
    return {**image, "category_id": 3, "bbox": [x, 10, 20, 20], "score": 0.5, **more}


@pytest.fixture
def truth(tmp_path: Path) -> GroundTruth:
    names = {4: "zebra.jpg", 6: CAFE, 9: "val/000000000139.jpg"}
    images = [{"id": id, "file_name": name, "width": 64, "height": 48} for id, name in names.items()]
    annotations = [
        {"id": n, "image_id": id, "category_id": 3, "bbox": [x, 10, 20, 20], "iscrowd": 0}
        | {"area": 400, "segmentation": [[x, 10, x + 20, 10, x + 20, 30, x, 30]]}
        for n, (id, x) in enumerate({4: 0, 6: 20, 9: 40}.items(), 1)
    ]
    document = {"images": images, "annotations": annotations, "categories": [{"id": 3, "name": "square"}]}
    return read_ground_truth(write(tmp_path, "truth.json", document))


def read(truth: GroundTruth, *entries: dict) -> tuple[list[int], tuple[str, ...]]:
    found = read_results(write(truth.path.parent, "results.json", list(entries)), truth)
    return found.image_ids.tolist(), found.notes


def test_a_name_decides_over_an_id(truth: GroundTruth) -> None:
    first = {"image_id": 6, "file_name": "zebra.jpg"}
    ids, (note,) = read(truth, entry(first), entry({"image_id": 6, "file_name": CAFE}), entry({"image_id": 9}))
    assert ids == [4, 6, 9]
    assert note == "results.json has other image ids than truth.json: its file names decide, as for zebra.jpg"


@pytest.mark.parametrize(
    ("name", "told"),
    [("cafe\u0301.jpg", False), ("val\\caf\u00e9.jpg", False), ("VAL/CAF\u00c9.JPG", True), ("caf%C3%A9.jpg", True)],
)
def test_names_are_matched_as_everywhere(truth: GroundTruth, name: str, told: bool) -> None:
    for image in ({"file_name": name}, {"image_id": name}):
        ids, notes = read(truth, entry(image))
        assert ids == [6] and len(notes) == told


def test_names_in_place_of_ids(truth: GroundTruth) -> None:
    """As ultralytics writes them: stems."""
    assert read(truth, entry({"image_id": "000000000139"}), entry({"image_id": "zebra"})) == ([9, 4], ())


def test_names_of_which_none_is_known_leave_it_to_the_ids(truth: GroundTruth) -> None:
    ids, (note,) = read(truth, entry({"image_id": 4, "file_name": "frame_1.png"}))
    assert ids == [4] and "its image ids decide" in note


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (
            [entry({"image_id": "zebra"}), entry({"image_id": "horse"})],
            'entry 1: its image "horse" is not in truth.json',
        ),
        ([entry({"file_name": "horse.jpg"})], 'entry 0: its image "horse.jpg" is not in truth.json'),
        ([entry({"image_id": 3}), entry({"image_id": 5})], "'image_id' is 3, .*counted from 0"),
        ([entry({"image_id": 0}), entry({"image_id": 2})], "'image_id' is 0, .*places in a sorted list, from 0"),
        ([entry({"image_id": 4}), entry({"image_id": 77})], "entry 1: 'image_id' is 77, .*1 of the file's 2 are"),
        ([entry({"image_id": 4}, category_id=2)], "'category_id' is 2, .*counted from 0"),
        ([entry({"image_id": 4}, category_id=17)], "'category_id' is 17, .*none of the file's 1 are"),
    ],
)
def test_images_and_classes_that_are_not_there(truth: GroundTruth, entries: list[dict], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(truth, *entries)


def test_results_of_images_that_a_limit_leaves_out_are_passed_over(truth: GroundTruth) -> None:
    limited = read_ground_truth(truth.path, limit=1)
    assert read(limited, entry({"file_name": "zebra.jpg"}), entry({"file_name": CAFE}), entry({"image_id": 9}))[0] == [
        4
    ]
    with pytest.raises(DataError, match="horse"):
        read(limited, entry({"file_name": "zebra.jpg"}), entry({"file_name": "horse.jpg"}))


def test_frames_that_are_said_are_compared(truth: GroundTruth) -> None:
    _, (note,) = read(truth, entry({"image_id": 4}, frame="upright"))
    assert "counts in upright pixels of photos that EXIF turns, truth.json does not say in which: zebra.jpg" in note


def test_a_score_of_nothing_comes_with_a_reason(truth: GroundTruth, tmp_path: Path) -> None:
    """The truth's own objects, numbered by the order of their names."""
    order = {4: 9, 6: 4, 9: 6}
    results = [entry({"image_id": order[id]}, x) for id, x in {4: 0, 6: 20, 9: 40}.items()]
    path = write(tmp_path, "results.json", results)
    options = ("--results", path, "--no-report", "--quiet")
    _, err = evsam("evaluate", "coco", truth.path, "-o", tmp_path / "eval", *options)
    score = json.loads((tmp_path / "eval" / "results" / "scores.json").read_text())
    assert score["metrics"]["bbox"]["AP"] == 0
    assert "results.json: 0 of 3 of its best boxes cover an object of their image and class by half" in err
    assert any("best boxes" in note for note in score["notes"])
