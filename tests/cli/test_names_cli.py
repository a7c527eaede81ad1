"""Names that differ in how they are written alone, and boxes of images that are not there: through the commands."""

from __future__ import annotations

import json
import shutil
import unicodedata
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Pil
from support.runs import evsam

from pipelines.errors import DataError
from pipelines.evaluation.bsds import find_edges
from pipelines.training.sources import open_source

COMPOSED, DECOMPOSED = "caf\u00e9.png", unicodedata.normalize("NFD", "caf\u00e9.png")
HEADER = "image,x1,y1,x2,y2\n"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three pictures of 64 x 48 with a white square from (16, 12) to (40, 36)."""
    folder = tmp_path / "images"
    folder.mkdir()
    pixels = np.full((48, 64, 3), 40, np.uint8)
    pixels[12:36, 16:40] = 230
    for name in (DECOMPOSED, "IMG_1.PNG", "plain.png"):
        Pil.fromarray(pixels).save(folder / name)
    return folder


def square(number: int, image: int) -> dict:
    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "bbox": [16, 12, 24, 24],
        "area": 576,
        "iscrowd": 0,
        "segmentation": [[16, 12, 40, 12, 40, 36, 16, 36]],
    }


def write_truth(path: Path, *names: str) -> Path:
    listed = [{"id": n, "file_name": name, "width": 64, "height": 48} for n, name in enumerate(names, 1)]
    squares = [square(n, n) for n in range(1, len(names) + 1)]
    document = {"images": listed, "annotations": squares, "categories": [{"id": 1, "name": "square"}]}
    path.write_text(json.dumps(document))
    return path


def records(folder: Path) -> dict[str, dict]:
    lines = (folder / "records.jsonl").read_text("utf-8").splitlines()
    return {(record := json.loads(line))["name"]: record for line in lines}


def test_segment_finds_its_boxes_and_says_which_found_no_image(images: Path, tmp_path: Path) -> None:
    rows = [COMPOSED, "img_1.png", "gone.png", "gone.png", "away.png"]
    (tmp_path / "boxes.csv").write_text(HEADER + "".join(f"{name},16,12,40,36\n" for name in rows))
    options = ("--boxes", tmp_path / "boxes.csv", "--save", "jsonl", "--device", "cpu", "--quiet")
    _, err = evsam("segment", images, "-o", tmp_path / "out", *options)
    found = records(tmp_path / "out")
    assert [len(found[name]["instances"]) for name in (DECOMPOSED, "IMG_1.PNG", "plain.png")] == [1, 1, 0]
    info = json.loads((tmp_path / "out" / "run.json").read_text())
    assert info["report"]["box_file"] == {"of_no_image": 3, "images_not_found": 2}
    case = "IMG_1.PNG was taken for img_1.png of boxes.csv: the names differ in upper and lower case alone"
    lost = "3 boxes of boxes.csv found no image: those of 2 images, such as gone.png, away.png"
    assert info["notes"] == [case, lost]
    assert err.splitlines() == [f"note: {case}", f"note: {lost}"]


def test_a_shard_counts_the_images_of_the_whole_run(images: Path, tmp_path: Path) -> None:
    names = [COMPOSED, "IMG_1.PNG", "plain.png"]
    (tmp_path / "boxes.csv").write_text(HEADER + "".join(f"{name},16,12,40,36\n" for name in [*names, "gone.png"]))
    options = ("--boxes", tmp_path / "boxes.csv", "--save", "jsonl", "--device", "cpu", "--quiet")
    lost = "1 box of boxes.csv found no image: those of gone.png"
    for part in ("1", "2"):
        _, err = evsam("segment", images, "-o", tmp_path / part, *options, "--shard", f"{part}/2")
        assert err == f"note: {lost}\n"
    _, err = evsam("merge", tmp_path / "1", tmp_path / "2", "-o", tmp_path / "all")
    assert err.count(lost) == 1
    assert all(len(record["instances"]) == 1 for record in records(tmp_path / "all").values())


def test_evaluate_finds_images_and_boxes(images: Path, tmp_path: Path) -> None:
    truth = write_truth(tmp_path / "truth.json", COMPOSED, "img_1.png")
    rows = [DECOMPOSED, "IMG_1.PNG", "gone.png"]
    (tmp_path / "boxes.csv").write_text(
        "image,x1,y1,x2,y2,category\n" + "".join(f"{name},16,12,40,36,square\n" for name in rows)
    )
    options = ("--device", "cpu", "--quiet", "--gt-boxes", "--boxes", tmp_path / "boxes.csv")
    _, err = evsam("evaluate", "coco", truth, "-o", tmp_path / "eval", "--images", images, *options)
    assert "note: 1 box of boxes.csv found no image: those of gone.png" in err.splitlines()
    assert f"img_1.png was taken for IMG_1.PNG of {images}" in err
    assert "img_1.png was taken for IMG_1.PNG of boxes.csv" in err
    for cell in ("gt-box+evsam-starter", "boxes+evsam-starter"):
        results = json.loads((tmp_path / "eval" / cell / "coco_results.json").read_text())
        assert [entry["image_id"] for entry in results] == [1, 2]
    assert json.loads((tmp_path / "eval" / "boxes+evsam-starter" / "scores.json").read_text())["notes"]
    assert "data:image/jpeg" in (tmp_path / "eval" / "report.html").read_text()


def test_boxes_of_images_that_a_limit_leaves_out_are_no_fault(images: Path, tmp_path: Path) -> None:
    truth = write_truth(tmp_path / "truth.json", "plain.png", "IMG_1.PNG")
    (tmp_path / "boxes.csv").write_text(
        "image,x1,y1,x2,y2,category\nplain.png,1,2,9,9,square\nIMG_1.PNG,1,2,9,9,square\n"
    )
    options = ("--device", "cpu", "--quiet", "--boxes", tmp_path / "boxes.csv", "--limit", "1", "--no-report")
    _, err = evsam("evaluate", "coco", truth, "-o", tmp_path / "eval", "--images", images, *options)
    assert "found no image" not in err


def test_saliency_and_edges_pair_what_is_written_otherwise(images: Path, tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    (tmp_path / "maps").mkdir()
    for name in (COMPOSED, "img_1.png"):
        cv2.imwrite(str(tmp_path / "masks" / name), np.full((48, 64), 255, np.uint8))
    for name in (DECOMPOSED, "IMG_1.PNG", "more.png"):
        cv2.imwrite(str(tmp_path / "maps" / name.replace("PNG", "png")), np.full((48, 64), 255, np.uint8))
    out, err = evsam("evaluate", "saliency", tmp_path / "masks", "--maps", tmp_path / "maps")
    assert "MAE: 0.0000" in out and "images: 2" in out
    assert "differ in upper and lower case" in err and "have no mask and are not scored: more.png" in err
    mats = [Path(name).with_suffix(".mat") for name in (COMPOSED, "img_1.mat")]
    maps, notes = find_edges(tmp_path / "maps", mats)
    assert [path.name for path in maps] == [DECOMPOSED, "IMG_1.png"] and len(notes) == 2


def test_training_finds_its_photos(images: Path, tmp_path: Path) -> None:
    source = open_source(write_truth(tmp_path / "truth.json", COMPOSED, "plain.png", "img_1.png"))
    assert [source[i].path.name for i in range(3)] == [DECOMPOSED, "plain.png", "IMG_1.PNG"]
    assert len(source.notes) == 1 and "img_1.png was taken for IMG_1.PNG" in source.notes[0]
    with pytest.raises(DataError, match=r"photos are not in .*: 2 images, such as gone.png, away.png"):
        open_source(write_truth(tmp_path / "truth.json", COMPOSED, "gone.png", "away.png"))
    sa1b = tmp_path / "sa1b"
    shutil.copytree(images, sa1b)
    for name in (COMPOSED, "img_1.png"):
        document = {"image": {"file_name": name, "width": 64, "height": 48}, "annotations": [square(1, 1)]}
        (sa1b / name).with_suffix(".json").write_text(json.dumps(document))
    beside = open_source(sa1b)
    assert [beside[i].path.name for i in range(2)] == [DECOMPOSED, "IMG_1.PNG"]
    assert [len(beside[i].image().notes) for i in range(2)] == [0, 1]


def test_training_pairs_photos_and_masks(images: Path, tmp_path: Path) -> None:
    (tmp_path / "masks" / "img_1").mkdir(parents=True)
    mask = np.full((48, 64), 1, np.uint8)
    for name in (COMPOSED, "plain.png.png", "img_1/0.png"):
        cv2.imwrite(str(tmp_path / "masks" / name), mask)
    source = open_source(tmp_path)
    assert [(source[i].path.name, len(source[i].regions)) for i in range(3)] == [
        ("IMG_1.PNG", 1),
        (DECOMPOSED, 1),
        ("plain.png", 1),
    ]
    assert len(source.notes) == 1
