"""Any value in any field of COCO's files: it is taken, or one line names the file, the entry and the field."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.evaluation_cases import crafted, noisy_results, write

from pipelines.detectors.box_table import read_box_table
from pipelines.errors import DataError
from pipelines.evaluation.annotations import GroundTruth, read_ground_truth
from pipelines.evaluation.detection import Evaluator
from pipelines.evaluation.predictions import read_results
from pipelines.evaluation.score import score_detections
from pipelines.training.sources import open_source

ODD: list[Any] = [
    None, True, False, 0, -1, 2.0, 2.5, 1e308, -1e308, 2.0**53, 2**63 - 1, 2**63, 10**400, -(10**400), float("nan"),
    float("inf"), "", "7", "a\ud800b", "x\0y", "../x", "\x1b[31m", [], [[]], [1], [None] * 4, ["1"] * 4, [1e15] * 4,
    [1, 2, -3, 4], [10**400, 1, 1, 1], [[1, 2, 3, 4]], [[1, 2, 3]], [[0, 0, 1e14, 5, -1e14, 9.5]],
    [[1, 2, 3, 4, 5, "6"]], [[0.5] * 6, "x"], {}, {"size": [120, 160]}, {"size": [120, 160], "counts": ""},
    {"size": None, "counts": "0"},
    {"size": [120, 160], "counts": "\ud800"}, {"size": [120, 160], "counts": [2**70]},
    {"size": [120.0, 160.0], "counts": [19200.0]}, {"size": [2**40, 2**40], "counts": "0"},
]  # fmt: skip
FIELDS = {
    "images": [
        "id", "file_name", "coco_url", "width", "height", "neg_category_ids", "not_exhaustive_category_ids", "frame",
    ],
    "categories": ["id", "name", "frequency"],
    "annotations": ["id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation"],
    "results": ["image_id", "category_id", "bbox", "score", "segmentation", "file_name", "category_name", "frame"],
}  # fmt: skip
MISSING = object()


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict, list[dict], GroundTruth]:
    folder, truth = tmp_path_factory.mktemp("sound"), crafted(0, 3, 2)
    for image in truth["images"]:
        (folder / image["file_name"]).write_bytes(b"")
    return folder, truth, noisy_results(truth, 0, 4), read_ground_truth(write(folder, "sound.json", truth))


def taken(path: Path, read: Callable[[], Any], *said: str) -> Any:
    """What is read, or None after a message as it should be."""
    try:
        return read()
    except DataError as error:
        line = str(error)
        assert line.startswith(str(path)) and "\n" not in line and len(line) < len(str(path)) + 300
        assert any(word in line for word in said), line
        assert not any(word in line for word in ("object", "argument", "codec", "unpack", "convert", "unhashable"))
        return None


@pytest.mark.parametrize(("where", "field"), [(where, field) for where in FIELDS for field in FIELDS[where]])
def test_any_value_is_taken_or_named(sound: tuple[Path, dict, list[dict], GroundTruth], where: str, field: str) -> None:
    for value in [*ODD, MISSING]:
        read_all(*sound, where, field, value)


def read_all(
    folder: Path, truth: dict, results: list[dict], read: GroundTruth, where: str, field: str, value: Any
) -> None:
    """Spoil one field, read the file in every way that there is, and score what is taken."""
    document = json.loads(json.dumps({**truth, "results": results}))
    entry = document[where][1]
    if value is MISSING:
        entry.pop(field, None)
    else:
        entry[field] = value
    results_path = write(folder, "results.json", document.pop("results"))
    truth_path = write(folder, "truth.json", document)
    said = (f"'{field}'", f"have the same {field}", "its image", "is named", "the same name", "run lengths")
    said += ("not in its list", "not listed", "is said to be")

    if where == "results":
        predictions = taken(results_path, lambda: read_results(results_path, read), *said)
        taken(results_path, lambda: read_box_table(results_path), *said, "entry 1")
        of_file = read
    else:
        of_file = taken(truth_path, lambda: read_ground_truth(truth_path), *said)
        predictions = read_results(write(folder, "sound results.json", results), read)
        taken(truth_path, lambda: read_box_table(truth_path), *said, "annotation 1")
        source = taken(truth_path, lambda: open_source(truth_path, folder), *said, "photos are not in")
        for photo in [source[place] for place in range(len(source))] if source else []:
            for region in photo.regions:
                taken(truth_path, lambda region=region, photo=photo: photo.mask(region, 120, 160), *said)
    if predictions is not None and of_file is not None and of_file.images.keys() == read.images.keys():
        if {one.id for one in of_file.categories} >= set(predictions.category_ids.tolist()):
            score_detections(of_file, predictions, Evaluator(of_file), lvis=of_file.is_lvis)
