"""Networks that run out of memory or answer with no numbers: the image fails with its reason, and files stay JSON."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image as Pil
from safetensors.torch import load_file, save_file
from support.evaluation_cases import annotated_photographs
from support.runs import environment, evsam, noise_folder
from support.tiny_yolo import make_yolo

from pipelines.attempts import failure, together_or_alone
from pipelines.categories import OBJECT
from pipelines.detect import DetectJob
from pipelines.detectors.text.contract import Pass
from pipelines.detectors.yolo import Yolo
from pipelines.errors import ImageError, UsageError
from pipelines.files import nulls, to_json, write_json
from pipelines.run import RunConfig, Summary
from pipelines.run.loop import run
from pipelines.sam import build_sam
from pipelines.segment import SegmentJob
from pipelines.types import Category, Clicks, Detections, Image, Masks
from weights import store

CPU = ("--device", "cpu")
FEW = ("--max-det", "3")
NO_NUMBERS = (math.nan, math.inf, -math.inf)
MEMORY = (
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried to allocate"
    ),
    cv2.error(
        "OpenCV(4.9) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 9 bytes in 'OutOfMemoryError'"
    ),
)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return noise_folder(tmp_path / "photos", ("a", "bad", "c"))


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, float], Path]:
    """The starter SAM, with weights of a part of its decoder that are no numbers."""

    def make(part: str, value: float) -> Path:
        path = tmp_path_factory.mktemp("sam") / "broken.safetensors"
        state = load_file(store.fetch("evsam-starter"))
        chosen = [name for name in state if part in name and state[name].is_floating_point()]
        assert chosen
        state |= {name: torch.full_like(state[name], value) for name in chosen}
        save_file(state, path)
        return path

    return make


@dataclass
class Looks:
    """A detector that finds one box in each image, unless `fault` befalls it at the bad one."""

    fault: Callable[[], Detections]
    categories: tuple[Category, ...] = (OBJECT,)
    batch: int = 3
    asked: list[list[str]] = field(default_factory=list)

    def __call__(self, images: Sequence[Image]) -> list[Detections]:
        self.asked.append([image.name for image in images])
        return [self.fault() if image.name == "bad.png" else found() for image in images]


def found(*box: float, score: float = 1) -> Detections:
    boxes = np.array([box or (5, 5, 60, 60)], np.float32)
    return Detections(boxes, np.array([score], np.float32), np.array([OBJECT.id], np.int64))


def raising(error: Exception) -> Callable[[], Detections]:
    def fault() -> Detections:
        raise error

    return fault


def json_of(folder: Path) -> list[Any]:
    """Everything in the folder that is JSON, read as strictly as others do."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    texts = [path.read_text() for path in folder.rglob("*.json")]
    texts += [line for path in folder.rglob("*.jsonl") for line in path.read_text().splitlines()]
    return [json.loads(text, parse_constant=refuse) for text in texts]


def only_the_bad_one_failed(summary: Summary, reason: str, looks: Looks) -> None:
    assert summary.counts == {"done": 2, "empty": 0, "failed": 1}
    assert list(summary.failed) == ["bad.png"] and reason in summary.failed["bad.png"]
    assert looks.asked == [["a.png", "bad.png", "c.png"], ["a.png"], ["bad.png"], ["c.png"]], "together, then alone"


# Memory


@pytest.mark.parametrize("error", MEMORY)
def test_a_detector_out_of_memory_fails_the_image(error: Exception, photos: Path, tmp_path: Path) -> None:
    looks = Looks(raising(error))
    config = RunConfig((str(photos),), tmp_path / "out", save=("boxes", "jsonl"))
    summary = run(config, {}, lambda ids: DetectJob(looks), device="cpu")
    only_the_bad_one_failed(summary, "out of memory at 96 x 96 pixels while looking for boxes", looks)


def test_a_detector_out_of_memory_before_a_sam(photos: Path, tmp_path: Path) -> None:
    looks = Looks(raising(MEMORY[2]))
    config = RunConfig((str(photos),), tmp_path / "out", save=("coco",), batch=3)
    summary = run(config, {}, lambda ids: SegmentJob(build_sam("evsam-starter"), looks), device="cpu")
    only_the_bad_one_failed(summary, "while looking for boxes", looks)


def test_a_detector_out_of_memory_in_an_evaluation(
    photographs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a run: the image fails, in the detector's cell alone."""

    def search(self: Yolo, images: Sequence[Image]) -> list[Detections]:
        if any(image.name == "street.jpg" for image in images):
            raise MEMORY[2]
        return real(self, images)

    real = Yolo.__call__
    monkeypatch.setattr(Yolo, "__call__", search)
    data = annotated_photographs(tmp_path, photographs)
    command = ("evaluate", "coco", data / "truth.json", "--images", data / "images", "-o", tmp_path / "out", *CPU)
    evsam(*command, "--gt-boxes", "--detector", "objects", *FEW, code=1)
    failed = {
        path.parent.name: json.loads(path.read_text())["stamp"]["failed_images"]
        for path in tmp_path.glob("out/*/scores.json")
    }
    assert failed["gt-box+evsam-starter"] == {}
    assert list(failed["objects+evsam-starter"]) == ["street.jpg"]
    assert "while looking for boxes" in failed["objects+evsam-starter"]["street.jpg"]


def test_a_fault_that_is_not_of_memory_is_not_hidden(photos: Path, tmp_path: Path) -> None:
    config = RunConfig((str(photos),), tmp_path / "out", save=("boxes",))
    with pytest.raises(RuntimeError, match="mistake"):
        run(config, {}, lambda ids: DetectJob(Looks(raising(RuntimeError("a mistake")))), device="cpu")


def test_a_picture_that_does_not_fit_into_memory(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def encode(suffix: str, pixels: np.ndarray, parameters: Sequence[int]) -> tuple[bool, np.ndarray]:
        if not pixels.any():
            raise MEMORY[3]
        return real(suffix, pixels, parameters)

    real = cv2.imencode
    monkeypatch.setattr(cv2, "imencode", encode)
    Pil.new("RGB", (96, 96)).save(photos / "bad.png")
    config = RunConfig((str(photos),), tmp_path / "out", save=("ids", "overlay"))
    summary = run(config, {}, lambda ids: DetectJob(Looks(Detections.empty)), device="cpu")
    assert "out of memory at 96 x 96 pixels" in summary.failed["bad.png"]
    assert not list(tmp_path.glob("out/*/bad*"))


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on address space")
@pytest.mark.parametrize("verb", [("detect",), ("everything", "--prompts", "objects")])
def test_the_bundled_detector_at_a_size_beyond_the_memory(verb: tuple[str, ...], photos: Path, tmp_path: Path) -> None:
    code = (
        "import psutil, resource, pipelines.detectors.yolo; from evsam_cli.__main__ import main\n"
        "most = psutil.Process().memory_info().vms + (2 << 30); resource.setrlimit(resource.RLIMIT_AS, (most, most))\n"
        "main()"
    )
    options = (photos / "bad.png", "-o", tmp_path / "out", *CPU, "--imgsz", "8000")
    done = subprocess.run(
        [sys.executable, "-c", code, *verb, *options], capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert list(json.loads((tmp_path / "out/run.json").read_text())["failed"]) == ["bad.png"]


def test_together_or_alone() -> None:
    image = Image("a", np.zeros((1, 2, 3), np.uint8))

    def work(items: Sequence[int]) -> list[int]:
        if len(items) > 1 or items == [2]:
            raise MemoryError
        return list(items)

    assert together_or_alone(work, [], lambda _: image) == []
    one, two, three = together_or_alone(work, [1, 2, 3], lambda _: image, " here")
    assert (one, str(two), three) == (1, "out of memory at 2 x 1 pixels here", 3)
    for error in (ImageError("why"), *MEMORY):
        assert failure(image, error).__traceback__ is None, "what ran out is not held on to"


# Numbers


@pytest.mark.parametrize("value", NO_NUMBERS)
@pytest.mark.parametrize("where", ["box", "score"])
def test_a_detector_without_numbers_fails_the_image(value: float, where: str, photos: Path, tmp_path: Path) -> None:
    looks = Looks((lambda: found(5, 5, value, 60)) if where == "box" else (lambda: found(score=value)))
    config = RunConfig((str(photos),), tmp_path / "out", save=("boxes", "dataset", "jsonl"))
    summary = run(config, {}, lambda ids: DetectJob(looks), device="cpu")
    only_the_bad_one_failed(summary, "not a finite number", looks)
    assert json_of(tmp_path / "out")


SAVE = "coco,dataset,jsonl,panoptic,amg-rle,sa1b"
GRID = ("--points-per-side", "2", "--pred-iou-thresh", "0", "--stability-score-thresh", "0")


@pytest.mark.parametrize(
    ("part", "value", "verb"),
    [
        ("", math.nan, ("segment", "--box", "5,5,60,60", "--save", SAVE)),
        ("", math.inf, ("segment", "--point", "9,9", "--save", SAVE)),
        ("iou_prediction_head", math.inf, ("segment", "--conf", "0", "--max-det", "3", "--save", SAVE)),
        ("output_hypernetworks", math.nan, ("segment", "--box", "5,5,60,60", "--save", SAVE)),
        ("", math.nan, ("everything", *GRID, "--save", SAVE)),
        ("iou_prediction_head", math.nan, ("everything", *GRID, "--prompts", "hierarchical", "--save", SAVE)),
        ("output_hypernetworks", math.nan, ("everything", *GRID, "--save", SAVE)),
        ("", math.nan, ("everything", "--prompts", "edges", "--points-per-side", "2", "--save", "edges,jsonl")),
        ("", math.nan, ("everything", "--conf", "0", "--max-det", "3", "--save", SAVE)),
    ],
)
def test_a_sam_without_numbers_fails_every_image(
    part: str, value: float, verb: tuple[str, ...], broken: Callable[[str, float], Path], photos: Path, tmp_path: Path
) -> None:
    weights = ("--weights", broken(part, value))
    _, err = evsam(verb[0], photos, "-o", tmp_path / "out", *CPU, *weights, *verb[1:], "--quiet", code=1)
    assert err.count("is not a finite number: are the weights whole") == 3
    assert json_of(tmp_path / "out")


@pytest.mark.parametrize("verb", [("detect",), ("segment",), ("everything", "--prompts", "objects")])
def test_a_yolo_without_numbers_fails_every_image(verb: tuple[str, ...], photos: Path, tmp_path: Path) -> None:
    path = make_yolo(tmp_path / "nan.pt")
    checkpoint = torch.load(path, weights_only=False)
    with torch.no_grad():
        for parameter in checkpoint["model"].parameters():
            parameter.fill_(math.nan)
    torch.save(checkpoint, path)
    _, err = evsam(*verb, photos, "-o", tmp_path / "out", *CPU, "--detector", path, "--imgsz", "96", "--quiet", code=1)
    assert err.count("a box or a score is not a finite number") == 3


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_a_text_detector_without_numbers(value: float) -> None:
    boxes, scores, phrases = np.ones((1, 4), np.float32), np.ones((1, 2), np.float32), np.arange(2)
    Pass(boxes, scores, phrases)
    for bad in ((boxes * value, scores), (boxes, scores * value)):
        with pytest.raises(ImageError, match="not a finite number"):
            Pass(*bad, phrases)


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_what_travels_is_numbers(value: float) -> None:
    one, bad = np.ones(1, np.float32), np.full(1, value, np.float32)
    blank = ({"size": [1, 1], "counts": "01"},)
    for make in (
        lambda: Masks(blank, bad, one),
        lambda: Masks(blank, one, bad),
        lambda: Clicks(bad.repeat(2)[None], one.repeat(4)[None]),
        lambda: Clicks(one.repeat(2)[None], bad.repeat(4)[None]),
    ):
        with pytest.raises(ImageError, match="not a finite number"):
            make()


def test_an_evaluation_of_a_sam_without_numbers(
    broken: Callable[[str, float], Path], photographs: list[Path], tmp_path: Path
) -> None:
    data = annotated_photographs(tmp_path, photographs)
    command = ("evaluate", "coco", data / "truth.json", "--images", data / "images", "-o", tmp_path / "out", *CPU)
    prompts = ("--gt-boxes", "--detector", "objects", *FEW, "--clicks", "1,2", "--json")
    out, _ = evsam(*command, *prompts, "--weights", broken("", math.nan), "--quiet", code=1)
    json.loads(out, parse_constant=pytest.fail)
    assert json_of(tmp_path / "out")
    for path in tmp_path.glob("out/*/scores.json"):
        failed = json.loads(path.read_text())["stamp"]["failed_images"]
        assert failed and all("not a finite number" in reason for reason in failed.values())


# Files


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_no_file_holds_what_is_no_json(value: float, tmp_path: Path) -> None:
    for options in ({}, {"ascii_only": True}, {"indent": 1}):
        with pytest.raises(ValueError, match="not JSON compliant"):
            to_json({"a": [value]}, **options)
    figures = {"AP": value, "all": [1.5, (value, 2)], "name": "nan"}
    assert nulls(figures) == {"AP": None, "all": [1.5, [None, 2]], "name": "nan"}
    write_json(tmp_path / "figures.json", figures)
    assert json_of(tmp_path) == [nulls(figures)]
    assert to_json("ü\ud800") == to_json("ü\ud800", ascii_only=True) == '"\\u00fc\\ud800"'


def test_imgsz_has_bounds() -> None:
    from pipelines.detectors import DetectorConfig

    for value in (31, 10**7):
        with pytest.raises(UsageError, match="imgsz"):
            DetectorConfig(imgsz=value)
