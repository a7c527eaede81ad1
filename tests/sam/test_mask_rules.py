"""What is done to masks on request: looked for near their boxes alone, and without small holes and islands."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image as Pil
from support.runs import evsam

from evsam_cli.everything import configure
from evsam_cli.options.models import MaskOptions
from pipelines import rle
from pipelines.errors import UsageError
from pipelines.everything.config import ObjectsConfig
from pipelines.sam import SAMS, SamRow, build_sam
from pipelines.sam.frame import Frame
from pipelines.sam.masks import LowResMasks, Upscaler
from pipelines.sam.rules import MaskRules

SIDES = st.integers(1, 300)
SEEDS = st.integers(0, 2**32 - 1)
CORNERS = hnp.arrays(np.float32, (3, 4), elements=st.floats(-500, 500, width=32))


def logits(seed: int) -> torch.Tensor:
    drawn = torch.randn(3, 1, 12, 12, generator=torch.Generator().manual_seed(seed)) * 3
    return F.interpolate(drawn, (256, 256), mode="bicubic")[:, 0]


@given(SIDES, SIDES, CORNERS, st.sampled_from([0.0, 0.05, 0.5, 3.0]))
def test_a_window_holds_the_pixels_that_the_enlarged_box_touches(
    height: int, width: int, boxes: np.ndarray, margin: float
) -> None:
    for box, (x0, y0, x1, y1) in zip(boxes.astype(float), Frame(height, width).windows(boxes, margin), strict=True):
        for low, high, side, start, stop in ((box[0], box[2], width, x0, x1), (box[1], box[3], height, y0, y1)):
            low, high = min(low, high), max(low, high)
            more = margin * (high - low)
            inside = [p for p in range(side) if p + 1 > low - more and p < high + more]
            assert list(range(start, stop)) == inside


@settings(max_examples=60, derandomize=True)
@given(SIDES, SIDES, SEEDS, CORNERS, st.sampled_from([0.0, 0.1, 1.0]))
def test_upscaling_a_window_is_upscaling_all_and_cutting_there(
    height: int, width: int, seed: int, boxes: np.ndarray, margin: float
) -> None:
    low_res, frame = logits(seed), Frame(height, width)
    windows = frame.windows(boxes, margin)
    upscaler = Upscaler(height, width, torch.device("cpu"))
    everywhere, _ = upscaler.to_masks(low_res)
    cut = []
    for mask, (x0, y0, x1, y1) in zip(map(rle.decode, everywhere), windows, strict=True):
        inside = np.zeros_like(mask)
        inside[y0:y1, x0:x1] = mask[y0:y1, x0:x1]
        cut.append(rle.encode(inside))
    on_cpu = upscaler.to_masks(low_res, windows)
    _, *on_gpu = upscaler.masks_on_gpu(low_res, 1.0, None, height, width, windows=windows)
    assert on_cpu[0] == cut
    assert on_gpu[0] == [rle.encode(upscaled) for upscaled in in_windows(upscaler, low_res, windows)]
    np.testing.assert_allclose(on_gpu[1], on_cpu[1], atol=1e-3)


def in_windows(upscaler: Upscaler, low_res: torch.Tensor, windows: np.ndarray) -> list[np.ndarray]:
    """The masks of `whole`, cut at their windows."""
    _, rles, _ = upscaler.masks_on_gpu(low_res, 1.0, None, *upscaler.size)
    cut = []
    for mask, (x0, y0, x1, y1) in zip(map(rle.decode, rles), windows, strict=True):
        inside = np.zeros_like(mask)
        inside[y0:y1, x0:x1] = mask[y0:y1, x0:x1]
        cut.append(inside)
    return cut


def test_small_holes_and_islands_go_and_the_largest_island_stays() -> None:
    low_res = torch.full((2, 256, 256), -8.0)
    low_res[0, 40:120, 40:120] = 8
    low_res[0, 60:64, 60:64] = -8  # a hole
    low_res[0, 200:203, 200:203] = 8  # an island
    low_res[1, 10:13, 10:13] = low_res[1, 30:35, 30:35] = 8  # nothing but islands
    low = LowResMasks(Frame(256, 256), low_res, torch.zeros(2), min_mask_region_area=50)
    solid, islands = (rle.decode(mask) for mask in low.upscale().rles)
    assert solid[40:120, 40:120].mean() > 0.99 and not solid[190:].any()
    assert islands[30:35, 30:35].all() and not islands[:20, :20].any()


def test_pieces_of_many_prompts_have_the_windows_of_their_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    sam = build_sam("evsam-starter", rules=MaskRules(0.1, 20))
    sam.set_image(np.random.default_rng(0).integers(0, 255, (90, 160, 3), np.uint8))
    corners = np.random.default_rng(1).uniform(0, 60, (7, 2))
    boxes = np.concatenate([corners, corners + np.array([40, 25])], 1)
    whole = sam.segment_boxes(boxes)
    monkeypatch.setattr("pipelines.sam.encoded.PIECE", 3)
    assert sam.segment_boxes(boxes).rles == whole.rles
    for mask, (x0, y0, x1, y1) in zip(whole.rles, Frame(90, 160).windows(boxes, 0.1), strict=True):
        x, y, w, h = rle.bbox(mask)
        assert not rle.area(mask) or (x0 <= x and y0 <= y and x + w <= x1 and y + h <= y1)
    assert not len(sam.segment_boxes(np.zeros((0, 4))))
    with pytest.raises(UsageError, match="clicks have no box"):
        sam.segment_points([[[5, 5]]], [[1]])


def test_values_given_come_before_the_models_own() -> None:
    own = SamRow("own", "a:b", "", strategy="objects", rules=MaskRules(0.25, 7))
    assert configure(None, None, {}, own) == ObjectsConfig(box_margin=0.25, min_mask_region_area=7)
    assert configure(None, None, {"box_margin": "none"}, own) == ObjectsConfig(min_mask_region_area=7)
    assert configure("objects", "sam", {"box_margin": "0.5"}, own) == ObjectsConfig(box_margin=0.5)
    assert own.own(MaskRules(0.25, 8)) == {"box_margin": "0.25, the own value of own"}
    assert MaskOptions("none", 3).rules("evsam-starter") == MaskRules(None, 3)
    assert MaskOptions().rules("evsam-starter") == SAMS["evsam-starter"].rules
    assert MaskOptions().rules("evsam-starter", clicks=True).box_margin is None
    assert not any(row.rules.given() for row in SAMS.values() if row.name != "evsam-starter")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Pil.fromarray(np.random.default_rng(0).integers(0, 255, (90, 160, 3), np.uint8)).save(path)
    return path


def test_segment_says_and_does_what_it_is_told(photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    evsam("segment", photo, "-o", out, "--box", "20,20,60,50", "--box-margin", "0.1", "--min-mask-region-area", "9")
    assert json.loads((out / "run.json").read_text())["settings"]["masks"] == {
        "box_margin": 0.1,
        "min_mask_region_area": 9,
    }
    (found,) = json.loads((out / "coco_results.json").read_text())
    x, y, w, h = rle.bbox(found["segmentation"])
    assert x >= 16 and y >= 17 and x + w <= 64 and y + h <= 53


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("segment", "--point", "5,5", "--box-margin", "0.1"), "clicks have no box"),
        (("segment", "--box", "5,5,9,9", "--box-margin", "wide"), "or none, not"),
        (("everything", "--prompts", "grid", "--box-margin", "0.1"), "no use for --box-margin"),
    ],
)
def test_margins_that_mean_nothing_are_refused(arguments: tuple[str, ...], hint: str, photo: Path) -> None:
    verb, *options = arguments
    _, err = evsam(verb, photo, "-o", photo.parent / "out", *options, code=2)
    assert hint in err and len(err.strip().splitlines()) == 1
