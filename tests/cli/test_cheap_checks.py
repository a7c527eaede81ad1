"""What is wrong with a command is told before anything is fetched: a real server counts what it is asked for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image as Pil
from support.loopback_hub import Hub, Reply, running
from support.runs import evsam

from weights import download, store

SAM = ("--sam", "efficientvit-sam-l2")
YOLO = ("--detector", "yolov8n")
"""Models whose weights are not here."""


@pytest.fixture
def far(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The server of all weights, which has none; and a working folder with something of everything."""
    Pil.new("RGB", (64, 48), (90, 120, 60)).save(here / "photo.png")
    Pil.new("L", (64, 48), 255).save(here / "mask.png")
    for folder in ("photos", "masks"):
        (here / folder).mkdir()
        Pil.open(here / ("photo.png" if folder == "photos" else "mask.png")).save(here / folder / "a.png")
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 20, 20], "area": 400, "iscrowd": 0}
    image = {"id": 1, "file_name": "a.png", "width": 64, "height": 48}
    truth = {
        "images": [image],
        "annotations": [box | {"segmentation": [[5, 5, 25, 5, 25, 25, 5, 25]]}],
        "categories": [{"id": 1, "name": "person"}],
    }
    for path in (here / "truth.json", here / "photos" / "annotations.json"):
        path.write_text(json.dumps(truth))
    of_lvis = {"neg_category_ids": [], "not_exhaustive_category_ids": []}
    (here / "lvis.json").write_text(json.dumps(truth | {"images": [image | of_lvis]}))
    (here / "photos" / "images").mkdir()
    Pil.open(here / "photo.png").save(here / "photos" / "images" / "a.png")
    (here / "broken.json").write_text('[{"image_id": 1, "bbo')
    (here / "broken.csv").write_text("image,x1\na.png,5\n")
    (here / "broken.toml").write_text("a = [")
    (here / "file").write_text("in the way")
    (here / "torn").mkdir()
    (here / "torn" / "a.png").write_bytes((here / "photo.png").read_bytes()[:60])
    (here / "list.txt").write_text("photo.png\nclip.mp4\n")
    (here / "broken.pt").write_bytes(b"PK\x03\x04 torn")
    torch.save({"w": torch.zeros(2)}, here / "other.pt")
    shutil.copy(store.fetch("objects-starter"), here / "own.pt")
    (here / "export").mkdir()
    (here / "export" / "export.json").write_text("{}")
    (here / "cows.json").write_text(json.dumps(truth | {"categories": [{"id": 1, "name": "aurochs"}]}))
    (here / "wild" / "Cows").mkdir(parents=True)
    (here / "wild" / "Cows" / "annotations.json").write_text(json.dumps(truth))
    Pil.open(here / "photo.png").save(here / "wild" / "Cows" / "a.png")
    shutil.copytree(here / "wild", here / "herd")
    shutil.copy(here / "cows.json", here / "herd" / "Cows" / "annotations.json")
    monkeypatch.setattr(download, "BACKOFF", 0.0)
    monkeypatch.setenv("EVSAM_HOME", str(here / "home"))
    monkeypatch.delenv("EVSAM_OFFLINE")
    with running(b"") as hub:
        hub.usual = Reply(status=404, body=b"")
        monkeypatch.setenv("EVSAM_MIRROR", hub.url)
        yield hub


OUT = ("-o", "out")
RIGHT: dict[str, tuple[str, ...]] = {
    "segment": ("photo.png", *OUT, *YOLO, *SAM),
    "text": ("photo.png", "cat", *OUT, *SAM),
    "everything": ("photo.png", *OUT, *SAM),
    "detect": ("photo.png", *OUT, *YOLO),
    "evaluate coco": ("truth.json", "--images", "photos", *OUT, "--gt-boxes", *SAM),
    "evaluate lvis": ("lvis.json", "--images", "photos", *OUT, "--gt-boxes", *SAM),
    "evaluate sginw": ("wild", *OUT, *SAM),
    "evaluate saliency": ("masks", "--images", "photos", *OUT, *SAM),
    "benchmark": ("efficientvit-sam-l2", *OUT),
    "export": ("efficientvit-sam-l2", *OUT),
    "train finetune": (*OUT, "--recipe", "l2", "--data", "photos"),
    "train distill": (*OUT, "--data", "photos", "--teacher", "efficientvit-sam-l2"),
    "train detector": (*OUT, "--data", "photos", "--val", "photos"),
}
"""Commands of each verb that need weights which are not here."""

WRONG: dict[str, list[tuple[tuple[str, ...], str]]] = {
    "segment": [
        (("nowhere.jpg", *OUT), "nowhere.jpg"),
        (("photo.png", "-o", "file"), "cannot write to file"),
        (("photo.png", "-o", "file/out"), "cannot write to file"),
        ((), "already holds a run"),
        (("photo.png", *OUT, "--resume", "--overwrite"), "choose one"),
        (("photo.png", *OUT, "--resume"), "sam: 'sam-vit-h' then"),
        (("photo.png", *OUT, "--save", "paper"), "coco"),
        (("photo.png", *OUT, "--save", "edges"), "edges"),
        (("photo.png", *OUT, "--classes", "unicorn"), "unicorn"),
        (("photo.png", *OUT, "--sam", "sam-9000"), "evsam-starter"),
        (("photo.png", *OUT, "--detector", "yolo-9000"), "yolov8n"),
        (("photo.png", *OUT, "--detector", "gone.pt"), "gone.pt"),
        (("photo.png", *OUT, "--weights", "gone.pt"), "gone.pt"),
        (("photo.png", *OUT, "--backend", "steam"), "openvino"),
        (("photo.png", *OUT, "--backend", "onnx", "--precision", "bf16"), "precision"),
        (("photo.png", *OUT, "--device", "cuda:77"), "cuda:77"),
        (("photo.png", *OUT, "--precision", "fp3"), "fp3"),
        (("photo.png", *OUT, "--conf", "7"), "conf"),
        (("photo.png", *OUT, "--shard", "3/2"), "3/2"),
        (("list.txt", *OUT), "is a video"),
        (("photo.png", *OUT, "--weights", "broken.pt"), "broken.pt is damaged"),
        (("photo.png", *OUT, "--weights", "other.pt"), "not weights of efficientvit-sam-l2"),
        (("photo.png", *OUT, "--weights", "export", "--backend", "onnx"), "export.json"),
        (("photo.png", *OUT, "--detector", "broken.pt"), "broken.pt"),
        (("photo.png", *OUT, "--detector", "own.pt", "--classes", "unicorn"), "unicorn"),
        (("photo.png", *OUT, "--boxes", "broken.json"), "broken.json"),
    ],
    "text": [
        (("nowhere.jpg", "cat", *OUT), "nowhere.jpg"),
        (("photo.png", "cat", "-o", "file"), "cannot write to file"),
        ((), "already holds a run"),
        (("photo.png", "cat", *OUT, "--save", "paper"), "coco"),
        (("photo.png", ".", *OUT), "look for"),
        (("photo.png", *OUT, "--ontology", "broken.toml"), "broken.toml"),
        (("photo.png", "cat", *OUT, "--detector", "dino-9000"), "grounding-dino-swint"),
        (("photo.png", "cat", *OUT, "--precision", "fp3"), "fp3"),
        (("photo.png", "cat", *OUT, "--nms", "never"), "agnostic"),
    ],
    "everything": [
        (("nowhere.jpg", *OUT), "nowhere.jpg"),
        (("photo.png", "-o", "file"), "cannot write to file"),
        ((), "already holds a run"),
        (("photo.png", *OUT, "--save", "edges"), "edges"),
        (("photo.png", *OUT, "--prompts", "guess"), "grid"),
        (("photo.png", *OUT, "--prompts", "objects", "--detector", "yolo-9000"), "yolov8n"),
        (("photo.png", *OUT, "--prompts", "objects", "--detector", "broken.pt"), "broken.pt"),
        (("photo.png", *OUT, "--prompts", "objects", *YOLO, "--weights", "other.pt"), "not weights of"),
        (("photo.png", *OUT, "--preset", "best"), "efficientvit"),
        (("photo.png", *OUT, "--flatten", "size"), "area"),
        (("photo.png", *OUT, "--device", "cuda:77"), "cuda:77"),
    ],
    "detect": [
        (("nowhere.jpg", *OUT), "nowhere.jpg"),
        (("photo.png", "-o", "file"), "cannot write to file"),
        ((), "already holds a run"),
        (("photo.png", *OUT, "--save", "coco"), "boxes"),
        (("photo.png", *OUT, "--classes", "unicorn"), "unicorn"),
        (("photo.png", *OUT, "--device", "cuda:77"), "cuda:77"),
        (("photo.png", *OUT, "--precision", "bf16"), "fp32"),
    ],
    "evaluate coco": [
        (("gone.json", "--images", "photos", *OUT, "--gt-boxes"), "gone.json"),
        (("broken.json", "--images", "photos", *OUT, "--gt-boxes"), "broken.json"),
        (("truth.json", *OUT, "--gt-boxes"), "--images"),
        (("truth.json", "--images", "home", *OUT, "--gt-boxes"), "is it the right folder?"),
        (("truth.json", "--images", "photos", "-o", "file", "--gt-boxes"), "cannot write to file"),
        ((), "already holds a run"),
        (("truth.json", "--images", "photos", *OUT), "nothing to score"),
        (("truth.json", "--images", "photos", *OUT, "--boxes", "gone.csv"), "gone.csv"),
        (("truth.json", "--images", "photos", *OUT, *YOLO, "--boxes", "broken.csv"), "broken.csv"),
        (("truth.json", "--images", "photos", *OUT, "--gt-boxes", "--results", "gone.json"), "gone.json"),
        (("truth.json", "--images", "photos", *OUT, "--gt-boxes", "--protocol", "mine"), "mine"),
        (("truth.json", "--images", "photos", *OUT, "--clicks", "0"), "clicks"),
        (("truth.json", "--images", "photos", *OUT, "--gt-boxes", "--detector", "yolo-9000"), "yolov8n"),
        (("truth.json", "--images", "photos", *OUT, "--gt-boxes", "--precision", "fp3"), "fp3"),
        (("cows.json", "--images", "photos", *OUT, *YOLO), "none of the classes of yolov8n"),
        (("cows.json", "--images", "photos", *OUT, "--detector", "yolov8n,broken.pt", "--class-agnostic"), "broken.pt"),
    ],
    "evaluate lvis": [(("truth.json", "--images", "photos", *OUT, "--gt-boxes"), "is not of LVIS")],
    "evaluate sginw": [
        (("gone", *OUT), "holds no data set"),
        (("wild", "-o", "file"), "cannot write to file"),
        ((), "already holds a run"),
        (("herd", *OUT, *YOLO), "none of the classes of yolov8n"),
    ],
    "evaluate saliency": [
        (("gone", "--images", "photos", *OUT), "gone"),
        (("masks", "--images", "gone", *OUT), "gone"),
        (("masks", "--images", "photos", "-o", "file"), "cannot write to file"),
        ((), "already holds a run"),
    ],
    "benchmark": [
        (("sam-9000", *OUT), "evsam-starter"),
        (("efficientvit-sam-l2", "-o", "file"), "cannot write to file"),
        (("efficientvit-sam-l2", *OUT, "--photo", "gone.jpg"), "gone.jpg"),
        (("efficientvit-sam-l2", *OUT, "--precision", "fp32,fp3"), "fp3"),
        (("efficientvit-sam-l2", *OUT, "--backend", "steam"), "openvino"),
        (("efficientvit-sam-l2", *OUT, "--accuracy", "mine=1"), "mine"),
    ],
    "export": [
        (("sam-9000", *OUT), "evsam-starter"),
        (("efficientvit-sam-l2", "-o", "file"), "cannot write to file"),
        (("efficientvit-sam-l2", *OUT, "--format", "steam"), "openvino"),
        (("efficientvit-sam-l2", *OUT, "--photos", "gone"), "gone"),
        (("efficientvit-sam-l2", *OUT, "--photos", "torn"), "torn/a.png"),
        (("efficientvit-sam-l2", *OUT, "--precision", "int8"), "--photos"),
        (("efficientvit-sam-l2", *OUT, "--precision", "bf16"), "bf16"),
        (("efficientvit-sam-l2", *OUT, "--weights", "gone.pt"), "gone.pt"),
    ],
    "train finetune": [
        ((*OUT, "--recipe", "l9", "--data", "photos"), "l9"),
        ((*OUT, "--recipe", "broken.toml", "--data", "photos"), "broken.toml"),
        ((*OUT, "--recipe", "l2"), "--data"),
        ((*OUT, "--recipe", "l2", "--data", "gone"), "gone"),
        ((*OUT, "--recipe", "l2", "--data", "photos", "--val", "gone"), "gone"),
        ((*OUT, "--recipe", "l2", "--data", "photos", "--weights", "gone.pt"), "gone.pt"),
        ((*OUT, "--recipe", "l2", "--data", "photos", "--freeze", "mask_decoder.tail"), "tail"),
        ((*OUT, "--recipe", "l2", "--data", "photos", "--precision", "fp3"), "fp3"),
        ((*OUT, "--recipe", "l2", "--data", "photos", "--device", "abacus"), "abacus"),
        (("-o", "file", "--recipe", "l2", "--data", "photos"), "cannot write to file"),
        (("-o", "trained", "--recipe", "l2", "--data", "photos"), "holds a run"),
    ],
    "train distill": [
        ((*OUT, "--data", "gone"), "gone"),
        (OUT, "--data"),
        ((*OUT, "--data", "photos", "--teacher", "sam-9000"), "evsam-starter"),
        ((*OUT, "--data", "photos", "--weights", "broken.pt"), "broken.pt"),
        ((*OUT, "--data", "photos", "--model", "sam-9000"), "evsam-starter"),
        ((*OUT, "--data", "photos", "--precision", "fp3"), "fp3"),
        (("-o", "file", "--data", "photos"), "cannot write to file"),
        (("-o", "trained", "--data", "photos"), "holds a run"),
    ],
    "train detector": [
        ((*OUT, "--data", "photos"), "--val"),
        ((*OUT, "--data", "gone", "--val", "photos"), "gone"),
        ((*OUT, "--data", "photos", "--val", "photos", "--weights", "gone.pt"), "gone.pt"),
        ((*OUT, "--data", "photos", "--val", "photos", "--weights", "broken.pt"), "broken.pt"),
        ((*OUT, "--data", "photos", "--val", "photos", "--device", "cuda:77"), "cuda:77"),
        ((*OUT, "--data", "photos", "--val", "photos", "--precision", "fp3"), "fp3"),
        (("-o", "file", "--data", "photos", "--val", "photos"), "cannot write to file"),
        (("-o", "trained-detector", "--data", "photos", "--val", "photos"), "holds a run"),
    ],
}
"""By verb: what is wrong, and a word of what is said of it. Models are named where a case names none; () is the right
command, in a folder that holds a run."""
GIVEN = {
    "segment": (*YOLO, *SAM),
    "text": SAM,
    "everything": SAM,
    "detect": YOLO,
    **dict.fromkeys(("evaluate coco", "evaluate lvis", "evaluate sginw", "evaluate saliency"), SAM),
}
CELLS = {"evaluate coco": "gt-box", "evaluate sginw": "Cows/grounding-dino-swinb", "evaluate saliency": "gt-box"}


@pytest.mark.parametrize("verb", RIGHT)
def test_the_right_command_does_ask_for_weights(verb: str, far: Hub) -> None:
    _, said = evsam(*verb.split(), *RIGHT[verb], code=2)
    assert len(far.requests) == 1 and "answered 404" in said


def test_every_verb_that_needs_weights_is_walked() -> None:
    assert set(WRONG) == set(RIGHT)


@pytest.mark.parametrize(
    ("verb", "arguments", "word"),
    [(verb, *case) for verb, cases in WRONG.items() for case in cases],
)
def test_what_is_wrong_is_told_before_anything_is_fetched(
    verb: str, arguments: tuple[str, ...], word: str, far: Hub, here: Path
) -> None:
    run = here / "out" / (f"{CELLS[verb]}+efficientvit-sam-l2" if verb in CELLS else "") / ".evsam"
    if not arguments or "--resume" in arguments:
        run.mkdir(parents=True)
        (run / "settings.json").write_text('{"save": ["coco"], "sam": "sam-vit-h"}')
        (run / "sources.json").write_text("[]")
    (here / "trained").mkdir()
    (here / "trained" / "checkpoint.pt").touch()
    (here / "trained-detector" / "run" / "weights").mkdir(parents=True)
    (here / "trained-detector" / "run" / "weights" / "last.pt").touch()
    before = sorted(here.rglob("*"))
    models = [
        text
        for flag, model in _pairs(SAM if verb == "segment" and "--boxes" in arguments else GIVEN.get(verb, ()))
        if flag not in arguments
        for text in (flag, model)
    ]
    _, said = evsam(*verb.split(), *(arguments or RIGHT[verb]), *(models if arguments else ()), code=2)
    assert far.requests == []
    assert said.startswith("evsam: ") and said.count("\n") == 1 and word in said
    left = set(map(str, here.rglob("*"))) - set(map(str, before))
    assert {path for path in left if "home" not in path} <= {str(here / "out"), *map(str, (here / "out").rglob("*"))}


def _pairs(options: tuple[str, ...]) -> list[tuple[str, str]]:
    return list(zip(options[::2], options[1::2], strict=True))
