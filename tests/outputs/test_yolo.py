"""`--save yolo`: ultralytics reads what was found, and trains on it."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.output_cases import (
    FOUND,
    HEIGHT,
    NOTHING,
    WIDTH,
    build,
    files,
    hard_masks,
    make_instances,
    photo,
    put_down,
    put_photos,
)
from support.runs import QUICK, evsam, final_files, noise_folder

from pipelines import rle
from pipelines.detectors import quiet_ultralytics  # noqa: F401  before ultralytics
from pipelines.errors import UsageError
from pipelines.outlines import outlines
from pipelines.outputs.split import PARTS, parse_split, part_of
from pipelines.outputs.yolo import READ
from pipelines.records import Record
from pipelines.types import Bool, Instances

MASKS = hard_masks()
LINES = [mask for mask in MASKS if mask.any()]
ONE_PART = [len(outlines(rle.encode(mask))) == 1 for mask in LINES]
MANY = make_instances([np.roll(MASKS[3], (i // 40, i % 40), (0, 1)) for i in range(2000)])


def read_by_ultralytics(data: Path, task: str = "segment") -> dict[str, dict[str, Any]]:
    """Labels by name of image, as ultralytics' data set holds them."""
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.data.utils import check_det_dataset

    known = check_det_dataset(str(data))
    labels = YOLODataset(img_path=known["train"], data=known, task=task, augment=False).labels
    return {Path(label["im_file"]).relative_to(data.parent / "images").as_posix(): label for label in labels}


def filled(label: dict[str, Any]) -> list[Bool]:
    """As ultralytics fills the outlines."""
    from ultralytics.data.utils import polygon2mask

    shape = label["shape"]
    return [
        polygon2mask(shape, [(outline * (shape[1], shape[0])).ravel()]).astype(np.bool_)
        for outline in label["segments"]
    ]


def iou(one: Bool, other: Bool) -> float:
    return float((one & other).sum() / (one | other).sum())


def test_ultralytics_reads_every_mask(tmp_path: Path) -> None:
    found = {
        "a/b.png": make_instances(MASKS, [7, 1, 90, 1, 1, 7, 1, 7]),
        "a/b.bmp": NOTHING,
        "many.png": MANY,
    }
    notes = put_down(
        build("yolo", put_photos(tmp_path, [photo(name) for name in found])),
        found,
        [Record("c.png", 9, 0, 0, "failed")],
    )
    assert notes == ["a mask covers no pixel, and is left out of yolo (a/b.png)"]
    labels = read_by_ultralytics(tmp_path / "out/yolo/data.yaml")
    assert set(labels) == {"a/b.png.png", "a/b.bmp.bmp", "many.png"}, "images whose stem is shared keep their name"
    assert labels["a/b.png.png"]["cls"].ravel().tolist() == [1, 0, 2, 0, 0, 1, 0]
    masks = filled(labels["a/b.png.png"])
    ious = [iou(one, other) for one, other in zip(masks, LINES, strict=True)]
    assert [each == 1 for each in ious] == [one or each == 1 for one, each in zip(ONE_PART, ious, strict=True)]
    assert all(one or each > 0.85 for one, each in zip(ONE_PART, ious, strict=True)), "bridges alone are added"
    assert not len(labels["a/b.bmp.bmp"]["cls"])
    assert len(labels["many.png"]["cls"]) == 2000
    many = np.stack(filled(labels["many.png"]))
    assert np.array_equal(many, np.stack([rle.decode(mask) for mask in MANY.rles]))


def test_ultralytics_reads_boxes(tmp_path: Path) -> None:
    inside = FOUND.detections.boxes.clip(0, (WIDTH, HEIGHT, WIDTH, HEIGHT)).astype(np.float32)
    boxes_only = Instances(replace(FOUND.detections, boxes=inside), None)
    for folder, instances, expected in (
        ("masks", FOUND, [rle.bbox(mask) for mask in FOUND.rles]),
        ("boxes", boxes_only, inside),
    ):
        destination = put_photos(tmp_path / folder, [photo("x.png")])
        output = build("yolo", destination, boxes=folder == "masks")
        put_down(output, {"x.png": instances})
        (label,) = read_by_ultralytics(tmp_path / folder / "out/yolo/data.yaml", "detect").values()
        centres, sizes = np.split(label["bboxes"] * (WIDTH, HEIGHT, WIDTH, HEIGHT), 2, axis=1)
        found = np.concatenate([centres - sizes / 2, sizes if folder == "masks" else centres + sizes / 2], axis=1)
        assert np.allclose(found, expected, atol=1e-3)


def test_ultralytics_trains_on_what_was_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from ultralytics.models import YOLO
    from ultralytics.utils import LOGGER, ROOT, YAML

    names = [f"{i}.png" for i in range(8)]
    found = {name: NOTHING if name == "3.png" else FOUND for name in names}
    output = build("yolo", put_photos(tmp_path, [photo(name) for name in names]), split=(0.5, 0.3, 0.2))
    assert not put_down(output, found)
    layout = YAML.load(ROOT / "cfg/models/v8/yolov8-seg.yaml") | {"scales": {"n": [0.33, 0.125, 128]}, "scale": "n"}
    YAML.save(tmp_path / "tiny-seg.yaml", layout)
    monkeypatch.setattr(LOGGER, "propagate", True)
    monkeypatch.setattr(LOGGER, "disabled", False)
    with caplog.at_level(logging.WARNING):
        model = YOLO(tmp_path / "tiny-seg.yaml", task="segment")
        model.train(
            data=str(tmp_path / "out/yolo/data.yaml"),
            epochs=1,
            imgsz=64,
            batch=4,
            workers=0,
            device="cpu",
            plots=False,
            amp=False,
            project=str(tmp_path / "run"),
            name="x",
        )
    assert not caplog.records
    assert list(model.names.values()) == [category.name for category in output.destination.categories.values()]
    lists = [(tmp_path / f"out/yolo/{part}.txt").read_text().split() for part in PARTS]
    assert sorted(name for each in lists for name in each) == [f"./images/{name}" for name in names]


def test_a_name_keeps_its_part_and_shares_are_kept() -> None:
    shares = parse_split("0.8,0.1,0.1")
    parts = [part_of(f"{i:04d}.jpg", shares) for i in range(10_000)]
    assert [parts.count(part) / 10_000 for part in PARTS] == pytest.approx(shares, abs=0.01)
    assert parts[:5] == ["train", "train", "val", "test", "train"], "on every machine"
    assert {part_of(f"{i}", parse_split("0.5,0.5")) for i in range(20)} == {"train", "val"}


@pytest.mark.parametrize("text", ["", "1", "0.8", "0.8,0.3", "1,0", "1.5,-0.5", "a,b", "nan,1", "0.25,0.25,0.25,0.25"])
def test_what_is_no_split_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--split '.*' is not the shares of .*, such as 0\.8,0\.1,0\.1$"):
        parse_split(text)


def test_images_are_brought_once_and_go_with_their_labels(tmp_path: Path) -> None:
    found: dict[str, Instances] = {"x.png": FOUND, "y.gif": FOUND, "gone.png": NOTHING}
    destination = put_photos(tmp_path, [photo(name) for name in found])
    (tmp_path / "photos/gone.png").unlink()
    output = build("yolo", destination, split=(0.0001, 0.9999))
    notes = put_down(output, found)
    assert notes == [
        "the split of yolo left train without an image: give more, or other shares",
        "ultralytics does not train on images of this format (y.gif)",
        f"no file is there to be put into {tmp_path}/out/yolo/images: put it there yourself (gone.png)",
    ]
    copy = tmp_path / "out/yolo/images/x.png"
    before = copy.stat()
    put_down(output, found)
    assert copy.stat().st_ino == before.st_ino, "not copied anew"
    linking = build("yolo", destination, images="link")
    put_down(linking, found)
    assert copy.readlink() == tmp_path / "photos/x.png"
    put_down(output, found)
    assert not copy.is_symlink() and copy.read_bytes() == (tmp_path / "photos/x.png").read_bytes()
    output.remove("x.png")
    assert not {path for path in files(destination) if "x." in path} and (tmp_path / "photos/x.png").exists()


def test_options_reach_the_kind_and_must_be_repeated(tmp_path: Path) -> None:
    folder = noise_folder(tmp_path / "photos", "012")
    command = ("detect", folder, *QUICK, "--conf", "0.001", "--save", "yolo,boxes", "--split", "0.5,0.5")
    evsam(*command, "-o", tmp_path / "out", "--yolo-boxes", "--yolo-images", "none")
    written = final_files(tmp_path / "out")
    assert "yolo/val.txt" in written and "yolo/images/0.png" not in written
    assert all(len(path.read_text().split()) == 10 for path in (tmp_path / "out/yolo/labels").iterdir())
    _, err = evsam(*command, "-o", tmp_path / "out", "--yolo-images", "none", "--resume", code=2)
    assert "(output_options.yolo.boxes: True then, None now)" in err
    _, err = evsam("segment", folder, "-o", tmp_path / "x", "--save", "coco", "--yolo-boxes", code=2)
    assert err == "evsam: --yolo-boxes is for yolo: name it among the kinds, or drop --yolo-boxes\n"
    _, err = evsam("segment", folder, "-o", tmp_path / "x", "--save", "yolo", "--yolo-images", "move", code=2)
    assert "choose one of: copy, link, none" in err
    for part in (1, 2):
        evsam(*command, "-o", tmp_path / f"part-{part}", "--shard", f"{part}/2")
    evsam("merge", tmp_path / "part-1", tmp_path / "part-2", "-o", tmp_path / "merged")
    evsam(*command, "-o", tmp_path / "whole")
    assert final_files(tmp_path / "merged") == final_files(tmp_path / "whole")


def test_extensions_are_among_those_of_ultralytics() -> None:
    from ultralytics.data.utils import IMG_FORMATS

    assert READ <= IMG_FORMATS
