"""Images in which nothing is found say why: what was dropped, by which rule, and which option changes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pil
from support.runs import evsam
from support.tiny_yolo import make_yolo

from pipelines.detectors import DETECTORS, DetectorConfig, build_detector
from pipelines.everything.config import GridConfig
from pipelines.everything.funnel import Funnel
from pipelines.sam import SAMS
from pipelines.types import Image

NAMES = ("cat", "dog", "car")
GREY = Image("grey", np.full((60, 80, 3), 128, np.uint8))


def run_info(folder: Path) -> dict[str, Any]:
    info: dict[str, Any] = json.loads((folder / "run.json").read_text("utf-8"))
    return info


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    Pil.fromarray(rng.integers(0, 255, (60, 80, 3), np.uint8)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


class TestDetectors:
    def test_the_best_score_of_what_was_dropped_is_told(self, tmp_path: Path) -> None:
        weights = make_yolo(tmp_path / "tiny.pt", names=list(NAMES))
        (everything,) = build_detector(DetectorConfig(str(weights), conf=0.0), device="cpu")([GREY])
        (nothing,) = build_detector(DetectorConfig(str(weights), conf=1.0), device="cpu")([GREY])
        assert everything.reason is None and len(everything)
        best = f"{float(everything.scores.max()):.2g}"
        assert nothing.reason is not None
        assert nothing.reason.endswith(f"none scored more than 1; the best had {best}: --conf")

    def test_classes_that_were_not_chosen_are_told(self, tmp_path: Path) -> None:
        weights = make_yolo(tmp_path / "tiny.pt", names=list(NAMES))
        detect = build_detector(DetectorConfig(str(weights), conf=0.0), device="cpu")
        (found,) = detect([GREY])
        best = {int(id): float(found.scores[found.category_ids == id].max()) for id in np.unique(found.category_ids)}
        winner = max(best, key=lambda id: best[id])
        loser = next(id for id in range(1, len(NAMES) + 1) if id != winner)
        between = (best[winner] + best.get(loser, 0.0)) / 2
        chosen = DetectorConfig(str(weights), conf=between, classes=(NAMES[loser - 1],))
        (nothing,) = build_detector(chosen, device="cpu")([GREY])
        assert nothing.reason is not None and nothing.reason.endswith("--classes or --conf")

    def test_values_left_to_the_model_are_its_rows(self, tmp_path: Path, photo: Path) -> None:
        evsam("segment", photo, "-o", tmp_path / "out", "--offline", "-q")
        info = run_info(tmp_path / "out")
        row = DETECTORS["objects"]
        assert info["settings"]["prompts"]["conf"] == row.conf and info["settings"]["prompts"]["iou"] == row.iou
        assert info["defaults"] == {
            **{name: f"{getattr(row, name):g}, the own value of objects" for name in ("conf", "iou")},
            **SAMS["evsam-starter"].own(SAMS["evsam-starter"].rules),
        }

    def test_a_run_says_of_each_empty_image_why(self, tmp_path: Path, photo: Path) -> None:
        _, err = evsam("segment", photo, "-o", tmp_path / "out", "--offline", "--conf", "1")
        info = run_info(tmp_path / "out")
        assert list(info["empty"]) == ["photo.png"] and info["empty"]["photo.png"].endswith("--conf")
        assert f"empty: photo.png: {info['empty']['photo.png']}" in err and "1 of 1 images are empty" in err

    def test_a_box_file_without_boxes_for_an_image(self, tmp_path: Path, photo: Path) -> None:
        Pil.new("RGB", (80, 60)).save(tmp_path / "other.png")
        (tmp_path / "boxes.csv").write_text("image,x1,y1,x2,y2,score\nphoto.png,1,1,50,50,0.2\nother.png,1,1,9,9,0.9\n")
        images = (photo, tmp_path / "other.png")
        boxes = ("--boxes", tmp_path / "boxes.csv")
        evsam("segment", *images, "-o", tmp_path / "out", *boxes, "--min-score", "0.5", "--offline", "-q")
        assert run_info(tmp_path / "out")["empty"] == {
            "photo.png": "boxes.csv has no box for it that scores 0.5 or more: --min-score"
        }


class TestEverything:
    def test_each_rule_that_leaves_nothing(self) -> None:
        config = GridConfig(pred_iou_thresh=0.88, stability_score_thresh=0.95)
        none_likely = Funnel(masks=3072, best_iou=0.71)
        assert none_likely.why_none(config) == (
            "of 3,072 masks none passed predicted IoU 0.88; the best had 0.71: --pred-iou-thresh"
        )
        none_stable = Funnel(masks=3072, likely=12, best_iou=0.9, best_stability=0.8)
        assert none_stable.why_none(config).endswith("the best had at most 0.8: --stability-score-thresh")
        all_cut = Funnel(masks=3072, likely=12, stable=3, best_iou=0.9)
        assert "3 stable masks end at a side of a crop" in all_cut.why_none(config)

    @pytest.mark.parametrize(
        ("options", "option"),
        [
            (("--pred-iou-thresh", "1"), "--pred-iou-thresh"),
            (("--stability-score-thresh", "1"), "--stability-score-thresh"),
        ],
    )
    def test_a_run_of_the_grid_says_which(
        self, tmp_path: Path, photo: Path, options: tuple[str, ...], option: str
    ) -> None:
        few = ("--points-per-side", "2", "--pred-iou-thresh", "0.01", *options)
        evsam("everything", photo, "-o", tmp_path / "out", *few, "--offline", "-q")
        assert run_info(tmp_path / "out")["empty"]["photo.png"].endswith(f": {option}")

    def test_one_colour(self, tmp_path: Path) -> None:
        Pil.new("RGB", (80, 60), (9, 9, 9)).save(tmp_path / "blank.png")
        evsam("everything", tmp_path / "blank.png", "-o", tmp_path / "out", "--prompts", "grid", "--offline", "-q")
        assert run_info(tmp_path / "out")["empty"] == {"blank.png": "the image has one colour alone"}
