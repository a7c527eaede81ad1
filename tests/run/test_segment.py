"""The main job through the command line: sources, outputs, bad images, prompts, exit codes."""

from __future__ import annotations

import errno
import json
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pil
from pycocotools.coco import COCO
from support.runs import QUICK, evsam, final_files, photo_folder

from pipelines import rle
from pipelines.errors import SetupError
from pipelines.outputs import outputs_of
from pipelines.run.stages import writing_resumably

ALL = ("--save", ",".join(outputs_of("masks")))


@pytest.fixture(scope="module")
def scene(photographs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scene") / "zidane.jpg"
    Pil.open(photographs[1]).resize((320, 180)).save(path)
    return path


def pixels(path: Path) -> np.ndarray:
    with Pil.open(path) as image:
        return np.asarray(image)


def png_bomb() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")


def test_bad_images_among_good_ones(scene: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    image = Pil.open(scene)
    exif = Pil.Exif()
    exif[0x112] = 6
    grey = image.convert("L")
    good = {
        "a.jpg": lambda p: image.save(p),
        "a.PNG": lambda p: image.save(p),
        "deep/a.jpg": lambda p: image.save(p),
        "ünïcode 图.jpg": lambda p: image.save(p),
        "grey.png": lambda p: grey.save(p),
        "deep16.png": lambda p: Pil.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(p),
        "cmyk.jpg": lambda p: image.convert("CMYK").save(p),
        "palette.gif": lambda p: image.convert("P").save(p),
        "alpha.png": lambda p: image.convert("RGBA").save(p),
        "rotated.jpg": lambda p: image.save(p, exif=exif),
    }
    for name, write in good.items():
        write(folder / name)
    whole = (folder / "a.jpg").read_bytes()
    png = (folder / "a.PNG").read_bytes()
    bad = {
        "empty.jpg": (b"", "empty"),
        "text.jpg": (b"no image", "not an image"),
        "cut.jpg": (whole[: len(whole) // 2], "truncated"),
        "corrupt.png": (png[:2000] + bytes(400) + png[2400:], "damaged"),
        "bomb.png": (png_bomb(), "--max-pixels"),
    }
    for name, (content, _) in bad.items():
        (folder / name).write_bytes(content)
    (folder / "vanished.jpg").symlink_to(folder / "nowhere")

    out, err = evsam("segment", folder, "-o", tmp_path / "out", *QUICK, "--json", code=1)
    lines = {line["name"]: line for line in map(json.loads, out.splitlines())}
    assert set(lines) == {*good, *bad, "vanished.jpg"}
    for name in good:
        assert lines[name]["status"] in ("done", "empty"), lines[name]
    assert any(lines[name]["status"] == "done" for name in good)
    for name, (_, reason) in {**bad, "vanished.jpg": (b"", "no file")}.items():
        assert lines[name]["status"] == "failed" and reason in lines[name]["reason"]
        assert f"failed: {name}: " in err
    assert json.loads((tmp_path / "out/run.json").read_text())["images"]["failed"] == len(bad) + 1


def test_every_output_of_one_pass(scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    evsam("segment", scene, "-o", out, *QUICK, *ALL)
    truth = COCO(out / "coco_dataset.json")
    results = truth.loadRes(str(out / "coco_results.json"))
    record = json.loads((out / "records.jsonl").read_text())
    assert len(results.anns) == len(truth.anns) == len(record["instances"]) == 2
    for row, annotation in zip(record["instances"], results.anns.values(), strict=True):
        assert {"score", "predicted_iou", "stability_score"} <= set(annotation)
        assert rle.area(row["segmentation"]) == row["area"]
    ids = pixels(out / "ids/zidane.png")
    assert ids.dtype == np.uint8 and ids.shape == (180, 320) and ids.max() == 2
    assert len(list((out / "objects").rglob("*.png"))) == len(list((out / "cutouts").rglob("*.png"))) == 2
    assert pixels(out / "overlays/zidane.jpg").shape == (180, 320, 3)
    info = json.loads((out / "run.json").read_text())
    assert {"load", "detect", "encode", "decode", "write"} <= set(info["this_run"]["stage_seconds"])
    assert len(info["settings"]["sam_sha256"]) == len(info["settings"]["detector_sha256"]) == 64


def test_prompts_from_the_command_line_and_from_a_file(scene: Path, tmp_path: Path) -> None:
    evsam("segment", scene, "-o", tmp_path / "box", "--box", "180,20,320,180", "--box", "10,60,170,180")
    rows = json.loads((tmp_path / "box/coco_results.json").read_text())
    assert [row["bbox"] for row in rows] == [[180, 20, 140, 160], [10, 60, 160, 120]]

    evsam("segment", scene, "-o", tmp_path / "point", "--point", "250,100", "--point", "20,20,0")
    (row,) = json.loads((tmp_path / "point/coco_results.json").read_text())
    assert rle.bbox(row["segmentation"]) == pytest.approx(row["bbox"])

    csv = tmp_path / "boxes.csv"
    csv.write_text("image,x1,y1,x2,y2,score,label\nzidane.jpg,180,20,320,180,0.5,person\n")
    evsam("segment", scene, "-o", tmp_path / "file", "--boxes", csv)
    (from_file,) = json.loads((tmp_path / "file/coco_results.json").read_text())
    assert from_file["segmentation"] == rows[0]["segmentation"] and from_file["score"] == 0.5

    results = tmp_path / "results.json"
    results.write_text(json.dumps([{"image_id": 1, "category_id": 1, "bbox": [180, 20, 140, 160], "score": 0.5}]))
    evsam("segment", scene, "-o", tmp_path / "coco", "--boxes", results)
    (from_coco,) = json.loads((tmp_path / "coco/coco_results.json").read_text())
    assert from_coco["segmentation"] == rows[0]["segmentation"]


def test_an_image_without_the_given_box_fails_alone(scene: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    Pil.open(scene).save(folder / "large.png")
    Pil.open(scene).resize((16, 16)).save(folder / "small.png")
    _, err = evsam("segment", folder, "-o", tmp_path / "out", "--box", "180,20,320,180", "--batch", "2", code=1)
    assert "small.png" in err and "outside" in err
    assert len(json.loads((tmp_path / "out/coco_results.json").read_text())) == 1


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("--sam", "sam-9000"), "evsam-starter"),
        (("--detector", "yolo-9000"), "yolov8n"),
        (("--save", "coco,paper"), "overlay"),
        (("--device", "cuda:77"), "evsam doctor"),
        (("--precision", "fp3"), "bf16"),
        (("--shard", "3/2"), "3/2"),
        (("--box", "1,2,3"), "x1,y1,x2,y2"),
        (("--box", "1,2,30,40", "--point", "1,2"), "choose one"),
        (("--detector", "yolov8n"), "evsam weights pull yolov8n"),
        (("--sam", "efficientvit-sam-xl1"), "evsam weights pull efficientvit-sam-xl1"),
        (("--weights", "nothing.pt"), "nothing.pt"),
        (("--boxes", "nothing.json"), "nothing.json"),
        (("--classes", "unicorn"), "unicorn"),
    ],
)
def test_what_cannot_be_right_is_one_line_and_exit_code_2(
    arguments: tuple[str, ...], hint: str, scene: Path, tmp_path: Path
) -> None:
    _, err = evsam("segment", scene, "-o", tmp_path / "out", *arguments, code=2)
    assert hint in err
    assert len(err.strip().splitlines()) == 1


def test_sources_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for source in (tmp_path / "nowhere", tmp_path / "empty", tmp_path / "*.jpg"):
        _, err = evsam("segment", source, "-o", tmp_path / "out", code=2)
        assert str(source) in err


def test_output_that_cannot_be_written(scene: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    _, err = evsam("segment", scene, "-o", blocked / "out", code=2)
    assert "cannot write" in err
    if Path("/proc/self").exists():  # Linux, where nobody can make anything in /proc
        _, err = evsam("segment", scene, "-o", "/proc/evsam", code=2)
        assert "cannot write" in err


def test_a_disk_that_fills_up_stops_the_run_and_it_resumes(photographs: list[Path], tmp_path: Path) -> None:
    """A limit on file size stands in for the disk: it fails the same writes."""
    resource = pytest.importorskip("resource")
    folder = photo_folder(tmp_path / "photos", photographs, 5)
    out, box = tmp_path / "out", ("--box", "10,10,80,80")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limits[1]))
    try:
        _, err = evsam("segment", folder, "-o", out, *box, "--quiet", code=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "cannot write" in err and "--resume" in err and len(err.splitlines()) == 1
    evsam("segment", folder, "-o", out, *box, "--resume")
    evsam("segment", folder, "-o", tmp_path / "whole", *box)
    assert final_files(out) == final_files(tmp_path / "whole")


@pytest.mark.parametrize(
    ("code", "text"), [(errno.ENOSPC, "disk is full"), (errno.EROFS, "read-only"), (errno.EACCES, "permission")]
)
def test_faults_of_the_disk_are_explained(code: int, text: str) -> None:
    with pytest.raises(SetupError, match=text), writing_resumably("out"):
        raise OSError(code, os.strerror(code))


def test_shards_merge_to_the_whole(photographs: list[Path], tmp_path: Path) -> None:
    folder = photo_folder(tmp_path / "photos", photographs, 10)
    evsam("segment", folder, "-o", tmp_path / "whole", *QUICK, *ALL, code=1)
    parts = [tmp_path / f"part{i}" for i in (1, 2, 3)]
    for i, part in enumerate(parts, 1):
        evsam("segment", folder, "-o", part, *QUICK, *ALL, "--shard", f"{i}/3", "--quiet", code=int(i == 3))
    evsam("merge", *parts, "-o", tmp_path / "all", code=1)
    assert final_files(tmp_path / "all") == final_files(tmp_path / "whole")
    _, err = evsam("merge", *parts[:2], "-o", tmp_path / "two", code=2)
    assert "no part" in err
    _, err = evsam("merge", parts[0], *parts, "-o", tmp_path / "four", code=2)
    assert "must be in one" in err
    _, err = evsam("merge", *parts, "-o", parts[0], "--overwrite", code=2)
    assert "is one of the parts" in err and (parts[0] / "run.json").exists()


def test_a_list_on_standard_input_and_quiet(scene: Path, tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text(f"# two\n{scene}\n{tmp_path / 'gone.jpg'}\n")
    _, err = evsam("segment", listed, "-o", tmp_path / "out", *QUICK, "--quiet", code=1)
    assert err.startswith("failed: ") and len(err.splitlines()) == 1
