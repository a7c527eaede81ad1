"""Photos that EXIF turns: what evsam writes of them fits them in evaluate and train, and of files by others the frame
is found, or told to be unknown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.ExifTags
import PIL.Image
import pytest
from support.runs import evsam

from pipelines import frames, rle
from pipelines.detectors.box_file import BoxFileDetector
from pipelines.images.load import load
from pipelines.images.sources import ImageSource
from pipelines.training.sources import open_source

ORIENTATIONS = range(2, 9)
BOX = (4, 6, 24, 20)
"""x1, y1, x2, y2 of the only bright region, in stored pixels."""


def write_photo(path: Path, orientation: int, width: int = 64, height: int = 48) -> Path:
    pixels = np.full((height, width, 3), 30, np.uint8)
    x1, y1, x2, y2 = BOX
    pixels[y1:y2, x1:x2] = 240
    exif = PIL.Image.Exif()
    exif[PIL.ExifTags.Base.Orientation] = orientation
    PIL.Image.fromarray(pixels).save(path, exif=exif)
    return path


def bright(pixels: np.ndarray) -> list[int]:
    """x1, y1, x2, y2 of the bright region."""
    ys, xs = np.nonzero(pixels[:, :, 0] > 128)
    return [int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1]


def upright_box(path: Path) -> list[int]:
    return bright(load(ImageSource("x", str(path))).pixels)


def data_set(path: Path, photo: Path, box: list[int], **image: Any) -> Path:
    """One image with one object, whose mask is the box."""
    x1, y1, x2, y2 = box
    entry = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "iscrowd": 0}
    entry |= {"area": (x2 - x1) * (y2 - y1), "segmentation": [[x1, y1, x2, y1, x2, y2, x1, y2]]}
    listed = {"id": 1, "file_name": photo.name, **image}
    document = {"images": [listed], "annotations": [entry], "categories": [{"id": 1, "name": "square"}]}
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_boxes_turn_with_the_pixels(tmp_path: Path, orientation: int, suffix: str) -> None:
    path = write_photo(tmp_path / f"photo.{suffix}", orientation)
    stored, upright = (load(ImageSource("x", str(path)), upright=upright) for upright in (False, True))
    there = frames.boxes_from("stored", np.array([BOX], np.float32), upright)
    assert there.tolist() == [bright(upright.pixels)] and bright(stored.pixels) == list(BOX)
    assert frames.boxes_from("upright", there, stored).tolist() == [list(BOX)]
    assert frames.boxes_from("upright", there, upright) is there


@pytest.mark.parametrize(("orientation", "size"), [*((turn, (64, 48)) for turn in ORIENTATIONS), (6, (48, 48))])
def test_what_segment_writes_fits_in_evaluate_and_train(
    tmp_path: Path, orientation: int, size: tuple[int, int]
) -> None:
    (tmp_path / "images").mkdir()
    photo = write_photo(tmp_path / "images" / "photo.png", orientation, *size)
    box = upright_box(photo)
    (tmp_path / "boxes.csv").write_text(f"image,x1,y1,x2,y2\nphoto.png,{','.join(map(str, box))}\n")
    options = ("--boxes", tmp_path / "boxes.csv", "--save", "dataset,boxes,coco,sa1b", "--device", "cpu", "--quiet")
    _, err = evsam("segment", tmp_path / "images", "-o", tmp_path / "out", *options)
    assert "boxes.csv does not say" in err
    data = tmp_path / "out" / "coco_dataset.json"
    annotation = json.loads(data.read_text())["annotations"][0]
    for source in (open_source(data, tmp_path / "images"), _beside(tmp_path)):
        image = source[0].image()
        mask = source[0].mask(source[0].regions[0], image.height, image.width)
        np.testing.assert_array_equal(mask, rle.decode(annotation["segmentation"]))
        assert bright(image.pixels) == box and not image.notes
    given = ("--boxes", tmp_path / "out" / "coco_boxes.json", "--results", tmp_path / "out" / "coco_results.json")
    options = ("--images", tmp_path / "images", "--gt-boxes", *given, "--class-agnostic", "--no-report")
    _, err = evsam("evaluate", "coco", data, "-o", tmp_path / "eval", *options, "--device", "cpu", "--quiet")
    assert all("no object is of that size" in line for line in err.splitlines())
    scores = {path.parent.name: json.loads(path.read_text())["metrics"] for path in tmp_path.glob("eval/*/scores.json")}
    assert scores["gt-box+evsam-starter"]["mIoU"]["all"] > 85
    for cell, name in (("coco_boxes+evsam-starter", "AP50"), ("out", "AP")):
        assert scores[cell]["segm"][name] == pytest.approx(1)
    own = tmp_path / "eval" / "coco_boxes+evsam-starter" / "coco_results.json"
    assert json.loads(own.read_text())[0]["frame"] == "upright"


def _beside(folder: Path) -> Any:
    """The SA-1B file that segment wrote, beside its photo."""
    beside = folder / "beside"
    beside.mkdir()
    (beside / "photo.png").write_bytes((folder / "images" / "photo.png").read_bytes())
    (beside / "photo.json").write_text((folder / "out" / "sa1b" / "photo.json").read_text())
    return open_source(beside)


STORED, UPRIGHT, UNKNOWN = "in stored pixels", "in upright pixels", "in stored pixels, with a note"


@pytest.mark.parametrize(
    ("orientation", "size", "image", "read"),
    [
        (6, (64, 48), {"width": 64, "height": 48}, STORED),
        (6, (64, 48), {"width": 48, "height": 64}, UPRIGHT),
        (6, (48, 48), {"width": 48, "height": 48}, UNKNOWN),
        (3, (64, 48), {"width": 64, "height": 48}, UNKNOWN),
        (3, (64, 48), {"width": 64, "height": 48, "frame": "stored"}, STORED),
        (3, (64, 48), {"width": 64, "height": 48, "frame": "upright"}, UPRIGHT),
        (3, (64, 48), {"width": 64, "height": 48, "frame": 17}, UNKNOWN),  # of a video: it says nothing
        (1, (64, 48), {"width": 64, "height": 48}, STORED),
    ],
)
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_files_of_others(
    tmp_path: Path, orientation: int, size: tuple[int, int], image: dict[str, Any], read: str, suffix: str
) -> None:
    photo = write_photo(tmp_path / f"photo.{suffix}", orientation, *size)
    box = upright_box(photo) if read == UPRIGHT else list(BOX)
    data = data_set(tmp_path / "truth.json", photo, box, **image)
    options = ("--images", tmp_path, "--gt-boxes", "--no-report", "--device", "cpu", "--quiet")
    _, err = evsam("evaluate", "coco", data, "-o", tmp_path / "eval", *options)
    metrics = json.loads((tmp_path / "eval" / "gt-box+evsam-starter" / "scores.json").read_text())["metrics"]
    assert metrics["mIoU"]["all"] > 85
    sized = read == UPRIGHT and "frame" not in image
    expected = "does not say whether it counts" if read == UNKNOWN else "turned upright" if sized else ""
    notes = [line for line in err.splitlines() if "no object is of that size" not in line]
    assert len(notes) == bool(expected) and expected in "".join(notes)
    trained = open_source(data)[0].image()
    assert bright(trained.pixels) == box and len(trained.notes) == bool(expected)


def test_a_document_says_it_once_for_all(tmp_path: Path) -> None:
    photo = write_photo(tmp_path / "photo.png", 3)
    data = data_set(tmp_path / "truth.json", photo, upright_box(photo), width=64, height=48)
    data.write_text(json.dumps(json.loads(data.read_text()) | {"info": {"frame": "upright"}}))
    image = open_source(data)[0].image()
    assert image.frame == "upright" and not image.notes


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_boxes_of_a_truth_in_stored_pixels(tmp_path: Path, orientation: int) -> None:
    """segment counts upright: what says it is stored is turned, and what does not say is told."""
    photo = write_photo(tmp_path / "photo.png", orientation)
    upright = load(ImageSource("photo.png", str(photo)))
    said = data_set(tmp_path / "said.json", photo, list(BOX), width=64, height=48, frame="stored")
    (found,) = BoxFileDetector(said, None, {"photo.png": 1})([upright])
    assert found.boxes.tolist() == [bright(upright.pixels)] and not found.notes
    silent = data_set(tmp_path / "silent.json", photo, list(BOX), width=64, height=48)
    (found,) = BoxFileDetector(silent, None, {"photo.png": 1})([upright])
    turned = orientation >= 5
    assert found.boxes.tolist() == [bright(upright.pixels) if turned else list(BOX)]
    assert [("were turned" if turned else "does not say") in note for note in found.notes] == [True]


def test_shares_of_the_image_are_of_the_frame_they_are_counted_in(tmp_path: Path) -> None:
    photo = write_photo(tmp_path / "photo.png", 6)
    upright = load(ImageSource("photo.png", str(photo)))
    shares = [4 / 64, 6 / 48, 20 / 64, 14 / 48]
    entry = {"image_id": 1, "file_name": "photo.png", "frame": "stored", "category_id": 1, "bbox": shares, "score": 1}
    (tmp_path / "boxes.json").write_text(json.dumps([entry]))
    (found,) = BoxFileDetector(tmp_path / "boxes.json", "xywh-normalised", {"photo.png": 1})([upright])
    np.testing.assert_allclose(found.boxes, [bright(upright.pixels)], atol=1e-4)


@pytest.mark.parametrize("upright", [False, True])
def test_masks_of_png_files(tmp_path: Path, upright: bool) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    photo = write_photo(tmp_path / "images" / "photo.png", 8)
    mask = load(ImageSource("x", str(photo)), upright=upright).pixels[:, :, 0] > 128
    PIL.Image.fromarray(mask).save(tmp_path / "masks" / "photo.png")
    source = open_source(tmp_path)
    image = source[0].image()
    found = source[0].mask(source[0].regions[0], image.height, image.width)
    np.testing.assert_array_equal(found, image.pixels[:, :, 0] > 128)
    assert len(image.notes) == upright


@pytest.mark.parametrize("kind", ["ids", "objects"])
@pytest.mark.parametrize("orientation", [1, 3])
def test_png_masks_of_segment_say_their_frame(tmp_path: Path, kind: str, orientation: int) -> None:
    (tmp_path / "images").mkdir()
    photo = write_photo(tmp_path / "images" / "photo.png", orientation)
    box = upright_box(photo)
    (tmp_path / "boxes.csv").write_text(f"image,x1,y1,x2,y2\nphoto.png,{','.join(map(str, box))}\n")
    options = ("--boxes", tmp_path / "boxes.csv", "--save", kind, "--device", "cpu", "--quiet")
    evsam("segment", tmp_path / "images", "-o", tmp_path / "out", *options)
    (tmp_path / "out" / kind).rename(tmp_path / "masks")
    source = open_source(tmp_path)
    image = source[0].image()
    assert bright(image.pixels) == box and not image.notes
    (path,) = (path for path in tmp_path.glob("masks/**/*.png") if path.is_file())
    with PIL.Image.open(path) as picture:
        assert picture.text == ({} if orientation == 1 else {"frame": "upright"})


def test_a_photo_of_neither_size(tmp_path: Path) -> None:
    photo = write_photo(tmp_path / "photo.png", 6)
    data = data_set(tmp_path / "truth.json", photo, list(BOX), width=65, height=48)
    options = ("--images", tmp_path, "--gt-boxes", "--no-report", "--device", "cpu", "--quiet")
    _, err = evsam("evaluate", "coco", data, "-o", tmp_path / "eval", *options, code=1)
    assert "64 x 48, but the annotations say 65 x 48" in err
    assert "not of the sizes that truth.json states" in open_source(data)[0].image().notes[0]
