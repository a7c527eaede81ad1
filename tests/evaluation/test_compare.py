"""Is a difference real? The bootstrap against data sets in which images truly come several times, and the command."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
from support.evaluation_cases import crafted, decoded, noisy_results, perfect_results, write
from support.runs import evsam
from support.scoring import distorted, records_for

from pipelines.errors import DataError, UsageError
from pipelines.evaluation.annotations import read_ground_truth
from pipelines.evaluation.bootstrap import differences
from pipelines.evaluation.compare import compare_runs
from pipelines.evaluation.details import Details, details_of, load_details, save_details
from pipelines.evaluation.detection import Evaluator
from pipelines.evaluation.predictions import read_results
from pipelines.evaluation.protocols import PROTOCOLS
from pipelines.evaluation.score import score_detections, score_prompted

PUBLISHED = PROTOCOLS["efficientvit-sam"]


def detection_details(folder: Path, truth: dict, results: list[dict]) -> tuple[Details, dict]:
    read = read_ground_truth(write(folder, "truth.json", truth))
    scored = score_detections(read, read_results(write(folder, "results.json", results), read), Evaluator(read))
    return details_of(read, scored, PUBLISHED), scored.metrics


def repeated(truth: dict, results: list[dict], times: list[int]) -> tuple[dict, list[dict]]:
    """The data set in which image i, in the order of the ids, is there times[i] times."""
    ids = sorted(image["id"] for image in truth["images"])
    images, annotations, found = [], [], []
    for place, id in enumerate(ids):
        for again in range(times[place]):
            new = id * 100 + again
            image = next(one for one in truth["images"] if one["id"] == id)
            images.append({**image, "id": new, "file_name": f"{new}.jpg"})
            for one in truth["annotations"]:
                if one["image_id"] == id:
                    annotations.append({**one, "id": len(annotations) + 1, "image_id": new})
            found += [{**one, "image_id": new} for one in results if one["image_id"] == id]
    return {**truth, "images": images, "annotations": annotations}, found


@pytest.mark.parametrize("seed", range(3))
def test_a_weight_is_as_many_copies_of_the_image(tmp_path: Path, seed: int) -> None:
    """Detections: AP of COCO's evaluator on the copies. Scores differ, as copies of equal ones would take turns."""
    truth, results = crafted(seed), noisy_results(crafted(seed), seed)
    for place, one in enumerate(results):
        one["score"] = 1 / (place + 2)
    details, _ = detection_details(tmp_path, truth, results)
    times = np.random.default_rng(seed).integers(0, 4, len(truth["images"])).tolist()
    _, expected = detection_details(tmp_path, *repeated(truth, results, times))
    found = details.metrics(np.array([times], float))
    for name in ("AP", "AP50", "AP75"):
        assert found[f"segm {name}"][0] == pytest.approx(expected["segm"][name], abs=1e-9)


def test_a_weight_is_as_many_copies_of_the_image_for_miou(tmp_path: Path) -> None:
    truth = crafted()
    masks = distorted(truth, 1)
    read = read_ground_truth(write(tmp_path, "truth.json", truth))
    scored = score_prompted(read, records_for(truth, masks), PUBLISHED)
    details = details_of(read, scored, PUBLISHED)
    times = {id: 1 + place % 3 for place, id in enumerate(sorted(read.images))}
    found = details.metrics(np.array([list(times.values())], float))
    for size in ("all", "large", "medium", "small"):
        ious = [
            100 * one.iou
            for one in scored.objects
            for _ in range(times[one.image_id])
            if size == "all" or size in PUBLISHED.sizes(one.object.area)
        ]
        assert found[f"mIoU {size}"][0] == pytest.approx(np.mean(ious), abs=1e-9)
    assert np.isnan(details.metrics(np.zeros((1, len(times))))["mIoU all"]).all()


def test_details_survive_the_disk(tmp_path: Path) -> None:
    truth = crafted()
    details, metrics = detection_details(tmp_path, truth, noisy_results(truth))
    save_details(tmp_path / "details.npz", details)
    again = load_details(tmp_path / "details.npz")
    once = np.ones((1, len(truth["images"])))
    assert again.metrics(once) == details.metrics(once)
    assert again.metrics(once)["segm AP"][0] == pytest.approx(metrics["segm"]["AP"], abs=1e-12)
    np.save(tmp_path / "one.npy", np.ones(3))
    one, whole = ((tmp_path / name).read_bytes() for name in ("one.npy", "details.npz"))
    huge = one.replace(b"(3,)", b"(9" + b"9" * 12 + b",)").replace(b" " * 13 + b"\n", b"\n")
    for damage in (b"", b"PK\x03\x04 no", whole[:-300], one, huge, b"\x80\x04N.", b"{}"):
        (tmp_path / "bad.npz").write_bytes(damage)
        with pytest.raises(DataError, match="missing or damaged"):
            load_details(tmp_path / "bad.npz")
    with np.load(tmp_path / "details.npz") as file:
        good = dict(file)
    bad = [{name: good[name][:-1]} for name in ("scores", "images", "object_classes", "image_ids", "found")]
    bad += [{name: np.array(good[name], object)} for name in ("scores", "kind")]
    bad += [{name: good[name][None]} for name in ("scores", "images", "found", "kind", "image_count", "counted")]
    bad += [{name: good[name].astype(str)} for name in ("scores", "images", "image_count")]
    bad += [{"found": good["found"] + 10_000}, {"more": good["scores"]}, {"kind": np.array("what")}]
    for change in bad:
        np.savez_compressed(tmp_path / "bad.npz", **{**good, **change})
        with pytest.raises(DataError, match="missing or damaged"):
            load_details(tmp_path / "bad.npz")
    del good["scores"]
    np.savez_compressed(tmp_path / "bad.npz", **good)
    with pytest.raises(DataError, match="missing or damaged"):
        load_details(tmp_path / "bad.npz")


def test_the_interval(tmp_path: Path) -> None:
    """A run against itself differs by nothing; against a much better one, surely; seeds repeat."""
    truth = crafted(images=20)
    noisy, _ = detection_details(tmp_path, truth, noisy_results(truth))
    perfect, _ = detection_details(tmp_path, truth, perfect_results(truth))
    for one in differences(noisy, noisy, draws=60):
        assert one.difference == one.low == one.high == 0 and one.better == 0.5 and not one.significant
    better = differences(noisy, perfect, draws=200)
    assert all(
        one.low > 0 and one.significant and one.better == 1 and one.low <= one.difference <= one.high for one in better
    )
    assert better == differences(noisy, perfect, draws=200) != differences(noisy, perfect, draws=200, seed=1)
    worse = differences(perfect, noisy, draws=200)
    assert [(-one.high, -one.low) for one in worse] == [pytest.approx((one.low, one.high)) for one in better]
    narrow, wide = differences(noisy, perfect, confidence=0.5)[0], differences(noisy, perfect, confidence=0.99)[0]
    assert wide.low < narrow.low < narrow.high < wide.high


def test_the_interval_covers_the_truth_as_often_as_it_says(tmp_path: Path) -> None:
    """mIoU differences of normal noise around 1 point: of 200 samples of 150 images, 90 % intervals hold 85 to 95 %."""
    from pipelines.evaluation.details import ObjectDetails

    rng = np.random.default_rng(0)
    images = 150
    sizes = np.array([[True, False, False, False]] * images)

    def details(ious: np.ndarray) -> ObjectDetails:
        return ObjectDetails(np.arange(images), np.arange(images), ious, ious, sizes)

    held = 0
    for sample in range(200):
        first = rng.normal(0.6, 0.1, images)
        second = first + 0.01 + rng.normal(0, 0.05, images)
        (one, _) = differences(details(first), details(second), draws=300, seed=sample, confidence=0.9)
        held += one.low <= 1 <= one.high
    assert 0.85 * 200 <= held <= 0.95 * 200


@pytest.fixture
def scored_runs(tmp_path: Path) -> dict[str, Path]:
    """Folders that `evsam evaluate` wrote."""
    truth = crafted(images=12)
    write(tmp_path, "truth.json", truth)
    folders = {}
    for name, results in (("noisy", noisy_results(truth)), ("perfect", perfect_results(truth))):
        write(tmp_path, f"{name}.json", results)
        file = tmp_path / f"{name}.json"
        evsam(
            "evaluate", "coco", tmp_path / "truth.json", "-o", tmp_path / name, "--results", file, "--no-report", "-q"
        )
        folders[name] = tmp_path / name
    return folders


def test_the_command(scored_runs: dict[str, Path], tmp_path: Path) -> None:
    out, err = evsam("compare", scored_runs["noisy"], scored_runs["perfect"] / "perfect", "--draws", 100)
    assert "the interval rests on" in err and "images alone" in err
    assert "segm AP" in out and "A: noisy" in out and "B: perfect" in out and "95 % interval" in out
    out, _ = evsam("compare", scored_runs["noisy"], scored_runs["noisy"], "--draws", 2)
    assert out.count(f"{Path('noisy', 'noisy')}") == 2  # one name: told by the folders
    out, _ = evsam("compare", *scored_runs.values(), "--draws", 100, "--json")
    document = json.loads(out)
    (ap, *_) = document["differences"]
    assert (document["first"], document["draws"], document["seed"]) == ("noisy", 100, 0)
    assert ap["metric"] == "segm AP" and ap["second"] == pytest.approx(1) and ap["low"] > 0


def test_what_cannot_be_compared(scored_runs: dict[str, Path], tmp_path: Path) -> None:
    noisy, perfect = scored_runs.values()
    with pytest.raises(UsageError, match="holds no score"):
        compare_runs(noisy, tmp_path / "nothing")
    with pytest.raises(UsageError, match="several scores"):
        (tmp_path / "both").mkdir()
        for folder in (noisy / "noisy", perfect / "perfect"):
            (tmp_path / "both" / folder.name).symlink_to(folder)
        compare_runs(noisy, tmp_path / "both")
    with pytest.raises(UsageError, match="draws"):
        compare_runs(noisy, perfect, draws=0)
    with pytest.raises(UsageError, match=r"seed \(-1\)"):
        compare_runs(noisy, perfect, seed=-1)
    path = perfect / "perfect" / "scores.json"
    good = json.loads(path.read_text())
    for change, message in (
        (("protocol", "name"), "not scored alike: protocol"),
        (("data_set", "sha256"), "not scored alike: annotations"),
        (("data_set", "kind"), "not scored alike: data set coco and else"),
    ):
        other = copy.deepcopy(good)
        other["stamp"][change[0]][change[1]] = "else"
        path.write_text(json.dumps(other))
        with pytest.raises(UsageError, match=message):
            compare_runs(noisy, perfect)
    path.write_text("{")
    with pytest.raises(DataError, match="not a score"):
        compare_runs(noisy, perfect)
    for damaged in (
        "[" * 100_000,
        "[]",
        '"text"',
        '{"name": "x", "stamp": []}',
        '{"name": "x", "stamp": {"data_set": 7}}',
    ):
        path.write_text(damaged)
        with pytest.raises(DataError, match="not a score"):
            compare_runs(noisy, perfect)
    truth = crafted(images=12)
    fewer, _ = detection_details(tmp_path, {**truth, "images": truth["images"][:-1]}, [])
    path.write_text(json.dumps(good))
    save_details(perfect / "perfect" / "details.npz", fewer)
    with pytest.raises(UsageError, match="not of the same images"):
        compare_runs(noisy, perfect)
    read = read_ground_truth(write(tmp_path, "truth.json", truth))
    masks = [one["mask"] for one in decoded(truth["annotations"])]
    objects = details_of(read, score_prompted(read, records_for(truth, masks), PUBLISHED), PUBLISHED)
    save_details(perfect / "perfect" / "details.npz", objects)
    with pytest.raises(UsageError, match="other metrics"):
        compare_runs(noisy, perfect)
