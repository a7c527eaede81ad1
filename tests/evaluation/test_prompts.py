"""Where an evaluation's boxes come from, and which classes they are of."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from support.evaluation_cases import annotated_photographs, load_image

from pipelines.detectors.text.contract import Pass
from pipelines.errors import DataError, UsageError
from pipelines.evaluation.annotations import read_ground_truth
from pipelines.evaluation.config import RawBoxFilePrompts
from pipelines.evaluation.prompts import build_evaluation_prompter, named_classes
from pipelines.evaluation.text_prompts import CategoryDetector, phrase_of
from pipelines.types import Category, Detections, Image


@pytest.fixture(scope="module")
def data(photographs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return annotated_photographs(tmp_path_factory.mktemp("data"), photographs)


def test_classes_are_matched_by_name(data: Path, tmp_path: Path) -> None:
    read = read_ground_truth(data / "truth.json")
    images = [load_image(data, "street.jpg")]

    class Coco:
        """A detector of three classes, whose names the truth writes otherwise, or not at all."""

        categories = tuple(Category(id, name) for id, name in ((1, "person"), (2, "bicycle"), (6, "BUS")))
        batch = 1

        def __call__(self, images: Sequence[Image]) -> list:
            boxes = np.array([[0, 0, 9, 9], [0, 0, 8, 8], [0, 0, 7, 7]], np.float32)
            return [Detections(boxes, np.array([0.9, 0.8, 0.7], np.float32), np.array([1, 2, 6]))] * len(images)

    named = named_classes("coco", Coco(), read, {}, False)
    (found,) = named.find(images, [[]])
    assert found.category_ids.tolist() == [4, 6] and found.boxes[:, 2].tolist() == [9, 7]
    assert named.settings["classes_left_out"] == ["bicycle"] and not named.agnostic
    assert named.settings["agnostic"] is False
    agnostic = named_classes("coco", Coco(), read, {}, True)
    assert agnostic.settings["agnostic"] is True
    (every,) = agnostic.find(images, [[]])
    assert every.category_ids.tolist() == [4, 4, 4]
    Coco.categories = Coco.categories[1:2]
    with pytest.raises(UsageError, match="--class-agnostic"):
        named_classes("coco", Coco(), read, {}, False)


def test_box_files_of_every_kind(data: Path, tmp_path: Path) -> None:
    read = read_ground_truth(data / "truth.json")
    images = [load_image(data, name) for name in ("street.jpg", "game.jpg", "grey.jpg")]
    (tmp_path / "boxes.csv").write_text(
        "image,cx,cy,w,h,category,score\nstreet.jpg,50,60,20,10,bus,0.2\nstreet.jpg,5,6,2,2,bus,0.5\n"
    )
    csv_boxes = build_evaluation_prompter(RawBoxFilePrompts(tmp_path / "boxes.csv"), read).find(images, [[]] * 3)
    assert [len(found) for found in csv_boxes] == [2, 0, 0]
    assert csv_boxes[0].boxes.tolist() == [[4, 5, 6, 7], [40, 55, 60, 65]]
    truth_boxes = build_evaluation_prompter(RawBoxFilePrompts(data / "truth.json"), read).find(images, [[]] * 3)
    assert [len(found) for found in truth_boxes] == [3, 4, 0]  # whatever their area
    named = {"image_id": 11, "file_name": "game.jpg", "category_id": 77, "category_name": "Bus"}
    (tmp_path / "named.json").write_text(json.dumps([{**named, "bbox": [1, 2, 3, 4], "score": 0.5}]))
    by_name = build_evaluation_prompter(RawBoxFilePrompts(tmp_path / "named.json"), read).find(images, [[]] * 3)
    assert [found.category_ids.tolist() for found in by_name] == [[], [6], []]
    (tmp_path / "other.json").write_text('[{"image_id": 11, "category_id": 5, "bbox": [0, 0, 1, 1], "score": 1}]')
    with pytest.raises(DataError, match=r"category 5 \(airplane\), which is not in truth\.json"):
        build_evaluation_prompter(RawBoxFilePrompts(tmp_path / "other.json"), read)
    (found, *_) = build_evaluation_prompter(RawBoxFilePrompts(tmp_path / "other.json"), read, agnostic=True).find(
        images, [[]] * 3
    )
    assert found.category_ids.tolist() == [4]
    (tmp_path / "strange.json").write_text('[{"image_id": 999, "category_id": 4, "bbox": [0, 0, 1, 1], "score": 1}]')
    with pytest.raises(DataError, match="none of the 3 images"):
        build_evaluation_prompter(RawBoxFilePrompts(tmp_path / "strange.json"), read)


def test_category_names_take_the_best_pairs(data: Path) -> None:
    """A box may come under several names, as in the published evaluations; none is cut by a threshold."""
    read = read_ground_truth(data / "truth.json")

    class Answers:
        batch = 1

        def read(self, phrases: Sequence[str], *, alone: bool) -> None:
            assert (list(phrases), alone) == (["Person", "bus"], False)

        def __call__(self, images: Sequence[Image]) -> list[list[Pass]]:
            boxes = np.array([[0.5, 0.5, 0.5, 0.5], [0.25, 0.25, 0.1, 0.1], [3, 3, 0.1, 0.1]], np.float32)[:2]
            scores = np.array([[0.5, 0.4], [0.01, 0.6]], np.float32)
            return [[Pass(boxes, scores, np.array([0, 1]))]] * len(images)

    (found,) = CategoryDetector(Answers(), read, 3)([load_image(data, "game.jpg")])
    assert found.category_ids.tolist() == [6, 4, 6] and found.scores.tolist() == pytest.approx([0.6, 0.5, 0.4])
    assert found.boxes[1].tolist() == [80, 45, 240, 135] == found.boxes[2].tolist()
    assert phrase_of("car_(automobile)") == "car (automobile)"
    assert phrase_of("caf\xe9_\ud800\udce9") == "caf\xe9 ??"
