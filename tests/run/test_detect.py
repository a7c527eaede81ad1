"""`evsam detect`: boxes alone, and a box file that any later run understands."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pil
from pycocotools.coco import COCO
from support.runs import QUICK, evsam, final_files, journal_of
from support.unprivileged import unprivileged

from pipelines.categories import COCO as COCO_CATEGORIES
from pipelines.detectors.box_table import read_box_table
from pipelines.errors import DataError
from pipelines.outputs import OUTPUTS
from pipelines.types import Category

KINDS = ("--save", "boxes,dataset,overlay,jsonl")


@pytest.fixture(scope="module")
def photos(photographs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for i, path in enumerate(photographs):
        Pil.open(path).convert("RGB").resize((240, 200)).save(folder / f"photo {i}.jpg")
    Pil.new("RGB", (64, 64), (120, 120, 120)).save(folder / "grey.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    return folder


@pytest.fixture(scope="module")
def run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "out"
    evsam("detect", photos, "-o", folder, *QUICK, *KINDS, code=1)
    return folder


def boxes_of(folder: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads((folder / "coco_boxes.json").read_text())
    return found


def test_boxes_and_nothing_of_masks(run: Path) -> None:
    info = json.loads((run / "run.json").read_text())
    assert info["images"] == {"total": 4, "done": 2, "empty": 1, "failed": 1}
    assert "sam" not in info["settings"] and "encode" not in info["this_run"]["stage_seconds"]
    found = boxes_of(run)
    assert found and all(
        set(entry) == {"image_id", "file_name", "category_id", "category_name", "bbox", "score"} for entry in found
    )
    lines = [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()]
    assert {key for line in lines for row in line["instances"] for key in row} == {"category_id", "bbox", "score"}
    assert sorted(path.name for path in (run / "overlays").iterdir()) == [
        "grey.jpg",
        "photo 0.jpg",
        "photo 1.jpg",
    ]


def test_coco_reads_both_files(run: Path) -> None:
    dataset = COCO(run / "coco_dataset.json")
    results = dataset.loadRes(str(run / "coco_boxes.json"))
    assert len(dataset.anns) == len(results.anns) == len(boxes_of(run)) > 0
    for mine, theirs in zip(dataset.anns.values(), results.anns.values(), strict=True):
        assert mine["bbox"] == theirs["bbox"] and mine["segmentation"] == [] and mine["iscrowd"] == 0
        assert mine["area"] == pytest.approx(mine["bbox"][2] * mine["bbox"][3], abs=1e-2)


def test_overlay_shows_the_boxes(run: Path, photos: Path) -> None:
    entry = next(entry for entry in boxes_of(run) if entry["file_name"] == "photo 0.jpg")
    before, after = (
        np.asarray(Pil.open(path).convert("RGB")).astype(int)
        for path in (photos / "photo 0.jpg", run / "overlays" / "photo 0.jpg")
    )
    x, y, _, height = map(int, entry["bbox"])
    changed = np.abs(before - after).max(axis=2) > 60
    edge = changed[min(y + height // 2, 199), max(x - 2, 0) : x + 3]
    assert edge.any() and changed.mean() < 0.3, "a box is drawn, and the picture is not covered"


def test_the_same_boxes_as_segment_finds(run: Path, photos: Path, tmp_path: Path) -> None:
    evsam("segment", photos, "-o", tmp_path / "masks", *QUICK, "--save", "boxes,coco", code=1)
    assert boxes_of(tmp_path / "masks") == boxes_of(run)
    evsam(
        "segment", photos, "-o", tmp_path / "again", "--boxes", run / "coco_boxes.json", "--save", "boxes,coco", code=1
    )
    first, second = (json.loads((tmp_path / folder / "coco_results.json").read_text()) for folder in ("masks", "again"))
    assert [entry["category_id"] for entry in first] == [entry["category_id"] for entry in second]
    for mine, theirs in zip(first, second, strict=True):  # the file's numbers are rounded
        np.testing.assert_allclose(mine["bbox"], theirs["bbox"], atol=2e-3)
        assert mine["score"] == theirs["score"]


def test_a_box_file_serves_a_run_over_other_images(run: Path, photos: Path, tmp_path: Path) -> None:
    """Its names say which image is meant, and its ids are kept."""
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(photos / "photo 1.jpg", other)
    evsam("segment", other, "-o", tmp_path / "out", "--boxes", run / "coco_boxes.json", "--save", "boxes")
    expected = [entry for entry in boxes_of(run) if entry["file_name"] == "photo 1.jpg"]
    found = boxes_of(tmp_path / "out")
    assert {entry["image_id"] for entry in found} == {entry["image_id"] for entry in expected} != {1}
    assert [entry["score"] for entry in found] == [entry["score"] for entry in expected]


def test_a_run_that_found_nothing_serves_as_a_box_file(photos: Path, tmp_path: Path) -> None:
    grey = photos / "grey.png"
    evsam("detect", grey, "-o", tmp_path / "none", *QUICK, "--save", "boxes")
    assert boxes_of(tmp_path / "none") == []
    evsam("segment", grey, "-o", tmp_path / "out", "--boxes", tmp_path / "none/coco_boxes.json", "--device", "cpu")
    info = json.loads((tmp_path / "out/run.json").read_text())
    assert info["images"] == {"total": 1, "done": 0, "empty": 1, "failed": 0}


def test_boxes_outside_the_image_are_reported(photos: Path, tmp_path: Path) -> None:
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("image,x1,y1,x2,y2\ngrey.png,5,5,60,60\ngrey.png,70,5,90,60\n")
    evsam("segment", photos / "grey.png", "-o", tmp_path / "out", "--boxes", boxes, "--device", "cpu")
    info = json.loads((tmp_path / "out/run.json").read_text())
    assert info["report"] == {"boxes": {"kept": 1, "dropped_outside_the_image": 1}}


def test_pictures_of_an_earlier_run_are_no_photos(photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    shutil.copy(photos / "grey.png", folder)
    for name in ("first", "second"):
        evsam("detect", folder, "-o", folder / name, *QUICK)
        assert json.loads((folder / name / "run.json").read_text())["images"]["total"] == 1


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("--save", "edges"), "--prompts edges"),
        (("--device", "meta"), "evsam doctor"),
        (("--boxes", "shut/boxes.json"), "Permission denied"),
        (("--boxes", "x" * 300), "File name too long"),
        (("--detector", "shut/model.pt"), "Permission denied"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_no_run(
    arguments: tuple[str, ...], hint: str, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.chdir(folder)
        shutil.copy(photos / "grey.png", folder)
        Path("shut").mkdir(mode=0)
        Path().chmod(0o777)
        with unprivileged():
            _, err = evsam("segment", "grey.png", "-o", "out", *arguments, code=2)
        assert hint in err and err.count("\n") == 1 and not Path("out").exists()


def test_resume(photos: Path, run: Path, tmp_path: Path) -> None:
    command = ("detect", photos, *QUICK, *KINDS, "-o", tmp_path / "cut")
    evsam(*command, code=1)
    journal = journal_of(tmp_path / "cut")
    journal.write_bytes(journal.read_bytes().splitlines(keepends=True)[0])
    evsam(*command, "--resume", code=1)
    assert final_files(tmp_path / "cut") == final_files(run)


def test_shards(photos: Path, tmp_path: Path) -> None:
    good = shutil.copytree(photos, tmp_path / "good", ignore=shutil.ignore_patterns("broken*"))
    command = ("detect", good, *QUICK, *KINDS)
    evsam(*command, "-o", tmp_path / "whole")
    parts = [tmp_path / f"part{i}" for i in (1, 2)]
    for i, part in enumerate(parts, 1):
        evsam(*command, "-o", part, "--shard", f"{i}/2")
    evsam("merge", *parts, "-o", tmp_path / "all")
    assert final_files(tmp_path / "all") == final_files(tmp_path / "whole")


@pytest.mark.parametrize("kind", [row.name for row in OUTPUTS.values() if row.needs != "boxes"])
def test_outputs_that_need_masks_are_refused(photos: Path, tmp_path: Path, kind: str) -> None:
    _, err = evsam("detect", photos, "-o", tmp_path / "out", *QUICK, "--save", kind, code=2)
    assert (
        f"{kind!r} needs {OUTPUTS[kind].needs}, and `evsam detect` finds only boxes; choose from: boxes, dataset" in err
    )
    assert err.count("\n") == 1 and not (tmp_path / "out").exists()


def test_precision_is_not_ignored(photos: Path, tmp_path: Path) -> None:
    _, err = evsam("detect", photos, "-o", tmp_path / "out", "--precision", "bf16", code=2)
    assert "objects runs in fp32 only" in err


def test_text(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from support import tiny_text

    tiny_text.shrink_swin(monkeypatch)
    tiny_text.write_cache(tmp_path / "home")
    tiny_text.use_cache(monkeypatch, tmp_path / "home")
    words = ("--detector", "grounding-dino-tiny", "--ontology", "cat=pet,red car=vehicle", "--max-det", "4")
    evsam("detect", photos / "photo 0.jpg", "-o", tmp_path / "out", *words, "--save", "boxes", "--device", "cpu")
    found = boxes_of(tmp_path / "out")
    assert found and {entry["category_name"] for entry in found} <= {"pet", "vehicle"}
    assert json.loads((tmp_path / "out" / "run.json").read_text())["report"]["boxes"]["kept"] == len(found)
    table = read_box_table(tmp_path / "out" / "coco_boxes.json")
    assert {category.name for category in table.categories} <= {"pet", "vehicle"}
    assert table.images[0].name == "photo 0.jpg"


class TestNamesInResults:
    def write(self, path: Path, *changes: dict[str, object]) -> Path:
        entry = {"image_id": 1, "category_id": 3, "bbox": [0, 0, 5, 5], "score": 0.5}
        path.write_text(json.dumps([entry | change for change in changes]))
        return path

    def test_names_and_categories(self, tmp_path: Path) -> None:
        path = self.write(
            tmp_path / "a.json",
            {"file_name": "x.jpg", "category_name": "red car"},
            {"image_id": 2, "category_id": 1, "category_name": "cat"},
        )
        table = read_box_table(path)
        assert [(image.name, image.id) for image in table.images] == [("x.jpg", 1), (None, 2)]
        assert table.categories == (Category(1, "cat"), Category(3, "red car"))

    def test_where_some_are_not_named_none_is(self, tmp_path: Path) -> None:
        path = self.write(tmp_path / "a.json", {"category_name": "red car"}, {"category_id": 1})
        assert read_box_table(path).categories == COCO_CATEGORIES
        assert read_box_table(self.write(tmp_path / "b.json")).categories == COCO_CATEGORIES

    def test_given_categories_come_first(self, tmp_path: Path) -> None:
        given = [Category(3, "bus")]
        assert read_box_table(self.write(tmp_path / "a.json", {"category_name": "x"}), categories=given).categories == (
            given[0],
        )

    def test_two_images_of_one_name(self, tmp_path: Path) -> None:
        path = self.write(tmp_path / "a.json", {"file_name": "x.jpg"}, {"file_name": "x.jpg", "image_id": 2})
        with pytest.raises(DataError, match="two of its images have the same file_name"):
            read_box_table(path)
