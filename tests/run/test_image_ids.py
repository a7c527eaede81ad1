"""By which ids the images of a run are known: those of the box file, where it has ids; the same when a run is resumed
or merged, and when its results are scored."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pil
from support.runs import evsam, final_files, journal_of

SIZE = (64, 48)
OUTPUTS = ("--save", "coco,boxes,dataset,sa1b,panoptic,jsonl", "--device", "cpu", "--quiet")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Pictures with a white square each, at a place of its own."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number, name in enumerate(("apple.png", "mango.png", "zebra.png")):
        pixels = np.full((48, 64, 3), 40, np.uint8)
        pixels[8 + 4 * number : 28 + 4 * number, 20 * number : 20 * number + 20] = 230
        Pil.fromarray(pixels).save(folder / name)
    return folder


def box(name: str) -> list[int]:
    number = ("apple.png", "mango.png", "zebra.png").index(name)
    return [20 * number, 8 + 4 * number, 20, 20]


def write_truth(path: Path, ids: dict[str, int]) -> Path:
    listed = [{"id": id, "file_name": name, "width": 64, "height": 48} for name, id in ids.items()]
    annotations = [
        {
            "id": number,
            "image_id": id,
            "category_id": 1,
            "bbox": box(name),
            "area": 400,
            "iscrowd": 0,
            "segmentation": [[x, y, x + 20, y, x + 20, y + 20, x, y + 20]],
        }
        for number, (name, id) in enumerate(ids.items(), 1)
        for x, y in [box(name)[:2]]
    ]
    path.write_text(
        json.dumps({"images": listed, "annotations": annotations, "categories": [{"id": 1, "name": "square"}]})
    )
    return path


def ids_in(folder: Path) -> list[dict[str, int]]:
    """Name -> id, in each of the files that have both."""
    results = json.loads((folder / "coco_results.json").read_text())
    boxes = json.loads((folder / "coco_boxes.json").read_text())
    dataset, panoptic = (json.loads((folder / f"{name}.json").read_text()) for name in ("coco_dataset", "panoptic"))
    lines = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    sa1b = [json.loads(path.read_text())["image"] for path in sorted((folder / "sa1b").glob("*.json"))]
    return [
        {entry["file_name"]: entry["image_id"] for entry in results},
        {entry["file_name"]: entry["image_id"] for entry in boxes},
        {entry["file_name"]: entry["id"] for entry in dataset["images"]},
        {entry["file_name"]: entry["id"] for entry in panoptic["images"]},
        {line["name"]: line["image_id"] for line in lines},
        {entry["file_name"]: entry["image_id"] for entry in sa1b},
    ]


def test_the_ids_of_a_truth_are_kept_and_score_on_it(images: Path, tmp_path: Path) -> None:
    ids = {"zebra.png": 1, "apple.png": 2, "mango.png": 3}
    truth = write_truth(tmp_path / "truth.json", ids)
    _, err = evsam("segment", images, "-o", tmp_path / "out", "--boxes", truth, *OUTPUTS)
    assert err == "" and ids_in(tmp_path / "out") == [ids] * 6
    results = tmp_path / "out" / "coco_results.json"
    options = ("--results", results, "--no-report", "--quiet", "--json")
    out, err = evsam("evaluate", "coco", truth, "-o", tmp_path / "eval", *options)
    assert json.loads(out)[0]["metrics"]["segm"]["AP"] > 0.9 and "truth.json" not in err and "results" not in err


def test_resumed_and_merged_runs_write_the_same(images: Path, tmp_path: Path) -> None:
    ids = {"zebra.png": 2, "apple.png": 40}
    options = ("--boxes", write_truth(tmp_path / "truth.json", ids), *OUTPUTS)
    _, err = evsam("segment", images, "-o", tmp_path / "whole", *options)
    kept = "the images have the ids of truth.json, and those that it does not list have free ones"
    assert err == f"note: {kept}: mango.png\n"
    expected = {"apple.png": 40, "mango.png": 1, "zebra.png": 2}
    assert ids_in(tmp_path / "whole")[-2:] == [expected] * 2
    journal = journal_of(tmp_path / "resumed")
    evsam("segment", images, "-o", tmp_path / "resumed", *options)
    journal.write_text(journal.read_text().splitlines(keepends=True)[0])
    evsam("segment", images, "-o", tmp_path / "resumed", *options, "--resume")
    for part in (1, 2):
        evsam("segment", images, "-o", tmp_path / f"{part}", *options, "--shard", f"{part}/2")
    evsam("merge", tmp_path / "1", tmp_path / "2", "-o", tmp_path / "merged")
    assert final_files(tmp_path / "whole") == final_files(tmp_path / "resumed") == final_files(tmp_path / "merged")


def test_boxes_of_a_detect_run_keep_its_ids(images: Path, tmp_path: Path) -> None:
    """In a run over more images than the boxes are of, whose own numbers would be others."""
    entries = [
        {
            "image_id": id,
            "file_name": name,
            "category_id": 1,
            "category_name": "square",
            "bbox": box(name),
            "score": 0.5,
        }
        for name, id in (("apple.png", 7), ("zebra.png", 1))
    ]
    (tmp_path / "boxes.json").write_text(json.dumps(entries))
    evsam("segment", images, "-o", tmp_path / "out", "--boxes", tmp_path / "boxes.json", *OUTPUTS)
    assert ids_in(tmp_path / "out")[-2] == {"apple.png": 7, "mango.png": 2, "zebra.png": 1}
