"""Images together: the masks are those of each alone, memory that runs out costs one image, stages overlap in order."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pil
from support.runs import photo_folder

from pipelines import rle
from pipelines.detectors.given import Given
from pipelines.errors import ImageError
from pipelines.evaluation.miou import iou
from pipelines.export.graphs import DecoderGraph, EncoderGraph
from pipelines.export.network import GraphNetwork
from pipelines.records import Record
from pipelines.run import Finish, RunConfig, Silent, settled
from pipelines.run.loop import results_of, run
from pipelines.run.stages import StageClock
from pipelines.sam import build_sam
from pipelines.sam.chunks import IMAGES
from pipelines.sam.masks import Upscaler
from pipelines.sam.predictor import SamPredictor
from pipelines.sam.prompting import PixelPrompts
from pipelines.segment import SegmentJob
from pipelines.types import Category, Detections, Image, Instances, Masks

STARTER = "evsam-starter"
SIZES = ((480, 640), (97, 300), (300, 97), (33, 33), (720, 500))


@pytest.fixture(autouse=True)
def _several_images_at_once_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(IMAGES.most, "cpu", 3)


@pytest.fixture(scope="module")
def pictures(photograph: np.ndarray) -> list[np.ndarray]:
    return [np.asarray(Pil.fromarray(photograph).resize((width, height))) for height, width in SIZES]


def asked_of(count: int, height: int, width: int) -> PixelPrompts:
    rng = np.random.default_rng(count)
    corners = np.sort(rng.uniform(0, 1, (count, 2, 2)), 1) * [width, height]
    return PixelPrompts(boxes=corners.reshape(-1, 4))


def segment(sam: SamPredictor, pictures: Sequence[np.ndarray], asked: Sequence[PixelPrompts]) -> list[Masks]:
    encoded = sam.encode([sam.prepare(picture) for picture in pictures])
    return [masks.upscale() for masks in encoded.segment(asked)]


def assert_same(got: Masks, wanted: Masks) -> None:
    assert len(got) == len(wanted)
    np.testing.assert_allclose(got.predicted_iou, wanted.predicted_iou, rtol=1e-4, atol=1e-5)
    for a, b in zip(got.rles, wanted.rles, strict=True):
        assert a["size"] == b["size"]
        assert rle.area(a) == rle.area(b) == 0 or iou(a, b) > 0.999


@pytest.mark.parametrize("count", [1, 2, 5])
def test_images_together_get_the_masks_that_each_gets_alone(count: int, pictures: list[np.ndarray]) -> None:
    sam = build_sam(STARTER)
    boxes = [asked_of(n, *size) for n, size in zip((7, 0, 1, 5, 2), SIZES, strict=True)][:count]
    clicks = [
        PixelPrompts(points=np.array([[[w / 2, h / 2], [w / 3, h / 4]]]), labels=np.array([[1, 0]])) for h, w in SIZES
    ][:count]
    for asked in (boxes, clicks):
        together = segment(sam, pictures[:count], asked)
        assert any(rle.area(mask) for masks in together for mask in masks.rles)
        for picture, given, got in zip(pictures, asked, together, strict=False):
            assert_same(got, segment(sam, [picture], [given])[0])


def test_images_without_prompts_are_no_fault(pictures: list[np.ndarray]) -> None:
    sam = build_sam(STARTER)
    assert [len(masks) for masks in segment(sam, pictures[:2], [PixelPrompts(boxes=np.zeros((0, 4)))] * 2)] == [0, 0]


def test_a_graph_that_takes_one_image_is_given_one_after_the_other(pictures: list[np.ndarray]) -> None:
    sam = build_sam(STARTER)
    encoder, decoder = EncoderGraph(sam.model), DecoderGraph(sam.model)
    graphs = GraphNetwork(encoder, lambda image, *x: list(decoder([image], *x)), 512, torch.device("cpu"))
    asked = [asked_of(n, *size) for n, size in zip((6, 3, 1), SIZES, strict=False)]
    for got, wanted in zip(
        segment(SamPredictor(STARTER, graphs), pictures[:3], asked), segment(sam, pictures[:3], asked), strict=True
    ):
        assert_same(got, wanted)


class Small:
    """A network with room for `room` images in its encoder, and none for a black one; the rest is the real one's."""

    def __init__(self, sam: SamPredictor, room: int) -> None:
        self.network, self.room = sam.network, room
        self.sizes: list[int] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self.network, name)

    def encode(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        self.sizes.append(len(pixels))
        if len(pixels) > self.room or (pixels.amax((1, 2, 3)) <= 0).any():
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.network.encode(pixels)


def test_when_memory_runs_out_fewer_images_are_encoded_at_once(pictures: list[np.ndarray]) -> None:
    roomy = build_sam(STARTER)
    small = Small(roomy, 1)
    asked = [asked_of(2, *size) for size in SIZES]
    got = segment(SamPredictor(STARTER, small), pictures, asked)
    assert small.sizes == [3, 1, 1, 1, 1, 1]
    for one, other in zip(got, segment(roomy, pictures, asked), strict=True):
        assert_same(one, other)


def test_an_image_that_does_not_fit_fails_alone(pictures: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    sam = SamPredictor(STARTER, Small(build_sam(STARTER), 3))
    images = [Image(f"{i}.jpg", picture) for i, picture in enumerate(pictures[:3])]
    images[1] = Image("black.jpg", np.zeros((50, 60, 3), np.uint8))
    sam.batch = 3
    job = SegmentJob(sam, Given([(5, 5, 30, 30)]))
    wanted = [results_of(job, [image], StageClock())[0] for image in images]
    results = results_of(job, images, StageClock())
    assert str(results[1]) == "out of memory at 60 x 50 pixels"
    for i in (0, 2):
        assert_same(results[i].masks, wanted[i].masks)

    real = Upscaler.to_masks

    def segment(self: Upscaler, low_res: torch.Tensor, windows: np.ndarray | None = None) -> object:
        if self.size == images[2].pixels.shape[:2]:
            raise MemoryError
        return real(self, low_res, windows)

    monkeypatch.setattr(Upscaler, "to_masks", segment)
    results = results_of(job, images, StageClock())
    assert [isinstance(result, ImageError) for result in results] == [False, True, True]
    assert "300 x 97" in str(results[2]) or "97 x 300" in str(results[2])


class Lazy:
    """A job that leaves every second image to be finished elsewhere, the first of them last."""

    categories: tuple[Category, ...] = ()
    batch = 4

    def __init__(self, fault: Exception | None = None) -> None:
        self.fault = fault
        self.threads: set[str] = set()

    def report(self) -> dict[str, object]:
        return {}

    def prepare(self, image: Image) -> str:
        self.threads.add(threading.current_thread().name.split("_")[0])
        return image.name

    def __call__(self, images: Sequence[str], clock: StageClock) -> Iterator[Finish]:
        later = threading.Event()

        def first() -> Instances:
            assert later.wait(1800)
            return Instances.empty(Detections.empty())

        def second() -> Instances:
            self.threads.add(threading.current_thread().name.split("_")[0])
            later.set()
            if self.fault is not None:
                raise self.fault
            return Instances.empty(Detections.empty())

        yield from (first, settled(ImageError(images[1])), second, settled(ImageError(images[3])))


class Listener(Silent):
    def __init__(self) -> None:
        self.names: list[str] = []

    def recorded(self, record: Record) -> None:
        self.names.append(record.name)


def test_what_a_job_leaves_is_finished_elsewhere_and_recorded_in_order(photographs: list[Path], tmp_path: Path) -> None:
    folder = photo_folder(tmp_path / "photos", photographs, 4)
    job, listener = Lazy(), Listener()
    config = RunConfig((str(folder),), tmp_path / "out", save=("jsonl",))
    summary = run(config, {}, lambda ids: job, device="cpu", watch=listener)
    assert summary.counts == {"done": 0, "empty": 2, "failed": 2}
    assert all(name == reason for name, reason in summary.failed.items())
    assert listener.names == sorted(path.name for path in folder.iterdir())
    assert job.threads == {"load", "finish"}


def test_a_fault_while_finishing_stops_the_run(photographs: list[Path], tmp_path: Path) -> None:
    folder = photo_folder(tmp_path / "photos", photographs, 4)
    config = RunConfig((str(folder),), tmp_path / "out", save=("jsonl",))
    with pytest.raises(ZeroDivisionError):
        run(config, {}, lambda ids: Lazy(ZeroDivisionError()), device="cpu")
