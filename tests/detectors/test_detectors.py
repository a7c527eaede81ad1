"""Detectors: every row of the table, the names of classes, boxes and clicks given by hand."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tiny_yolo import COCO_NAMES, PHOTOS, SIZE, make_yolo

from pipelines import categories
from pipelines.categories import COCO, OBJECT, from_names, select
from pipelines.detectors import DETECTORS, DetectorConfig, build_detector, detector_row, find_weights, with_defaults
from pipelines.detectors.given import Given, parse_box, parse_point
from pipelines.errors import DataError, ImageError, UnknownNameError, UsageError, WeightsError
from pipelines.types import Category, Image
from weights import manifest

pytestmark = pytest.mark.usefixtures("one_thread")  # YOLO.predict changes their number, and with it the last digits


@pytest.fixture(scope="module")
def coco_yolo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_yolo(tmp_path_factory.mktemp("weights") / "coco.pt")


YOLO = detector_row("a file.pt").target


class TestTable:
    @pytest.mark.parametrize("name", [row.name for row in DETECTORS.values() if row.target == YOLO])
    def test_every_yolo_loads_and_detects(self, name: str, coco_yolo: Path) -> None:
        row = DETECTORS[name]
        assert row.weights in manifest.names()
        built = row.load()(coco_yolo, with_defaults(DetectorConfig(name, imgsz=SIZE)), device="cpu", **row.options)
        assert built.batch >= 1 and all(isinstance(category, Category) for category in built.categories)
        (found,) = built([PHOTOS[0]])
        assert set(found.category_ids.tolist()) <= {category.id for category in built.categories}

    def test_bundled_detector_finds_objects_offline(self) -> None:
        built = build_detector(DetectorConfig(conf=0.1), offline=True)
        assert built.categories == (OBJECT,)
        for found in built(PHOTOS):
            assert len(found) > 0

    def test_table_imports_nothing_heavy(self) -> None:
        code = "import sys, pipelines.detectors; print(*{'numpy', 'torch', 'cv2', 'ultralytics'} & set(sys.modules))"
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert run.stdout.strip() == ""

    def test_ultralytics_leaves_opencvs_threads_alone(self) -> None:
        code = (
            "import cv2; before = cv2.getNumThreads(); import pipelines.detectors.quiet_ultralytics;"
            "print(cv2.getNumThreads() == before)"
        )
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert (run.stdout.strip(), run.stderr) == ("True", "")

    def test_unknown_names(self, tmp_path: Path) -> None:
        with pytest.raises(
            UnknownNameError, match=r"detector 'yolov9000' is not supported .yet.: .*; choose one of: objects.*\.onnx"
        ):
            find_weights("yolov9000")
        with pytest.raises(WeightsError, match=r"no file yolov8n\.pt: .* say yolov8n$"):
            find_weights("yolov8n.pt")
        with pytest.raises(WeightsError, match=r"no file .*mine\.pt$"):
            find_weights(str(tmp_path / "mine.pt"))

    def test_unknown_device(self, coco_yolo: Path) -> None:
        with pytest.raises(UsageError, match="device 'toaster' cannot be used"):
            build_detector(DetectorConfig(str(coco_yolo)), device="toaster")

    @pytest.mark.parametrize(
        "options", [{"conf": 1.5}, {"iou": -0.1}, {"conf": float("nan")}, {"max_det": 0}, {"imgsz": 31}]
    )
    def test_values_that_cannot_be_right(self, options: dict[str, Any]) -> None:
        with pytest.raises(UsageError, match=next(iter(options))):
            DetectorConfig(**options)

    def test_config_survives_json_terms(self) -> None:
        config = DetectorConfig("yolov8n", classes=("dog", "17"))
        assert DetectorConfig(**asdict(config)) == config


class TestCategories:
    def test_coco_is_what_ultralytics_says(self) -> None:
        from ultralytics.data.converter import coco80_to_coco91_class
        from ultralytics.utils import ROOT, YAML

        assert COCO_NAMES == list(YAML.load(ROOT / "cfg/datasets/coco.yaml")["names"].values())
        assert [category.id for category in COCO] == coco80_to_coco91_class()

    def test_almost_coco_is_not_coco(self) -> None:
        assert from_names(COCO_NAMES) == COCO
        for names in (COCO_NAMES[:-1], [*COCO_NAMES[1:], COCO_NAMES[0]]):
            assert [category.id for category in from_names(names)] == list(range(1, len(names) + 1))

    def test_names_come_before_ids(self) -> None:
        odd = (Category(1, "2"), Category(2, "two"), Category(3, "two"))
        assert select(odd, ["2"]) == [0]
        assert select(odd, [" TWO ", "2", "two"]) == [0, 1, 2]
        assert select(odd, []) == []
        assert categories.OBJECT.name == "object"


class TestGiven:
    def test_the_same_boxes_for_every_image_clipped(self) -> None:
        images = [Image("a", np.zeros((50, 100, 3), np.uint8)), Image("b", np.zeros((20, 30, 3), np.uint8))]
        found = Given([(10, 10, 60, 40), (-5, 0, 5, 5)])(images)
        np.testing.assert_array_equal(found[0].boxes, [[10, 10, 60, 40], [0, 0, 5, 5]])
        np.testing.assert_array_equal(found[1].boxes, [[10, 10, 30, 20], [0, 0, 5, 5]])
        for detections in found:
            np.testing.assert_array_equal(detections.scores, [1, 1])
            np.testing.assert_array_equal(detections.category_ids, [OBJECT.id] * 2)

    def test_box_outside_an_image_fails_it(self) -> None:
        with pytest.raises(ImageError, match="the box 60,10,90,40 lies outside the image, which is 50 x 20"):
            Given([(0, 0, 5, 5), (60, 10, 90, 40)])([Image("a", np.zeros((20, 50, 3), np.uint8))])

    def test_box_without_area(self) -> None:
        with pytest.raises(DataError, match="no area"):
            Given([(5, 5, 5, 9)])

    @given(st.lists(st.floats(-1e6, 1e6), min_size=4, max_size=4))
    def test_parse_box(self, numbers: list[float]) -> None:
        text = ", ".join(map(repr, numbers))
        if numbers[0] < numbers[2] and numbers[1] < numbers[3]:
            assert parse_box(text) == tuple(numbers)
        else:
            with pytest.raises(UsageError, match="no area"):
                parse_box(text)

    @pytest.mark.parametrize(
        "text", ["", "1,2,3", "1,2,3,4,5", "a,b,c,d", "1 2 3 4", "1,2,nan,4", "1,2,inf,4", "1,,3,4"]
    )
    def test_what_is_no_box(self, text: str) -> None:
        with pytest.raises(UsageError, match="is not a box: give four numbers"):
            parse_box(text)

    def test_parse_point(self) -> None:
        assert parse_point("3,4.5") == (3, 4.5, 1)
        assert parse_point(" 3, 4, 0") == (3, 4, 0)
        for text in ("3", "3,4,2", "3,4,0.5", "3,4,1,1", "x,y", "3,nan", ""):
            with pytest.raises(UsageError, match="is not a point"):
                parse_point(text)
