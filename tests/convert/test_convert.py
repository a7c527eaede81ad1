"""`evsam convert`: what every kind keeps, runs converted byte for byte, kills, and what cannot be."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pil
from support.label_files import FILES, HOLED, RING, SOLID, write_files
from support.output_cases import HEIGHT, WIDTH, shapes
from support.runs import QUICK, evsam, final_files, run_stopped

from pipelines import rle
from pipelines.convert import ConvertConfig, convert
from pipelines.labels import LABELS
from pipelines.labels.instances import image_record, of_box, of_mask
from pipelines.outputs import OUTPUTS, outputs_of
from pipelines.records import Record

READ_BACK = [row.name for row in OUTPUTS.values() if row.labels]
LEAST = {"voc": 0.5}
"""IoU that an object keeps in kinds that lose any."""
KINDS = ",".join(outputs_of("masks"))


def crafted() -> list[Record]:
    """Images with a hole, two parts, one pixel, all of the border; 2,000 objects; nothing."""
    frame = np.ones((HEIGHT, WIDTH), np.bool_)
    frame[1:-1, 1:-1] = False
    masks = [rle.encode(mask) for mask in (*shapes(), frame)]
    found = [of_mask(number % 2 + 1, mask, 0.5) for number, mask in enumerate(masks)]
    found[0] |= {"predicted_iou": 0.75, "stability_score": 0.25}
    side, many = 250, []
    for number in range(2000):
        y, x = divmod(number, 50)
        dot = np.ones((3, 4), np.bool_)
        dot[1, 1] = number % 3 > 0  # every third has a hole
        many.append(of_mask(1, rle.from_region(dot, 5 * x, 5 * y, side, side)))
    records = [image_record("a/x.jpg", (WIDTH, HEIGHT), found), image_record("a/many.png", (side, side), many)]
    records.append(image_record("empty.jpg", (WIDTH, HEIGHT), ()))
    return [replace(record, image_id=number + 5) for number, record in enumerate(records)]


def as_run(folder: Path, records: list[Record]) -> Path:
    """A records.jsonl, and what names its classes."""
    folder.mkdir()
    (folder / "records.jsonl").write_text("".join(f"{record.to_line()}\n" for record in records), "utf-8")
    (folder / "run.json").write_text(json.dumps({"categories": {"1": "person", "2": "Straßenbahn/路面電車"}}))
    return folder / "records.jsonl"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """By kind what the crafted masks have kept in it."""
    folder = tmp_path_factory.mktemp("crafted")
    config = ConvertConfig(as_run(folder / "in", crafted()), folder / "out", tuple(READ_BACK), check=True)
    return {row["kind"]: row for row in convert(config).info["report"]["check"]}


@pytest.mark.parametrize("kind", READ_BACK)
def test_crafted_masks_come_back(kept: dict[str, dict[str, Any]], kind: str) -> None:
    assert (kept[kind]["objects"], kept[kind]["lost"]) == (2005, 0)
    assert kept[kind]["least"] >= LEAST.get(kind, 1.0)


@pytest.mark.parametrize("format", LABELS)
def test_labels_of_every_format_become_a_data_set(tmp_path: Path, format: str) -> None:
    """Names and masks survive, COCO's own ids, too."""
    write_files(tmp_path / "in", FILES[format])
    evsam(
        "convert",
        tmp_path / "in",
        "-o",
        tmp_path / "out",
        "--to",
        "dataset,overlay",
        "--photos",
        tmp_path / "in/photos",
    )
    found = json.loads((tmp_path / "out/coco_dataset.json").read_text())
    names = {category["id"]: category["name"] for category in found["categories"]}
    person, dog = found["annotations"]
    if format in ("coco", "coco-results", "jsonl", "csv", "parquet"):
        assert (person["category_id"], dog["category_id"]) == (1, 18)
        assert found["images"][0]["id"] == 7
    assert (names[person["category_id"]], names[dog["category_id"]]) == ("person", "dog")
    mask = rle.decode(person["segmentation"])
    assert (mask == (RING if format in HOLED else SOLID)).all() and dog["segmentation"] == []
    overlays = [path.stem for path in (tmp_path / "out").rglob("overlays/**/*.jpg")]
    assert sorted(overlays) == ["a", "b"][: len(found["images"])]


@pytest.fixture(scope="module")
def run(photographs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of evsam that wrote every kind, over a photograph, one of its parts, and a grey picture."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "photos/sub").mkdir(parents=True)
    photo = Pil.open(photographs[0]).convert("RGB").resize((203, 270))
    photo.save(folder / "photos/bus.jpg")
    photo.crop((0, 100, 150, 220)).save(folder / "photos/sub/bus.png")
    Pil.new("RGB", (96, 96), (120, 120, 120)).save(folder / "photos/grey.png")
    evsam("segment", folder / "photos", "-o", folder / "out", "--save", KINDS, *QUICK)
    return folder / "out"


def test_a_run_is_converted_to_what_it_would_have_written(run: Path) -> None:
    converted, again = run.with_name("converted"), run.with_name("again")  # LabelMe's files lead to the photos
    _, said = evsam("convert", run, "-o", converted, "--to", KINDS)
    assert final_files(converted) == final_files(run)
    assert "2 done, 1 empty, 0 failed" in said and "Results are in" in said
    evsam("convert", converted, "-o", again, "--to", KINDS)  # which is as good as a run
    assert final_files(again) == final_files(run)


def test_a_conversion_that_is_killed_is_repeated(run: Path, tmp_path: Path) -> None:
    command = ("convert", run, "-o", tmp_path / "out", "--to", "ids,dataset")
    assert run_stopped(*command, after=2).returncode == -9
    assert not (tmp_path / "out/coco_dataset.json").exists() and not (tmp_path / "out/run.json").exists()
    evsam(*command)
    evsam("convert", run, "-o", tmp_path / "whole", "--to", "ids,dataset")
    assert final_files(tmp_path / "out") == final_files(tmp_path / "whole")
    _, said = evsam(*command, code=2)
    assert "already holds a run: add --overwrite" in said
    evsam(*command, "--overwrite")


def test_check_prints_what_was_kept(tmp_path: Path) -> None:
    write_files(tmp_path / "in", FILES["cvat"])
    out, said = evsam("convert", tmp_path / "in", "-o", tmp_path / "out", "--to", "coco,dataset,boxes,ids", "--check")
    rows = [line.split() for line in out.splitlines()]
    assert rows[1:] == [
        ["boxes", "boxes", "2", "0", "1.0000", "1.0000"],
        ["coco", "masks", "1", "0", "1.0000", "1.0000"],
        ["dataset", "masks", "2", "0", "1.0000", "1.0000"],
        ["ids", "masks", "1", "-", "-", "-"],
    ]
    assert "note: 1 object has a box and no mask, and no place in coco, ids" in said
    assert "evsam does not read ids back" in said


def test_what_a_kind_lost_is_seen(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that forgets the second object, and half of the first."""
    from pipelines.outputs.jsonl import Records

    def forget(output: Records, records: object, finish: object = Records.finish) -> None:
        half = rle.from_region(RING[3:7, 2:5], 2, 3, *RING.shape)
        kept = [replace(record, instances=(of_mask(1, half),)) for record in records()]  # type: ignore[operator]
        finish(output, lambda: kept[:1])  # type: ignore[operator]

    monkeypatch.setattr(Records, "finish", forget)
    write_files(tmp_path / "in", FILES["coco"])
    (kept,) = convert(ConvertConfig(tmp_path / "in", tmp_path / "out", ("jsonl",), check=True)).info["report"]["check"]
    assert (kept["objects"], kept["lost"]) == (2, 1) and kept["least"] == kept["mean"] == 10 / 20


def test_names_that_no_file_can_have_are_changed_and_told(tmp_path: Path) -> None:
    names = ("a.jpg", "A.jpg", "b\n.jpg")
    records = [image_record(name, (9, 9), (of_box(1, (0, 0, 3, 3)),)) for name in names]
    path = as_run(tmp_path / "in", records)
    _, said = evsam("convert", path, "-o", tmp_path / "out", "--to", "jsonl")
    found = [Record.from_line(line).name for line in (tmp_path / "out/records.jsonl").read_text().splitlines()]
    assert found == ["a.jpg", "A-2.jpg", "b_.jpg"] and "names were changed so that each can be that of a file" in said


def test_photos_that_do_not_fit_fail(tmp_path: Path) -> None:
    write_files(tmp_path / "in", FILES["cvat"])
    Pil.new("RGB", (21, 10)).save(tmp_path / "in/photos/a.png")
    (tmp_path / "in/photos/b.png").unlink()
    _, said = evsam("convert", tmp_path / "in", "-o", tmp_path / "out", "--to", "overlay,jsonl", code=1)
    assert "failed: a.png: the photo is 21 x 10, but its labels are for 20 x 10" in said
    assert "failed: b.png: there is no file" in said
    evsam("convert", tmp_path / "in", "-o", tmp_path / "without", "--to", "ids,jsonl")  # which need no photo


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--to", "ids"), "'ids' needs masks, and"),
        (("--to", "edges"), "'edges' needs edges"),
        (("--to", "idz"), "unknown output 'idz'"),
        (("--to", ","), "--to names nothing to write"),
        (("--to", "jsonl", "--from", "vok"), "unknown label format 'vok'"),
        (("--to", "jsonl", "--photos", "nowhere"), "nowhere is no folder of photos"),
        (("--to", "jsonl", "--from", "cvat"), "holds no labels"),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_nothing(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    write_files(tmp_path / "in", {**FILES["yolo"], "photos/a.txt": "1 0.65 0.5 0.3 0.8\n"})
    _, said = evsam("convert", tmp_path / "in", "-o", tmp_path / "out", *arguments, code=2)
    assert words in said and len(said.splitlines()) == 1 and not (tmp_path / "out").exists()


def test_the_source_is_never_written_to(run: Path, tmp_path: Path) -> None:
    for output, words in ((run, "choose another output folder"),):
        _, said = evsam("convert", run, "-o", output, "--to", "jsonl", code=2)
        assert words in said
    write_files(tmp_path / "in", FILES["coco"])
    command = ("convert", tmp_path / "in/labels.json", "-o", tmp_path / "out", "--to", "dataset")
    evsam(*command)
    shutil.move(tmp_path / "out/coco_dataset.json", tmp_path / "out/labels.json")
    evsam("convert", tmp_path / "out/labels.json", "-o", tmp_path / "out", "--to", "dataset", "--overwrite")
    again = ("convert", tmp_path / "out/coco_dataset.json", "-o", tmp_path / "out", "--to", "dataset", "--overwrite")
    _, said = evsam(*again, code=2)
    assert "lies in what --overwrite deletes" in said
