"""Many prompts on one image: the masks are the same, memory is bounded, and one is told how long it takes."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image as Pil
from support.everything_scene import RELAXED, edges_in, found_by, scene_of

from evsam_cli import progress
from pipelines.everything.config import EdgesConfig, GridConfig, HierarchicalConfig
from pipelines.everything.grid import ask_grid
from pipelines.everything.hierarchical import ask_hierarchical
from pipelines.everything.search import Ask
from pipelines.prompts import BoxFilePrompts
from pipelines.records import Record
from pipelines.run import RunConfig, Silent
from pipelines.run.stages import StageClock
from pipelines.sam import build_sam, encoded
from pipelines.sam.axis import LOW_RES_SIDE
from pipelines.sam.encoded import Tell
from pipelines.sam.masks import LogitWindow, Upscaler
from pipelines.sam.predictor import SamPredictor
from pipelines.sam.prompting import PixelPrompts
from pipelines.segment import SegmentConfig, segment
from pipelines.types import Masks


@pytest.fixture(scope="module")
def sam(photograph: np.ndarray) -> SamPredictor:
    sam = build_sam("evsam-starter")
    sam.set_image(photograph[:240, :320])
    return sam


def boxes(count: int) -> np.ndarray:
    corners = np.random.default_rng(count).uniform(0, 1, (count, 2, 2)) * [320, 240]
    return np.concatenate([corners.min(1), corners.max(1) + 2], 1)


@pytest.mark.parametrize("count", [0, 1, 4, 5, 8, 11])
def test_masks_are_the_same_whatever_is_held_together(
    sam: SamPredictor, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    wanted = sam.segment_boxes(boxes(count))
    for piece in (4, 5):
        monkeypatch.setattr(encoded, "PIECE", piece)
        got = sam.segment_boxes(boxes(count))
        assert isinstance(got, Masks) and got.rles == wanted.rles
        np.testing.assert_array_equal(got.predicted_iou, wanted.predicted_iou)
        np.testing.assert_array_equal(got.stability_score, wanted.stability_score)


def low_res_masks() -> int:
    """How many low-res masks there are in memory."""
    tensors = [
        each
        for each in gc.get_objects()
        if type(each) is torch.Tensor and each.shape[-2:] == (LOW_RES_SIDE, LOW_RES_SIDE)
    ]
    return sum({each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in tensors}.values()) >> 18


def count_held(held: list[int]) -> Tell:
    return lambda done: held.append(low_res_masks())


def test_low_res_masks_are_not_held_in_proportion_to_the_prompts(
    sam: SamPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoded, "PIECE", 8)
    most = []
    for count in (8, 32):
        held: list[int] = []
        asked = PixelPrompts(boxes=boxes(count))
        assert [len(found.upscale()) for found in sam.image.segment([asked], count_held(held))] == [count]
        assert len(held) == count // 4
        most.append(max(held))
    assert most[1] <= most[0] + 4


def test_masks_of_full_size_are_encoded_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[weakref.ref[LogitWindow]] = []
    alive: list[int] = []
    window = Upscaler.logit_window

    def counted(self: Upscaler, *arguments: object) -> LogitWindow:
        region: LogitWindow = window(self, *arguments)  # type: ignore[arg-type]
        made.append(weakref.ref(region))
        alive.append(sum(each() is not None for each in made))
        return region

    monkeypatch.setattr(Upscaler, "logit_window", counted)
    rles, stabilities = Upscaler(90, 120, torch.device("cpu")).to_masks(torch.randn(7, LOW_RES_SIDE, LOW_RES_SIDE))
    assert len(rles) == len(stabilities) == len(made) == 7 and max(alive) <= 2


class Listener(Silent):
    def __init__(self) -> None:
        self.told: list[tuple[str, int, int]] = []

    def within(self, name: str, done: int, total: int) -> None:
        self.told.append((name, done, total))


def test_a_run_tells_how_far_an_image_is(photograph: np.ndarray, tmp_path: Path) -> None:
    lines = ["image,x1,y1,x2,y2"]
    for name, count in (("a.png", 9), ("b.png", 2)):
        Pil.fromarray(photograph[:240, :320]).save(tmp_path / name)
        lines += [",".join([name, *(f"{value:.1f}" for value in row)]) for row in boxes(count)]
    (tmp_path / "boxes.csv").write_text("\n".join(lines))
    listener = Listener()
    run = RunConfig((str(tmp_path / "*.png"),), tmp_path / "out", save=("coco",))
    segment(SegmentConfig(run, BoxFilePrompts(str(tmp_path / "boxes.csv"))), listener)
    assert listener.told == [*(("a.png", done, 9) for done in (0, 4, 8, 9)), ("b.png", 0, 2), ("b.png", 2, 2)]


@pytest.mark.parametrize(
    ("config", "ask", "total"),
    [
        (RELAXED, ask_grid, 9),
        (GridConfig(points_per_side=2, crop_n_layers=1), ask_grid, 20),
        (HierarchicalConfig(points_per_side=4, high_score_thresh=-1e9), ask_hierarchical, 16),
    ],
)
def test_a_search_tells_how_far_an_image_is(
    sam: SamPredictor, photograph: np.ndarray, config: GridConfig, ask: Ask, total: int
) -> None:
    told: list[tuple[str, int, int]] = []
    scene = scene_of(photograph)
    found_by(sam, scene, config, ask, StageClock(lambda *state: told.append(state)))
    assert told[0] == ("scene", 0, total) and {each[2] for each in told} == {total}
    dones = [done for _, done, _ in told]
    assert dones == sorted(dones) and (ask is ask_hierarchical or dones[-1] == total)


def test_edges_tell_how_far_an_image_is(sam: SamPredictor, photograph: np.ndarray) -> None:
    told: list[int] = []
    clock = StageClock(lambda name, done, total: told.append(done))
    edges_in(sam, scene_of(photograph), EdgesConfig(points_per_side=3), clock)
    assert told == [0, 4, 8, 9]


def test_images_together_are_told_one_after_the_other() -> None:
    told: list[tuple[str, int, int]] = []
    count = StageClock(lambda *state: told.append(state)).counter([("a", 3), ("b", 5), ("c", 1)])
    for more in (2, 4, 3, 9):
        count(more)
    assert told == [("a", 0, 3), ("a", 2, 3), ("b", 3, 5), ("c", 1, 1), ("c", 1, 1)]


class Clock(SimpleNamespace):
    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_lines_say_how_long_a_long_image_takes(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress.Plain() as watch:
        watch.started(2, 0)
        for clock.now, done in ((0.0, 0), (4.0, 40), (12.0, 120), (13.0, 130), (30.0, 300), (200.0, 2000)):
            watch.within("long.jpg", done, 2000)
        watch.recorded(Record("long.jpg", 1, 1, 1, "empty"))
        for clock.now, done in ((220.0, 0), (240.0, 9), (241.0, 10)):
            watch.within("short.jpg", done, 10)
    assert capsys.readouterr().err.splitlines() == [
        "2 images",
        "long.jpg: 120/2000 prompts, about 3 min left",
        "long.jpg: 300/2000 prompts, about 3 min left",
        "1/2 images, 0.01 images/s, 0 done, 1 empty, 0 failed",
    ]


def test_the_bar_has_a_second_one_for_a_long_image(clock: Clock) -> None:
    with progress.Bar() as watch:
        watch.started(2, 0)
        inner = watch._progress.tasks[1]
        for clock.now, done in ((0.0, 0), (4.0, 40)):
            watch.within("[red]long.jpg", done, 2000)
        assert inner.visible and (inner.completed, inner.total) == (40, 2000)
        watch.recorded(Record("[red]long.jpg", 1, 1, 1, "empty"))
        assert not inner.visible
        watch.within("short.jpg", 3, 10)
        assert not inner.visible and inner.total == 10
