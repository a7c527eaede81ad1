"""Data sets at the edge: ids from 0, nothing annotated, empty masks, equal names; and folders that are none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pil
from support.evaluation_cases import (
    HEIGHT,
    WIDTH,
    annotated_photographs,
    compressed,
    crafted,
    ellipse,
    noisy_results,
    perfect_results,
    score,
    write,
)
from support.runs import evsam
from support.scoring import pycocotools_stats

from pipelines.evaluation.annotations import GroundTruth, read_ground_truth
from pipelines.evaluation.detection import Evaluator
from pipelines.evaluation.matching import match, scenes
from pipelines.evaluation.predictions import Predictions, read_results
from pipelines.evaluation.score import score_detections
from pipelines.evaluation.weighted_ap import mean_ap, weighted_ap


def read(folder: Path, truth: dict, results: list[dict]) -> tuple[GroundTruth, Predictions]:
    of_file = read_ground_truth(write(folder, "truth.json", truth))
    return of_file, read_results(write(folder, "results.json", results), of_file)


@pytest.fixture(scope="module")
def data(photographs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return annotated_photographs(tmp_path_factory.mktemp("data"), photographs)


def test_ids_from_zero_score_as_others(tmp_path: Path) -> None:
    truth = crafted()
    lower = {**truth, "annotations": [{**one, "id": one["id"] - 1} for one in truth["annotations"]]}
    assert lower["annotations"][0]["id"] == 0
    for results in (noisy_results(truth), perfect_results(truth)):
        of_file, predictions = read(tmp_path, truth, results)
        from_zero, _ = read(tmp_path, lower, results)
        expected = score_detections(of_file, predictions, Evaluator(of_file))
        found = score_detections(from_zero, predictions, Evaluator(from_zero))
        assert found.metrics == expected.metrics and found.classes == expected.classes
    assert found.metrics["segm"]["AP"] == pytest.approx(1)


def test_empty_masks_are_not_wrong_in_lvis(tmp_path: Path) -> None:
    """lvis-api leaves them out after an image's limit; pycocotools counts them as wrong, and so do we for COCO."""
    truth = crafted()
    good = perfect_results(truth)
    empty = {"score": 2.0, "bbox": [0.0] * 4, "segmentation": compressed(np.zeros((HEIGHT, WIDTH), bool))}
    few, many = ([{**good[0], **empty} for _ in range(count)] + good for count in (5, 300))
    of_file, clean = read(tmp_path, truth, good)
    _, mixed = read(tmp_path, truth, few)
    _, buried = read(tmp_path, truth, many)
    evaluator = Evaluator(of_file)
    for kind in ("segm", "bbox"):
        metrics = evaluator.lvis(mixed, kind).metrics
        assert metrics == evaluator.lvis(clean, kind).metrics
        by_class = weighted_ap(match(scenes(of_file, mixed, kind, 300, lvis=True), mixed))
        assert mean_ap(by_class)[0] == pytest.approx(metrics["AP"], abs=1e-12)
        assert evaluator.lvis(buried, kind).metrics["AR300"] < metrics["AR300"] - 0.05
    coco = evaluator.coco(mixed, "segm").metrics["AP"]
    assert coco == pytest.approx(pycocotools_stats(truth, few, "segm")[0], abs=1e-12)
    assert coco < evaluator.coco(clean, "segm").metrics["AP"]


def test_detections_where_nothing_is_annotated(tmp_path: Path) -> None:
    truth, results = crafted(), noisy_results(crafted())
    of_file, predictions = read(tmp_path, {**truth, "annotations": []}, results)
    scored = score_detections(of_file, predictions, Evaluator(of_file), boundary=True)
    assert scored.metrics["segm"]["AP"] is None and not scored.objects
    assert sum(mistake.count for mistake in scored.mistakes) == len(results)
    write(tmp_path, "empty.json", {**truth, "annotations": []})
    evsam("evaluate", "coco", tmp_path / "empty.json", "-o", tmp_path / "out", "--results", tmp_path / "results.json")
    assert (tmp_path / "out" / "report.html").is_file()


def test_categories_of_one_name_are_told_apart(tmp_path: Path) -> None:
    truth = crafted()
    truth["categories"] = [
        {**one, "name": "cat" if one["id"] in (2, 3) else one["name"]} for one in truth["categories"]
    ]
    path, results = write(tmp_path, "truth.json", truth), write(tmp_path, "results.json", perfect_results(truth))
    evsam("evaluate", "coco", path, "-o", tmp_path / "out", "--results", results, "--no-report", "-q")
    assert list(score(tmp_path / "out" / "results")["classes"]) == ["cat (2)", "cat (3)", "bird"]


def test_black_masks_of_saliency_count(data: Path, tmp_path: Path) -> None:
    """A black mask gives no box, so nothing is found and nothing is wrong there."""
    masks = tmp_path / "masks"
    masks.mkdir()
    Pil.fromarray(ellipse(320, 240, 120, 145, 115, 70).astype(np.uint8) * 255).save(masks / "street.png")
    command = ("evaluate", "saliency", masks, "--images", data / "images", "--offline", "-o")
    evsam(*command, tmp_path / "one")
    Pil.new("L", (320, 180)).save(masks / "game.png")
    evsam(*command, tmp_path / "two")
    (masks / "street.png").unlink()
    evsam(*command, tmp_path / "black")
    one, two, black = (
        json.loads((tmp_path / name / "saliency.json").read_text())["MAE"]["gt-box+evsam-starter"]
        for name in ("one", "two", "black")
    )
    assert 0 < one == pytest.approx(2 * two) and black == 0


def test_folders_that_cannot_be_read_or_written_are_told_in_one_line(data: Path, tmp_path: Path) -> None:
    masks, file = tmp_path / "masks", write(tmp_path, "file", "")
    masks.mkdir()
    Pil.new("L", (320, 180)).save(masks / "game.png")
    results = write(tmp_path, "results.json", [])
    saliency = ("evaluate", "saliency", masks)
    for command, message in (
        (("evaluate", "coco", data / "truth.json", "--results", results, "-o", file), "cannot write to"),
        ((*saliency, "--maps", masks, "-o", file), "cannot write to"),
        ((*saliency, "--images", tmp_path / "nope", "-o", tmp_path / "out"), "nope cannot be searched"),
        (("evaluate", "bsds", masks, "--edges", masks, "-o", file), "cannot write to"),
    ):
        _, err = evsam(*command, code=2)
        assert message in err and err.count("\n") == 1
    Pil.new("L", (320, 180)).save(masks / "game.bmp")
    for option in ("--images", "--maps"):
        _, err = evsam(*saliency, option, data / "images", "-o", tmp_path / "out", code=2)
        assert "has both game.bmp and game.png" in err and err.count("\n") == 1
