"""Names that people type and evsam does not have: one line says what works instead."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image as Pil
from support.runs import evsam

from pipelines import not_yet
from pipelines.detectors import DETECTORS
from pipelines.detectors.text import TEXT_DETECTORS
from pipelines.outputs import OUTPUTS
from pipelines.sam import SAMS

SEGMENT = ("segment", "photo.png", "-o", "out")
TEXT = ("text", "photo.png", "cat", "-o", "out")

TYPED = [
    ((*SEGMENT, "--save", "yolov8-seg"), "--save yolo"),
    ((*SEGMENT, "--save", "coco,pascal_voc"), "--save voc"),
    ((*SEGMENT, "--save", "label_me"), "--save labelme"),
    ((*SEGMENT, "--save", "CVAT"), "did you mean 'cvat'?"),
    ((*SEGMENT, "--save", "geo_json"), "--save geojson"),
    ((*SEGMENT, "--save", "roboflow"), "--save dataset"),
    ((*SEGMENT, "--save", "masks"), "--save ids"),
    ((*SEGMENT, "--save", "overlays"), "--save overlay"),
    ((*SEGMENT, "--save", "cutout"), "--save cutouts"),
    (("detect", "photo.png", "-o", "out", "--save", "yolov8-seg"), "--save yolo"),
    ((*SEGMENT, "-d", "yolo11n"), "bring yolo11n.pt and say --detector yolo11n.pt, or say --detector yolov8n"),
    ((*SEGMENT, "-d", "yolo26n"), "bring yolo26n.pt"),
    ((*SEGMENT, "-d", "yolo12x"), "or say --detector yolov8x"),
    ((*SEGMENT, "-d", "yolov9c"), "or say --detector yolov8m"),
    ((*SEGMENT, "-d", "yolov5s"), "bring yolov5su.pt"),
    ((*SEGMENT, "-d", "yolo11n.pt"), "there is no file yolo11n.pt: its weights are not fetched by name"),
    ((*SEGMENT, "-d", "yolov8n-seg.pt"), "a SAM makes the masks: say --detector yolov8n"),
    ((*SEGMENT, "-d", "yolo11s-seg"), "a SAM makes the masks: say --detector yolov8s"),
    ((*SEGMENT, "-d", "rtdetr-l"), "--boxes boxes.json"),
    ((*SEGMENT, "-d", "grounding-dino"), "say grounding-dino-swint and --text"),
    ((*SEGMENT, "-d", "yolov8"), "did you mean 'yolov8n'?"),
    ((*SEGMENT, "-d", "YOLOv8m"), "did you mean 'yolov8m'?"),
    (("everything", "photo.png", "-o", "out", "--detector", "yolo11n"), "bring yolo11n.pt"),
    ((*SEGMENT, "--sam", "sam2"), "--sam efficientvit-sam-xl1"),
    ((*SEGMENT, "--sam", "sam2.1_hiera_large"), "--sam efficientvit-sam-xl1"),
    ((*SEGMENT, "--sam", "lite-sam"), "--sam efficientvit-sam-l0"),
    ((*SEGMENT, "--sam", "FastSAM-s"), "--sam efficientvit-sam-l0"),
    ((*SEGMENT, "--sam", "vit_b"), "did you mean 'sam-vit-b'?"),
    ((*SEGMENT, "--sam", "vit_h"), "did you mean 'sam-vit-h'?"),
    ((*SEGMENT, "--sam", "xl1"), "did you mean 'efficientvit-sam-xl1'?"),
    ((*SEGMENT, "--sam", "efficientvit_sam_l0"), "did you mean 'efficientvit-sam-l0'?"),
    ((*SEGMENT, "--sam", "mine.pt"), "a file goes to --weights"),
    ((*TEXT, "-d", "yolov8s-worldv2"), "--detector grounding-dino-swint"),
    ((*TEXT, "-d", "grounding-dino"), "did you mean 'grounding-dino-"),
    (("export", "sam2", "-o", "out"), "--sam efficientvit-sam-xl1"),
    (("benchmark", "lite-sam", "-o", "out"), "--sam efficientvit-sam-l0"),
    (("weights", "pull", "yolo11n"), "yolov8n to yolov8x"),
    (("weights", "pull", "mobile_sam"), "did you mean 'mobile-sam'?"),
    (("weights", "pull", "yolov8"), "did you mean 'yolov8n'?"),
]


@pytest.mark.parametrize(("command", "words"), TYPED, ids=[" ".join(command[2:]) for command, _ in TYPED])
def test_a_name_that_is_not_there_says_what_is(command: tuple[str, ...], words: str, here: Path) -> None:
    Pil.new("RGB", (64, 48)).save(here / "photo.png")
    _, said = evsam(*command, code=2)
    assert said.startswith("evsam: ") and said.count("\n") == 1 and words in said


SOURCES = [
    ("clip.mp4", "is a video; evsam reads photographs. Save frames first: mkdir frames; ffmpeg -i clip.mp4 frames/"),
    ("holiday/CLIP.MOV", "is a video"),
    ("clips/*.avi", "is a video"),
    ("https://ann:secret@box.example/a.mp4?secret", "'https://box.example/a.mp4' is a video"),
    ("0", "is a camera"),
    ("rtsp://ann:secret@camera/1", "'rtsp://camera/1' is a stream"),
    ("s3://bucket/photos", "aws s3 cp --recursive s3://bucket/photos photos"),
    ("gs://bucket/photos", "gcloud storage cp"),
    ("sftp://box/a.jpg", "curl -O"),
    ("file:///home/a.jpg", "without file://"),
    ("photos.zip", "is an archive"),
    ("photos.tar.gz", "is an archive"),
    ("scan.pdf", "pdftoppm -png scan.pdf page"),
    ("IMG_1.CR2", "raw file"),
    ("slice.dcm", "medical"),
]


@pytest.mark.parametrize(("source", "words"), SOURCES)
@pytest.mark.parametrize("there", [False, True])
def test_a_source_that_is_no_photograph(source: str, words: str, there: bool, here: Path) -> None:
    if there and "://" not in source and source != "0":
        path = here / source.replace("*", "one")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    _, said = evsam("segment", source, "-o", "out", code=2)
    assert said.startswith("evsam: ") and said.count("\n") == 1 and words in said and "secret" not in said


@pytest.mark.parametrize(("source", "words"), SOURCES)
def test_a_line_of_a_list_that_is_no_photograph(source: str, words: str, here: Path) -> None:
    Path("list.txt").write_text(f"a.jpg\n{source}\n")
    _, said = evsam("segment", "list.txt", "-o", "out", code=2)
    assert said.startswith("evsam: in the list 'list.txt': ") and said.count("\n") == 1
    assert words in said and "secret" not in said


def test_a_file_of_a_list_may_be_called_by_a_number(here: Path) -> None:
    Pil.new("RGB", (64, 48)).save(here / "7", "PNG")
    (here / "list.txt").write_text("7\n")
    evsam("segment", "list.txt", "-o", "out", "--box", "5,5,20,20", "--save", "coco")


def test_a_folder_may_be_called_anything(here: Path) -> None:
    for name in ("0", "clip.mp4", "photos.zip"):
        (here / name).mkdir()
        Pil.new("RGB", (64, 48)).save(here / name / "a.png")
        evsam("segment", name, "-o", f"out of {name}", "--box", "5,5,20,20", "--save", "coco")
    Pil.new("RGB", (64, 48)).save(here / "7", "PNG")
    evsam("segment", "7", "-o", "out of 7", "--box", "5,5,20,20", "--save", "coco")


@pytest.mark.parametrize(
    ("kind", "known"), [("output", OUTPUTS), ("detector", DETECTORS), ("SAM", SAMS), ("text detector", TEXT_DETECTORS)]
)
def test_what_is_advised_is_there(kind: str, known: dict[str, object]) -> None:
    """And no row is about a name that is there by now."""
    assert not [name for name in known if not_yet.instead(kind, name)]
    named = {*OUTPUTS, *DETECTORS, *SAMS, *TEXT_DETECTORS}
    for _, words in not_yet._BY_KIND[kind]:
        advised = re.findall(r"--(?:save|sam|detector) ([\w-]+(?:\{size\})?)(?![.\w{])", words)
        assert advised or "--weights" in words or "grounding-dino-swint" in words or "sam-vit-h" in words
        assert {name.replace("{size}", "n") for name in advised} <= named
