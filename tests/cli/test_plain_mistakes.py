"""Results that are right but for how they count: each mistake is named, good and merely bad ones are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.evaluation_cases import write

from pipelines.categories import COCO
from pipelines.evaluation.annotations import GroundTruth, read_ground_truth
from pipelines.evaluation.numbering import hint
from pipelines.evaluation.plain_mistakes import plain_mistakes
from pipelines.evaluation.predictions import read_results

IDS = [7, 8, 9, 20, 21, 22, 40, 41]
NAMES = ["h.jpg", "g.jpg", "f.jpg", "e.jpg", "d.jpg", "c.jpg", "b.jpg", "a.jpg"]
CLASSES = (1, 18, 19, 20)


def scene() -> tuple[dict, list[dict]]:
    """Eight images of 200 x 100 of COCO's classes, three objects each, and results that are right."""
    rng = np.random.default_rng(3)
    images = [{"id": id, "file_name": name, "width": 200, "height": 100} for id, name in zip(IDS, NAMES, strict=True)]
    annotations, results = [], []
    for id in IDS:
        for _ in range(3):
            x, y = rng.uniform((5, 5), (130, 60)).round(1).tolist()
            w, h = rng.uniform((15, 15), (60, 35)).round(1).tolist()
            category = int(rng.choice(CLASSES))
            entry = {"image_id": id, "category_id": category, "bbox": [x, y, w, h]}
            results.append({**entry, "score": round(float(rng.uniform(0.5, 1)), 2)})
            annotations.append(
                {**entry, "id": len(results), "area": w * h, "iscrowd": 0, "segmentation": [_corners(x, y, w, h)]}
            )
    categories = [{"id": category.id, "name": category.name} for category in COCO]
    return {"images": images, "annotations": annotations, "categories": categories}, results


def _corners(x: float, y: float, w: float, h: float) -> list[float]:
    return [x, y, x + w, y, x + w, y + h, x, y + h]


@pytest.fixture
def truth(tmp_path: Path) -> GroundTruth:
    return read_ground_truth(write(tmp_path, "truth.json", scene()[0]))


def notes(truth: GroundTruth, entries: list[dict], *, agnostic: bool = False) -> list[str]:
    path = write(truth.path.parent, "results.json", entries)
    return plain_mistakes("results", truth, read_results(path, truth, agnostic=agnostic), agnostic=agnostic)


def box(change: Callable[[float, float, float, float], list[float]]) -> Callable[[dict], dict]:
    return lambda entry: {**entry, "bbox": change(*entry["bbox"])}


def place(of: str, start: int) -> Callable[[dict], dict]:
    order = sorted(IDS, key=lambda id: NAMES[IDS.index(id)]) if of == "names" else IDS
    return lambda entry: {**entry, "image_id": order.index(entry["image_id"]) + start}


MISTAKES = [
    ("x1, y1, x2, y2", box(lambda x, y, w, h: [x, y, x + w, y + h])),
    ("y1, x1, y2, x2", box(lambda x, y, w, h: [y, x, y + h, x + w])),
    ("y, x, height, width", box(lambda x, y, w, h: [y, x, h, w])),
    ("centre, width and height", box(lambda x, y, w, h: [x + w / 2, y + h / 2, w, h])),
    ("x, y, width and height, as shares", box(lambda x, y, w, h: [x / 200, y / 100, w / 200, h / 100])),
    ("x1, y1, x2, y2, as shares", box(lambda x, y, w, h: [x / 200, y / 100, (x + w) / 200, (y + h) / 100])),
    ("category ids were counted from 0, one lower", lambda entry: {**entry, "category_id": entry["category_id"] - 1}),
    ("category ids were one higher", lambda entry: {**entry, "category_id": entry["category_id"] + 1}),
    (
        "classes did not count",
        lambda entry: {**entry, "category_id": {1: 18, 18: 1, 19: 20, 20: 19}[entry["category_id"]]},
    ),
]


@pytest.mark.parametrize(("said", "spoil"), MISTAKES, ids=[said for said, _ in MISTAKES])
def test_a_mistake_is_told(truth: GroundTruth, said: str, spoil: Callable[[dict], dict]) -> None:
    entries = [spoil(entry) for entry in scene()[1] if "lower" not in said or entry["category_id"] > 1]
    *_, note = notes(truth, entries)
    assert "of its best boxes cover" in note and " would if" in note and said in note


IMAGES = [
    ("counted from 0, one lower", lambda entry: {**entry, "image_id": entry["image_id"] - 1}, (8, 9, 21, 22, 41)),
    ("one higher", lambda entry: {**entry, "image_id": entry["image_id"] + 1}, (7, 8, 20, 21, 40)),
    ("places in a sorted list, from 1", place("names", 1), (41, 8)),
]


@pytest.mark.parametrize(("said", "spoil", "images"), IMAGES, ids=[said for said, *_ in IMAGES])
def test_images_that_are_counted_otherwise(
    tmp_path: Path, said: str, spoil: Callable[[dict], dict], images: tuple[int, ...]
) -> None:
    document, entries = scene()
    if "places" in said:  # ids that are there, so that nothing else can tell
        numbers = dict(zip(IDS, range(1, 9), strict=True))
        for entry in document["images"]:
            entry["id"] = numbers[entry["id"]]
        for entry in document["annotations"]:
            entry["image_id"] = numbers[entry["image_id"]]
        images = tuple(IDS)
    truth = read_ground_truth(write(tmp_path, "truth.json", document))
    (note,) = notes(truth, [spoil(entry) for entry in entries if entry["image_id"] in images])
    assert f"image ids were {said}" in note


def test_boxes_out_of_their_images_are_told(truth: GroundTruth) -> None:
    entries = scene()[1]
    far = [{**entry, "bbox": [170, 80, 60, 60]} for entry in entries[:4]]
    (note,) = notes(truth, [*entries, *far])
    assert "4 of its 28 boxes reach far out of their images, such as 170, 80, 60, 60 in" in note
    near = [{**entry, "bbox": [170, 80, 31, 21]} for entry in entries]
    assert not any("reach" in note for note in notes(truth, [*entries, *near]))


def test_good_and_merely_bad_results_have_no_note(truth: GroundTruth) -> None:
    entries = scene()[1]
    assert notes(truth, entries) == notes(truth, entries, agnostic=True) == notes(truth, []) == []
    half = [entry if n % 3 else {**entry, "bbox": [0, 0, 9, 9]} for n, entry in enumerate(entries)]
    assert notes(truth, half) == []


def test_results_that_fit_in_no_way(truth: GroundTruth) -> None:
    (note,) = notes(truth, [{**entry, "bbox": [1, 2, 3, 4]} for entry in scene()[1]])
    found = "0 of 24 of its best boxes cover an object of their image and class by half"
    assert note == f"results: {found}: are these predictions for truth.json?"


@pytest.mark.parametrize(
    ("ids", "known", "said"),
    [
        ({0, 1, 2}, {1, 2, 3}, "counted from 0"),
        ({1, 2, 3}, {0, 1, 2}, "one higher"),
        ({0, 1, 3}, {5, 7, 9, 11}, "places in a sorted list, from 0"),
        ({1, 2, 4}, {5, 7, 9, 11}, "places in a sorted list, from 1"),
        ({1, 2, 99}, {1, 2, 3}, "2 of the file's 3 are"),
        ({98, 99}, {1, 2, 3}, "none of the file's 2 are"),
    ],
)
def test_ids_that_are_not_known(ids: set[int], known: set[int], said: str) -> None:
    assert said in hint(ids, known)
