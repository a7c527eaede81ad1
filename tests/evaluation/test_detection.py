"""AP and AR: equal to pycocotools, to a plain formulation, and, from matches, to themselves."""

from __future__ import annotations

import json
from pathlib import Path

import hotcoco
import numpy as np
import pytest
from reference import plain_evaluation as plain
from support.evaluation_cases import (
    compressed,
    crafted,
    decoded,
    noisy_results,
    perfect_results,
    with_large_ids,
    write,
)
from support.scoring import pycocotools_stats

from pipelines.errors import DataError
from pipelines.evaluation.annotations import GroundTruth, read_ground_truth
from pipelines.evaluation.breakdown import KINDS, break_down
from pipelines.evaluation.detection import Evaluator
from pipelines.evaluation.matching import match, scenes
from pipelines.evaluation.predictions import Predictions, read_results
from pipelines.evaluation.protocols import LARGE, SMALL
from pipelines.evaluation.score import score_detections
from pipelines.evaluation.weighted_ap import mean_ap, weighted_ap

SEEDS = range(4)
AREAS = {"": (0, 1e10), "s": (0, SMALL), "m": (SMALL, LARGE), "l": (LARGE, 1e10)}


def case(folder: Path, seed: int) -> tuple[dict, list[dict], GroundTruth, Predictions]:
    truth = crafted(seed)
    results = noisy_results(truth, seed)
    read = read_ground_truth(write(folder, "truth.json", truth))
    return truth, results, read, read_results(write(folder, "results.json", results), read)


@pytest.mark.parametrize("kind", ["segm", "bbox"])
@pytest.mark.parametrize("seed", SEEDS)
def test_twelve_numbers_equal_pycocotools(tmp_path: Path, seed: int, kind: str) -> None:
    truth, results, read, predictions = case(tmp_path, seed)
    ours = Evaluator(read).coco(predictions, kind).metrics
    theirs = pycocotools_stats(truth, results, kind)
    names = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]
    assert list(ours) == names
    assert [-1 if value is None else value for value in ours.values()] == pytest.approx(theirs, abs=1e-12)
    assert 0.05 < ours["AP"] < 0.95


@pytest.mark.parametrize("kind", ["segm", "bbox"])
@pytest.mark.parametrize("seed", SEEDS)
def test_ids_may_be_as_large_as_64_bits_hold(tmp_path: Path, seed: int, kind: str) -> None:
    """Floats skip whole numbers from 2^53 on; the plain formulations above and below have small ids."""
    truth, results, read, predictions = case(tmp_path, seed)
    large, large_results, small_ids = with_large_ids(truth, results, seed)
    large_read = read_ground_truth(write(tmp_path, "large.json", large))
    large_predictions = read_results(write(tmp_path, "large results.json", large_results), large_read)
    assert large_read.objects.keys() == {image["id"] for image in large["images"]} > {2**63 - 1}
    before, after = Evaluator(read), Evaluator(large_read)
    for score, large_score in ((before.coco, after.coco), (before.agnostic, after.agnostic), (before.lvis, after.lvis)):
        expected, found = score(predictions, kind), large_score(large_predictions, kind)
        assert found.metrics == expected.metrics
        assert {small_ids[id]: ap for id, ap in found.class_ap.items()} == expected.class_ap
    theirs = pycocotools_stats(large, large_results, kind)
    assert list(after.coco(large_predictions, kind).metrics.values()) == pytest.approx(theirs, abs=1e-12)
    if kind == "segm":
        ours = score_detections(large_read, large_predictions, after, lvis=True)
        expected = score_detections(read, predictions, before, lvis=True)
        assert ours.metrics == expected.metrics and ours.mistakes == expected.mistakes
        assert [one.iou for one in ours.objects] == [one.iou for one in expected.objects]


def test_results_through_a_table_score_the_same(tmp_path: Path) -> None:
    """Tables turn whole numbers into floats."""
    _, results, read, predictions = case(tmp_path, 0)
    as_floats = json.loads(json.dumps(results), parse_int=float)
    assert isinstance(as_floats[0]["category_id"], float)
    assert isinstance(as_floats[0]["segmentation"]["size"][0], float)
    found = read_results(write(tmp_path, "floats.json", as_floats), read)
    assert Evaluator(read).coco(found, "segm").metrics == Evaluator(read).coco(predictions, "segm").metrics
    assert found.image_ids.tolist() == predictions.image_ids.tolist()


def test_polygons_of_results_that_cover_nothing_are_left_out(tmp_path: Path) -> None:
    read = read_ground_truth(write(tmp_path, "truth.json", crafted()))
    sound = [10.0, 10, 60, 12, 40, 70]
    entries = [{**BOX, "segmentation": shape} for shape in ([[1, 1, 5, 5], sound], [sound], [[1, 1]])]
    found = read_results(write(tmp_path, "results.json", entries), read)
    assert found.rles[0] == found.rles[1] and found.areas.tolist() == [found.areas[1]] * 2 + [0]
    assert found.notes == (
        "left out of results.json: 2 polygons, which cover nothing with fewer than three corners "
        "(2 entries, such as 0, 2)",
    )


@pytest.mark.parametrize("kind", ["segm", "bbox"])
@pytest.mark.parametrize("seed", SEEDS)
def test_ap_equals_the_plain_formulation(tmp_path: Path, seed: int, kind: str) -> None:
    truth, results, read, predictions = case(tmp_path, seed)
    document, found = {**truth, "annotations": decoded(truth["annotations"])}, decoded(results, kind)
    ours = Evaluator(read).coco(predictions, kind)
    for size, area in AREAS.items():
        precision, recall, classes = plain.precisions(document, found, kind, area=area)
        assert ours.metrics[f"AP{size}"] == pytest.approx(plain.average(precision), abs=1e-9, nan_ok=True)
        assert ours.metrics[f"AR{size or '100'}"] == pytest.approx(plain.average(recall), abs=1e-9)
        if not size:
            assert ours.metrics["AP75"] == pytest.approx(plain.average(precision[5]), abs=1e-9)
            expected = {id: precision[:, :, k].mean() for k, id in enumerate(classes) if precision[0, 0, k] > -1}
            assert ours.class_ap == pytest.approx(expected, abs=1e-9)
            assert ours.precision == pytest.approx(precision[:, :, precision[0, 0] > -1].mean(2), abs=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_class_agnostic_equals_the_plain_formulation(tmp_path: Path, seed: int) -> None:
    truth, results, read, predictions = case(tmp_path, seed)
    document, found = {**truth, "annotations": decoded(truth["annotations"])}, decoded(results)
    ours = Evaluator(read).agnostic(predictions, "segm").metrics
    for limit in (10, 100, 1000):
        precision, recall, _ = plain.precisions(document, found, "segm", limit=limit, agnostic=True)
        assert ours[f"AR{limit}"] == pytest.approx(plain.average(recall), abs=1e-9)
    assert ours["AP"] == pytest.approx(plain.average(precision), abs=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_lvis_equals_the_plain_formulation(tmp_path: Path, seed: int) -> None:
    truth, results, read, predictions = case(tmp_path, seed)
    document = {**truth, "annotations": [{**one, "iscrowd": 0} for one in decoded(truth["annotations"])]}
    read = read_ground_truth(write(tmp_path, "lvis.json", strip(document)))
    precision, recall, classes = plain.precisions(document, decoded(results), "segm", limit=300, lvis=True)
    ours = Evaluator(read).lvis(predictions, "segm").metrics
    assert ours["AP"] == pytest.approx(plain.average(precision), abs=1e-9)
    assert ours["AR300"] == pytest.approx(plain.average(recall), abs=1e-9)
    for name, frequency in {"APr": "r", "APc": "c", "APf": "f"}.items():
        of = [k for k, id in enumerate(classes) if category(id)["frequency"] == frequency]
        assert ours[name] == pytest.approx(plain.average(precision[:, :, of]), abs=1e-9)
    by_class = weighted_ap(match(scenes(read, predictions, "segm", 300, lvis=True), predictions))
    assert mean_ap(by_class)[0] == pytest.approx(ours["AP"], abs=1e-12)


def test_lvis_counts_only_the_best_of_an_image(tmp_path: Path) -> None:
    truth = crafted()
    good = perfect_results(truth)
    chaff = [{**good[0], "score": 2.0, "segmentation": good[1]["segmentation"]}] * 300
    read = read_ground_truth(write(tmp_path, "truth.json", truth))
    buried = read_results(write(tmp_path, "results.json", chaff + good), read)
    clean = read_results(write(tmp_path, "good.json", good), read)
    hidden = sum(one["image_id"] == good[0]["image_id"] for one in good)
    assert hidden > 3
    evaluator = Evaluator(read)
    recalls = [evaluator.lvis(which, "segm").metrics["AR300"] or 0 for which in (buried, clean)]
    assert recalls[0] < recalls[1] - 0.05


def strip(document: dict) -> dict:
    return {
        **document,
        "annotations": [{k: v for k, v in one.items() if k != "mask"} for one in document["annotations"]],
    }


def category(id: int) -> dict:
    return next(one for one in crafted()["categories"] if one["id"] == id)


@pytest.mark.parametrize("kind", ["segm", "bbox"])
@pytest.mark.parametrize("seed", SEEDS)
def test_matches_give_the_evaluators_ap(tmp_path: Path, seed: int, kind: str) -> None:
    _, _, read, predictions = case(tmp_path, seed)
    evaluator = Evaluator(read)
    for classes, limit, expected in (
        (True, 100, evaluator.coco(predictions, kind).metrics),
        (False, 1000, evaluator.agnostic(predictions, kind).metrics),
    ):
        by_class = weighted_ap(match(scenes(read, predictions, kind, limit, classes=classes), predictions))
        assert mean_ap(by_class)[0] == pytest.approx(expected["AP"], abs=1e-12)
        assert mean_ap(by_class[:, :, :1])[0] == pytest.approx(expected["AP50"], abs=1e-12)
    if kind == "segm":
        for size, area in AREAS.items():
            by_class = weighted_ap(match(scenes(read, predictions, kind, 100), predictions, area))
            assert mean_ap(by_class)[0] == pytest.approx(
                evaluator.coco(predictions, kind).metrics[f"AP{size}"], abs=1e-12
            )


@pytest.mark.parametrize("seed", [0, 1])
def test_boundary_ap_equals_the_plain_formulation(tmp_path: Path, seed: int) -> None:
    truth, results, read, predictions = case(tmp_path, seed)
    document, found = {**truth, "annotations": decoded(truth["annotations"])}, decoded(results)
    ours = score_detections(read, predictions, Evaluator(read), boundary=True).metrics["boundary"]
    for size, area in AREAS.items():
        precision, _, _ = plain.precisions(document, found, "boundary", area=area)
        assert ours[f"AP{size}"] == pytest.approx(plain.average(precision), abs=1e-9)
    precision, _, _ = plain.precisions(document, found, "boundary")
    assert ours["AP50"] == pytest.approx(plain.average(precision[0]), abs=1e-9)
    assert ours["AP75"] == pytest.approx(plain.average(precision[5]), abs=1e-9)
    assert ours["AP"] < score_detections(read, predictions, Evaluator(read)).metrics["segm"]["AP"]


@pytest.mark.parametrize("lvis", [False, True])
def test_the_truth_scores_one_and_nothing_scores_zero(tmp_path: Path, lvis: bool) -> None:
    truth = crafted()
    read = read_ground_truth(write(tmp_path, "truth.json", truth))
    perfect = read_results(write(tmp_path, "results.json", perfect_results(truth)), read)
    nothing = read_results(write(tmp_path, "none.json", []), read)
    for predictions, expected in ((perfect, 1.0), (nothing, 0.0)):
        scored = score_detections(read, predictions, Evaluator(read), lvis=lvis, boundary=True)
        for kind in ("segm", "boundary"):
            found = [value for name, value in scored.metrics[kind].items() if name.startswith("AP")]
            assert {round(value, 12) for value in found if value is not None} == {expected}
        assert {one.iou for one in scored.objects} == {expected}
    assert not any(mistake.count for mistake in scored.mistakes if mistake.kind != "missed")


def test_boxes_without_masks_are_scored_as_boxes(tmp_path: Path) -> None:
    _, results, read, predictions = case(tmp_path, 0)
    boxes = [{key: one[key] for key in ("image_id", "category_id", "bbox", "score")} for one in results]
    only = read_results(write(tmp_path, "boxes.json", boxes), read)
    scored = score_detections(read, only, Evaluator(read), boundary=True)
    assert scored.metrics["bbox"] == Evaluator(read).coco(predictions, "bbox").metrics
    assert "segm" not in scored.metrics and "boundary" not in scored.metrics


def test_mistakes_equal_tide(tmp_path: Path) -> None:
    """hotcoco's TIDE, on boxes, where no mask can be wrong by itself; crowds and equal scores left out."""
    truth = crafted(3, images=12)
    for one in truth["annotations"]:
        one["iscrowd"] = 0
    results = noisy_results(truth, 5, extra=150)
    for place, one in enumerate(results):
        one["score"] = 1 / (place + 2)
    read = read_ground_truth(write(tmp_path, "truth.json", truth))
    predictions = read_results(write(tmp_path, "results.json", results), read)
    found = list(scenes(read, predictions, "bbox", 100))
    mistakes = {mistake.kind: mistake for mistake in break_down(found, match(found, predictions), predictions)}
    assert tuple(mistakes) == KINDS

    coco = hotcoco.COCO(truth)
    evaluation = hotcoco.COCOeval(coco, coco.load_res(results), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    tide = evaluation.tide_errors()
    names = {
        "localisation": "Loc",
        "class": "Cls",
        "duplicate": "Dupe",
        "background": "Bkg",
        "both": "Both",
        "missed": "Miss",
    }
    for kind, name in names.items():
        assert mistakes[kind].count == tide["counts"][name] > 0
        assert mistakes[kind].cost == pytest.approx(tide["delta_ap"][name], abs=1e-9)
    assert mistakes["mask"].count == 0


def test_a_right_box_with_a_wrong_mask_is_a_mask_mistake(tmp_path: Path) -> None:
    truth = crafted()
    objects = [one for one in truth["annotations"] if not one["iscrowd"] and one["area"] > 300][:1]
    truth["annotations"] = objects
    x, y, w, h = map(int, objects[0]["bbox"])
    edge = np.zeros((120, 160), bool)
    edge[y : y + h, x] = edge[y : y + h, x + w - 1] = edge[y, x : x + w] = edge[y + h - 1, x : x + w] = True
    wrong = {**perfect_results(truth)[0], "segmentation": compressed(edge)}
    read = read_ground_truth(write(tmp_path, "truth.json", truth))
    predictions = read_results(write(tmp_path, "results.json", [wrong]), read)
    scored = score_detections(read, predictions, Evaluator(read))
    assert {mistake.kind: mistake.count for mistake in scored.mistakes if mistake.count} == {"mask": 1}
    assert next(m for m in scored.mistakes if m.kind == "mask").cost == pytest.approx(1)
    assert scored.metrics["segm"]["AP50"] == 0
    assert scored.metrics["bbox"]["AP50"] == pytest.approx(1)


BOX = {"image_id": 10, "category_id": 2, "score": 0.5, "bbox": [0, 0, 1, 1]}
BAD_RESULTS: dict[str, str | dict] = {
    "COCO results are a JSON list": "{}",
    "is not a results file": "[",
    "entry 0: 'image_id' is 1, which is not in truth.json": {"image_id": 1},
    "entry 0: 'category_id' is 4, which is not in truth.json": {"category_id": 4},
    "entry 0: it has no 'score'": {"score": ...},
    "entry 0: it has no 'image_id'": {"image_id": ...},
    "entry 0: it has neither a 'segmentation' nor a 'bbox'": {"bbox": ...},
    "entry 0: 'score' is NaN, not a finite number": {"score": float("nan")},
    "entry 0: 'score' is null, not a number": {"score": None},
    "entry 0: 'score' is \"0.9\", not a number": {"score": "0.9"},
    "entry 0: 'score' is true, not a number": {"score": True},
    "entry 0: 'bbox' is [0, 0, 1], not a list of four numbers": {"bbox": [0, 0, 1]},
    "entry 0: 'bbox' is [0, 0, 1e+308, 1], which holds 1e+308": {"bbox": [0, 0, 1e308, 1]},
    "entry 0: 'bbox' is [0, 0, -1, 1], whose width or height is below 0": {"bbox": [0, 0, -1, 1]},
    "entry 0: 'segmentation' is of size [9, 9]": {"segmentation": {"size": [9, 9], "counts": "0"}},
    "entry 0: a mask's run lengths": {"segmentation": {"size": [120, 160], "counts": "0o"}},
    "entry 0: a mask's run lengths do": {"segmentation": {"size": [120, 160], "counts": "05"}, "bbox": None},
    "entry 0: a mask's run lengths do not": {"segmentation": {"size": [120, 160], "counts": "\ud800"}},
    "entry 0: 'segmentation' is 7, neither": {"segmentation": 7},
    "entry 0: 'segmentation' has a polygon with a corner at NaN": {"segmentation": [[1, 2, 3, 4, 5, float("nan")]]},
    "entry 0: 'image_id' is [], not a whole number": {"image_id": []},
    "entry 0: 'image_id' is 10.5, not a whole number": {"image_id": 10.5},
    "entry 0: 'image_id' is true, not a whole number": {"image_id": True},
    "entry 0: 'category_id' is 1.152921504606847e+18, a float of 2^53 or more": {"category_id": 2.0**60},
    "entry 0: 'category_id' is 18446744073709551616, not a whole number": {"category_id": 2**64},
    "entry 0: 'image_id' is 3, which is not": '[{"image_id": 3}, {"image_id": 36893488147419103232}]',
    "entry 0: it is 7, not an object": "[7]",
}


@pytest.mark.parametrize("message", BAD_RESULTS)
def test_bad_results_are_refused_in_one_line(tmp_path: Path, message: str) -> None:
    read = read_ground_truth(write(tmp_path, "truth.json", crafted()))
    path, wrong = tmp_path / "results.json", BAD_RESULTS[message]
    if isinstance(wrong, dict):
        wrong = json.dumps([{key: value for key, value in (BOX | wrong).items() if value is not ...}])
    path.write_text(wrong)
    with pytest.raises(DataError, match=r"results\.json") as caught:
        read_results(path, read)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_results_of_other_images_are_passed_over_when_limited(tmp_path: Path) -> None:
    truth, results, _, _ = case(tmp_path, 0)
    some = read_ground_truth(tmp_path / "truth.json", limit=2)
    assert list(some.images) == [image["id"] for image in truth["images"][:2]]
    kept = read_results(tmp_path / "results.json", some)
    assert len(kept) == sum(one["image_id"] in some.images for one in results)
    assert json.loads((tmp_path / "results.json").read_text()) == results
