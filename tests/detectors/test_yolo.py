"""YOLO: the boxes of YOLO.predict, from a checkpoint or an ONNX file."""

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from support.tiny_yolo import PHOTOS, SIZE, detector, make_yolo

from pipelines.boxes import has_area
from pipelines.categories import COCO
from pipelines.detectors import DetectorConfig, build_detector
from pipelines.detectors.checkpoint import read_checkpoint
from pipelines.errors import SetupError, UsageError, WeightsError
from pipelines.types import Category, Detections, Image

pytestmark = pytest.mark.usefixtures("one_thread")  # YOLO.predict changes their number, and with it the last digits


@pytest.fixture(scope="module")
def coco_yolo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_yolo(tmp_path_factory.mktemp("weights") / "coco.pt")


@pytest.fixture(scope="module")
def two_class_yolo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_yolo(tmp_path_factory.mktemp("weights") / "two.pt", names=["Gull", "boat"])


def assert_same(found: Detections, expected: Detections) -> None:
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.category_ids, expected.category_ids)


class TestYolo:
    @pytest.mark.parametrize(
        "architecture", ["v8/yolov8", "v8/yolov8-seg", "v5/yolov5", "v10/yolov10n", "11/yolo11", "26/yolo26"]
    )
    @pytest.mark.parametrize("photo", PHOTOS, ids=lambda photo: photo.name)
    def test_equals_ultralytics_predict(self, tmp_path: Path, architecture: str, photo: Image) -> None:
        from ultralytics import YOLO

        path = make_yolo(tmp_path / "model.pt", architecture=architecture)
        options = {"conf": 0.05, "iou": 0.6, "max_det": 150}
        found = detector(path, **options)([photo])[0]
        bgr = np.ascontiguousarray(photo.pixels[..., ::-1])
        result = YOLO(path).predict(bgr, imgsz=SIZE, device="cpu", verbose=False, save=False, **options)[0].boxes
        boxes, scores, classes = result.xyxy.numpy(), result.conf.numpy(), result.cls.numpy().astype(int)
        keep = has_area(boxes)  # evsam drops boxes that clipping left without area
        assert keep.sum() > 50
        np.testing.assert_array_equal(found.category_ids, [COCO[index].id for index in classes[keep]])
        np.testing.assert_allclose(found.boxes, boxes[keep], atol=1e-3)
        np.testing.assert_allclose(found.scores, scores[keep], atol=1e-6)
        assert (np.diff(found.scores) <= 0).all()

    def test_searches_at_the_size_it_was_trained_at(self, coco_yolo: Path, tmp_path: Path) -> None:
        import torch
        from ultralytics import YOLO

        for size in (160, None):
            path = tmp_path / f"{size}.pt"
            checkpoint = torch.load(coco_yolo, weights_only=False)
            checkpoint["train_args"] = {"imgsz": size} if size else {}
            torch.save(checkpoint, path)
            found = build_detector(DetectorConfig(str(path), conf=0.05))([PHOTOS[0]])[0]
            expected = build_detector(DetectorConfig(str(path), conf=0.05, imgsz=size or 640))([PHOTOS[0]])[0]
            assert_same(found, expected)
        bgr = np.ascontiguousarray(PHOTOS[0].pixels[..., ::-1])
        path = tmp_path / "160.pt"
        theirs = YOLO(path).predict(bgr, conf=0.05, device="cpu", verbose=False, save=False)[0].boxes.xyxy.numpy()
        ours = build_detector(DetectorConfig(str(path), conf=0.05))([PHOTOS[0]])[0].boxes
        np.testing.assert_allclose(ours, theirs[has_area(theirs)], atol=1e-3)

    def test_an_image_does_not_feel_its_neighbours(self, coco_yolo: Path) -> None:
        shapes = [PHOTOS[0].pixels, PHOTOS[1].pixels, PHOTOS[0].pixels[::-1], PHOTOS[1].pixels[:300, :300]]
        images = [Image(str(index), np.ascontiguousarray(pixels)) for index, pixels in enumerate(shapes)]
        yolo = detector(coco_yolo, conf=0.05)
        alone = [yolo([image])[0] for image in images]
        for found, expected in zip(yolo(images), alone, strict=True):
            assert_same(found, expected)

    def test_images_that_share_a_forward_pass_agree_to_float_noise(self, coco_yolo: Path) -> None:
        images = [Image(str(turn), np.ascontiguousarray(np.rot90(PHOTOS[0].pixels, turn))) for turn in (0, 2, 1, 3)]
        yolo = detector(coco_yolo, conf=0.0, iou=1.0, max_det=3000)  # no threshold that noise could cross
        alone = [yolo([image])[0] for image in images]
        yolo.batch = 3
        for found, expected in zip(yolo(images), alone, strict=True):
            assert len(found) == len(expected) > 100
            np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
            distance = np.abs(found.boxes[:, None] - expected.boxes[None]).max(axis=2).min(axis=1)
            assert distance.max() < 0.5

    def test_no_images(self, coco_yolo: Path) -> None:
        assert detector(coco_yolo)([]) == []

    def test_thin_and_tiny_images(self, coco_yolo: Path) -> None:
        yolo = detector(coco_yolo, conf=0.0)
        for height, width in ((1, 1), (1, 3000), (2000, 2), (31, 33)):
            found = yolo([Image("thin", np.full((height, width, 3), 90, np.uint8))])[0]
            assert has_area(found.boxes).all()
            assert (found.boxes >= 0).all() and (found.boxes <= [width, height, width, height]).all()

    def test_category_ids(self, coco_yolo: Path, two_class_yolo: Path) -> None:
        assert detector(coco_yolo).categories == COCO
        yolo = detector(two_class_yolo, conf=0.0)
        assert yolo.categories == (Category(1, "Gull"), Category(2, "boat"))
        assert set(yolo([PHOTOS[0]])[0].category_ids) == {1, 2}

    def test_classes_are_chosen_by_name_or_category_id(self, coco_yolo: Path) -> None:
        everything = detector(coco_yolo, conf=0.02, max_det=3000)([PHOTOS[0]])[0]
        usual = everything.category_ids[0]
        name = next(category.name for category in COCO if category.id == usual)
        for wanted in (name, name.upper(), str(usual)):
            chosen = detector(coco_yolo, conf=0.02, max_det=3000, classes=(wanted,))([PHOTOS[0]])[0]
            keep = everything.category_ids == usual
            assert_same(
                chosen, Detections(everything.boxes[keep], everything.scores[keep], everything.category_ids[keep])
            )

    def test_unknown_class_names_those_like_it(self, coco_yolo: Path, two_class_yolo: Path) -> None:
        with pytest.raises(UsageError, match="no class 'persn'; did you mean 'person'"):
            detector(coco_yolo, classes=("dog", "persn"))
        with pytest.raises(UsageError, match=r"it has 2: Gull \(1\), boat \(2\)$"):
            detector(two_class_yolo, classes=("3",))

    @pytest.mark.parametrize("name", ["it's mine.pt", "yolov5n.pt", " model.PT"])
    def test_file_names_that_ultralytics_would_change(self, tmp_path: Path, coco_yolo: Path, name: str) -> None:
        path = shutil.copyfile(coco_yolo, tmp_path / name)
        assert_same(detector(path)([PHOTOS[0]])[0], detector(coco_yolo)([PHOTOS[0]])[0])

    def test_prefers_the_averaged_weights_of_an_unfinished_training(
        self, tmp_path: Path, coco_yolo: Path, two_class_yolo: Path
    ) -> None:
        both = {"model": read_checkpoint(coco_yolo), "ema": read_checkpoint(two_class_yolo)}
        torch.save(both, tmp_path / "last.pt")
        assert len(detector(tmp_path / "last.pt").categories) == 2

    @pytest.mark.gpu
    def test_on_a_gpu(self, coco_yolo: Path) -> None:
        config = DetectorConfig(str(coco_yolo), imgsz=SIZE, conf=0.0, iou=1.0, max_det=3000)
        images = [*PHOTOS, *PHOTOS]
        for found, expected in zip(
            build_detector(config, device="cuda")(images), build_detector(config)(images), strict=True
        ):
            np.testing.assert_allclose(found.scores[:100], expected.scores[:100], atol=0.02)


class TestOnnx:
    def test_needs_its_package(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        find = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else find(name))
        (tmp_path / "model.onnx").touch()
        with pytest.raises(SetupError, match="needs the package onnxruntime: install it with"):
            detector(tmp_path / "model.onnx")

    @pytest.mark.filterwarnings("ignore")  # of ultralytics' exporter
    @pytest.mark.parametrize("dynamic", [False, True])
    def test_equals_the_checkpoint_it_came_from(self, tmp_path: Path, coco_yolo: Path, dynamic: bool) -> None:
        from ultralytics import YOLO

        path = shutil.copyfile(coco_yolo, tmp_path / "model.pt")
        exported = Path(YOLO(path).export(format="onnx", imgsz=SIZE, dynamic=dynamic, simplify=False))
        square = [Image(photo.name, np.ascontiguousarray(photo.pixels[:700, :700])) for photo in PHOTOS]
        options = {"conf": 0.0, "iou": 1.0, "max_det": 3000}
        for found, expected in zip(
            detector(exported, **options)(square), detector(path, **options)(square), strict=True
        ):
            np.testing.assert_allclose(found.scores, expected.scores, atol=1e-3)
        assert detector(exported).categories == COCO

    def test_damaged_file(self, tmp_path: Path) -> None:
        (tmp_path / "model.onnx").write_bytes(b"no model")
        with pytest.raises(WeightsError, match="is not an ONNX file"):
            detector(tmp_path / "model.onnx")
