"""Detectors: the boxes of YOLO.predict, from files that cannot do harm, under names that files understand."""

import importlib.util
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import categories
from pipelines.boxes import has_area
from pipelines.categories import COCO, OBJECT, from_names, select
from pipelines.detectors import DETECTORS, DetectorConfig, build_detector, find_weights
from pipelines.detectors.checkpoint import read_checkpoint
from pipelines.detectors.given import Given, parse_box, parse_point
from pipelines.detectors.quiet_ultralytics import tasks
from pipelines.detectors.yolo import Yolo
from pipelines.errors import DataError, ImageError, SetupError, UnknownNameError, UsageError, WeightsError
from pipelines.types import Category, Detections, Image
from weights import manifest

COCO_NAMES = [category.name for category in COCO]
SIZE = 160


def photographs():
    from ultralytics import ASSETS

    return [Image(path.name, np.array(PIL.Image.open(path))) for path in sorted(ASSETS.glob("*.jpg"))]


PHOTOS = photographs()


@pytest.fixture(autouse=True)
def one_thread():
    """YOLO.predict changes the number of threads, and with it the last digits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make_yolo(path, *, architecture="v8/yolov8", names=COCO_NAMES, seed=0):
    """A small network of a real architecture whose random head answers with many classes and scores."""
    from ultralytics.utils import ROOT, YAML

    torch.manual_seed(seed)
    layout = YAML.load(ROOT / f"cfg/models/{architecture}.yaml")
    model = tasks.DetectionModel(
        layout | {"scales": {"t": [0.33, 0.125, 256]}, "scale": "t", "nc": len(names)}, verbose=False
    )
    pixels = [torch.from_numpy(np.array(PIL.Image.fromarray(photo.pixels).resize((SIZE, SIZE)))) for photo in PHOTOS]
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        model.train()(torch.stack(pixels).permute(0, 3, 1, 2) / 255)  # norms fit the photographs
        for name, parameter in model.model[-1].named_parameters():
            if "cv3" in name and name.endswith("2.weight"):
                parameter.normal_(0, 0.2)
            if "cv3" in name and name.endswith("2.bias"):
                parameter.fill_(-3)
    model.names = dict(enumerate(names))
    if getattr(model.model[-1], "one2one_cv2", None) is not None:
        model.end2end = True  # what a checkpoint prefers must not decide
    torch.save({"model": model.eval().half(), "ema": None, "train_args": {}}, path)
    return path


@pytest.fixture(scope="module")
def coco_yolo(tmp_path_factory):
    return make_yolo(tmp_path_factory.mktemp("weights") / "coco.pt")


@pytest.fixture(scope="module")
def two_class_yolo(tmp_path_factory):
    return make_yolo(tmp_path_factory.mktemp("weights") / "two.pt", names=["Gull", "boat"])


def detector(path, **options):
    return build_detector(DetectorConfig(str(path), imgsz=SIZE, **options))


def assert_same(found: Detections, expected: Detections):
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.category_ids, expected.category_ids)


class TestYolo:
    @pytest.mark.parametrize("architecture", ["v8/yolov8", "v5/yolov5", "v10/yolov10n", "11/yolo11", "26/yolo26"])
    @pytest.mark.parametrize("photo", PHOTOS, ids=lambda photo: photo.name)
    def test_equals_ultralytics_predict(self, tmp_path, architecture, photo):
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

    def test_searches_at_the_size_it_was_trained_at(self, coco_yolo, tmp_path):
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

    def test_an_image_does_not_feel_its_neighbours(self, coco_yolo):
        shapes = [PHOTOS[0].pixels, PHOTOS[1].pixels, PHOTOS[0].pixels[::-1], PHOTOS[1].pixels[:300, :300]]
        images = [Image(str(index), np.ascontiguousarray(pixels)) for index, pixels in enumerate(shapes)]
        yolo = detector(coco_yolo, conf=0.05)
        alone = [yolo([image])[0] for image in images]
        for found, expected in zip(yolo(images), alone, strict=True):
            assert_same(found, expected)

    def test_images_that_share_a_forward_pass_agree_to_float_noise(self, coco_yolo):
        images = [Image(str(turn), np.ascontiguousarray(np.rot90(PHOTOS[0].pixels, turn))) for turn in (0, 2, 1, 3)]
        yolo = detector(coco_yolo, conf=0.0, iou=1.0, max_det=3000)  # no threshold that noise could cross
        alone = [yolo([image])[0] for image in images]
        yolo.batch = 3
        for found, expected in zip(yolo(images), alone, strict=True):
            assert len(found) == len(expected) > 100
            np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
            distance = np.abs(found.boxes[:, None] - expected.boxes[None]).max(axis=2).min(axis=1)
            assert distance.max() < 0.5

    def test_no_images(self, coco_yolo):
        assert detector(coco_yolo)([]) == []

    def test_thin_and_tiny_images(self, coco_yolo):
        yolo = detector(coco_yolo, conf=0.0)
        for height, width in ((1, 1), (1, 3000), (2000, 2), (31, 33)):
            found = yolo([Image("thin", np.full((height, width, 3), 90, np.uint8))])[0]
            assert has_area(found.boxes).all()
            assert (found.boxes >= 0).all() and (found.boxes <= [width, height, width, height]).all()

    def test_category_ids(self, coco_yolo, two_class_yolo):
        assert detector(coco_yolo).categories == COCO
        yolo = detector(two_class_yolo, conf=0.0)
        assert yolo.categories == (Category(1, "Gull"), Category(2, "boat"))
        assert set(yolo([PHOTOS[0]])[0].category_ids) == {1, 2}

    def test_classes_are_chosen_by_name_or_category_id(self, coco_yolo):
        everything = detector(coco_yolo, conf=0.02, max_det=3000)([PHOTOS[0]])[0]
        usual = everything.category_ids[0]
        name = next(category.name for category in COCO if category.id == usual)
        for wanted in (name, name.upper(), str(usual)):
            chosen = detector(coco_yolo, conf=0.02, max_det=3000, classes=(wanted,))([PHOTOS[0]])[0]
            keep = everything.category_ids == usual
            assert_same(
                chosen, Detections(everything.boxes[keep], everything.scores[keep], everything.category_ids[keep])
            )

    def test_unknown_class_names_those_like_it(self, coco_yolo, two_class_yolo):
        with pytest.raises(UsageError, match="no class 'persn'; did you mean 'person'"):
            detector(coco_yolo, classes=("dog", "persn"))
        with pytest.raises(UsageError, match=r"it has 2: Gull \(1\), boat \(2\)$"):
            detector(two_class_yolo, classes=("3",))

    @pytest.mark.parametrize("name", ["it's mine.pt", "yolov5n.pt", " model.PT"])
    def test_file_names_that_ultralytics_would_change(self, tmp_path, coco_yolo, name):
        path = shutil.copyfile(coco_yolo, tmp_path / name)
        assert_same(detector(path)([PHOTOS[0]])[0], detector(coco_yolo)([PHOTOS[0]])[0])

    def test_prefers_the_averaged_weights_of_an_unfinished_training(self, tmp_path, coco_yolo, two_class_yolo):
        both = {"model": read_checkpoint(coco_yolo), "ema": read_checkpoint(two_class_yolo)}
        torch.save(both, tmp_path / "last.pt")
        assert len(detector(tmp_path / "last.pt").categories) == 2

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    def test_on_a_gpu(self, coco_yolo):
        config = DetectorConfig(str(coco_yolo), imgsz=SIZE, conf=0.0, iou=1.0, max_det=3000)
        images = [*PHOTOS, *PHOTOS]
        for found, expected in zip(
            build_detector(config, device="cuda")(images), build_detector(config)(images), strict=True
        ):
            np.testing.assert_allclose(found.scores[:100], expected.scores[:100], atol=0.02)


class Harm:
    """Unpickled without care, it makes a file."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.open, (str(self.marker), os.O_CREAT)


class HarmfulText:
    """Unpickled without care, it builds a network whose description makes a file."""

    def __init__(self, marker):
        self.layout = {
            "nc": 1,
            "activation": f"__import__('pathlib').Path({str(marker)!r}).touch()",
            "backbone": [[-1, 1, "Conv", [8, 3, 2]]],
            "head": [[[0], 1, "Detect", ["nc"]]],
        }

    def __reduce__(self):
        return tasks.DetectionModel, (self.layout,)


def save_in_checkpoint(content, path):
    torch.save({"model": content}, path)


def save_old_pickle(content, path):
    torch.save({"model": content}, path, _use_new_zipfile_serialization=False)


def save_bare_pickle(content, path):
    path.write_bytes(pickle.dumps({"model": content}))


class TestHarmfulFiles:
    @pytest.mark.parametrize("kind", [Harm, HarmfulText])
    @pytest.mark.parametrize("save", [save_in_checkpoint, save_old_pickle, save_bare_pickle])
    def test_code_in_a_checkpoint_does_not_run(self, tmp_path, kind, save):
        marker, path = tmp_path / "marker", tmp_path / "model.pt"
        save(kind(marker), path)
        with pytest.raises(WeightsError, match=str(path)):
            detector(path)
        assert not marker.exists()
        try:
            pickle.loads(path.read_bytes()) if save is save_bare_pickle else torch.load(path, weights_only=False)
        except Exception:  # the harm is done before the network is built
            pass
        assert marker.exists(), "the file is harmless, so this test proves nothing"

    def test_the_error_says_what_the_file_asked_for(self, tmp_path):
        save_in_checkpoint(Harm(tmp_path / "marker"), tmp_path / "model.pt")
        with pytest.raises(WeightsError, match=r"was refused: it asks to load (posix|nt).open, "):
            detector(tmp_path / "model.pt")

    def test_compressed_checkpoint_is_refused(self, tmp_path, coco_yolo):
        path = tmp_path / "bomb.pt"
        with zipfile.ZipFile(coco_yolo) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
            for name in source.namelist():
                target.writestr(name, source.read(name))
        with pytest.raises(WeightsError, match="compressed"):
            detector(path)

    @pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
    def test_truncated_file(self, tmp_path, coco_yolo, keep):
        whole = coco_yolo.read_bytes()
        path = tmp_path / "cut.pt"
        path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
        with pytest.raises(WeightsError, match=f"{path} is not a checkpoint that ultralytics can read"):
            detector(path)

    @pytest.mark.parametrize("content", [{"model": None}, {}, {"model": {"a": torch.zeros(3)}}, torch.zeros(3), [1]])
    def test_files_of_something_else(self, tmp_path, content):
        torch.save(content, tmp_path / "other.pt")
        with pytest.raises(WeightsError, match=r"other\.pt"):
            detector(tmp_path / "other.pt")

    def test_models_that_do_not_detect(self, tmp_path, coco_yolo):
        from ultralytics.utils import ROOT, YAML

        layout = YAML.load(ROOT / "cfg/models/v8/yolov8-seg.yaml") | {"scales": {"t": [0.33, 0.125, 256]}, "scale": "t"}
        torch.save({"model": tasks.SegmentationModel(layout, verbose=False)}, tmp_path / "seg.pt")
        with pytest.raises(WeightsError, match="holds a SegmentationModel, but evsam needs a YOLO detection model"):
            detector(tmp_path / "seg.pt")

    def test_names_that_are_not_the_networks(self, tmp_path, coco_yolo):
        for names in ({0: "only"}, {}, {1: "a", 2: "b"}, None, 5):
            model = read_checkpoint(coco_yolo)
            model.names = names
            torch.save({"model": model}, tmp_path / "names.pt")
            with pytest.raises(WeightsError, match="does not work as a detection model"):
                detector(tmp_path / "names.pt")


class TestOnnx:
    def test_needs_its_package(self, tmp_path, monkeypatch):
        find = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else find(name))
        (tmp_path / "model.onnx").touch()
        with pytest.raises(SetupError, match="needs the package onnxruntime: install it with"):
            detector(tmp_path / "model.onnx")

    @pytest.mark.filterwarnings("ignore")  # of ultralytics' exporter
    @pytest.mark.parametrize("dynamic", [False, True])
    def test_equals_the_checkpoint_it_came_from(self, tmp_path, coco_yolo, dynamic):
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

    def test_damaged_file(self, tmp_path):
        (tmp_path / "model.onnx").write_bytes(b"no model")
        with pytest.raises(WeightsError, match="does not work as a detection model"):
            detector(tmp_path / "model.onnx")


class TestTable:
    @pytest.mark.parametrize("name", DETECTORS)
    def test_every_row_loads_and_detects(self, name, coco_yolo):
        row = DETECTORS[name]
        assert row.weights in manifest.names()
        built = row.load()(coco_yolo, DetectorConfig(name, imgsz=SIZE))
        assert isinstance(built, Yolo)
        assert len(built([PHOTOS[0]])) == 1

    def test_bundled_detector_finds_objects_offline(self):
        built = build_detector(DetectorConfig(conf=0.1), offline=True)
        assert built.categories == (OBJECT,)
        for found in built(PHOTOS):
            assert len(found) > 0

    def test_table_imports_nothing_heavy(self):
        code = "import sys, pipelines.detectors; print(*{'numpy', 'torch', 'cv2', 'ultralytics'} & set(sys.modules))"
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert run.stdout.strip() == ""

    def test_ultralytics_leaves_opencvs_threads_alone(self):
        code = (
            "import cv2; before = cv2.getNumThreads(); import pipelines.detectors.quiet_ultralytics;"
            "print(cv2.getNumThreads() == before)"
        )
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert (run.stdout.strip(), run.stderr) == ("True", "")

    def test_unknown_names(self, tmp_path):
        with pytest.raises(UnknownNameError, match=r"unknown detector 'yolov9000'; choose one of: objects.*\.onnx"):
            find_weights("yolov9000")
        with pytest.raises(WeightsError, match=r"no file yolov8n\.pt: .* say yolov8n$"):
            find_weights("yolov8n.pt")
        with pytest.raises(WeightsError, match=r"no file .*mine\.pt$"):
            find_weights(str(tmp_path / "mine.pt"))

    def test_unknown_device(self, coco_yolo):
        with pytest.raises(UsageError, match="device 'toaster' cannot be used"):
            build_detector(DetectorConfig(str(coco_yolo)), device="toaster")

    @pytest.mark.parametrize(
        "options", [{"conf": 1.5}, {"iou": -0.1}, {"conf": float("nan")}, {"max_det": 0}, {"imgsz": 31}]
    )
    def test_values_that_cannot_be_right(self, options):
        with pytest.raises(UsageError, match=next(iter(options))):
            DetectorConfig(**options)

    def test_config_survives_json_terms(self):
        config = DetectorConfig("yolov8n", classes=("dog", "17"))
        assert DetectorConfig(**asdict(config)) == config


class TestCategories:
    def test_coco_is_what_ultralytics_says(self):
        from ultralytics.data.converter import coco80_to_coco91_class
        from ultralytics.utils import ROOT, YAML

        assert COCO_NAMES == list(YAML.load(ROOT / "cfg/datasets/coco.yaml")["names"].values())
        assert [category.id for category in COCO] == coco80_to_coco91_class()

    def test_almost_coco_is_not_coco(self):
        assert from_names(COCO_NAMES) == COCO
        for names in (COCO_NAMES[:-1], [*COCO_NAMES[1:], COCO_NAMES[0]]):
            assert [category.id for category in from_names(names)] == list(range(1, len(names) + 1))

    def test_names_come_before_ids(self):
        odd = (Category(1, "2"), Category(2, "two"), Category(3, "two"))
        assert select(odd, ["2"]) == [0]
        assert select(odd, [" TWO ", "2", "two"]) == [0, 1, 2]
        assert select(odd, []) == []
        assert categories.OBJECT.name == "object"


class TestGiven:
    def test_the_same_boxes_for_every_image_clipped(self):
        images = [Image("a", np.zeros((50, 100, 3), np.uint8)), Image("b", np.zeros((20, 30, 3), np.uint8))]
        found = Given([(10, 10, 60, 40), (-5, 0, 5, 5)])(images)
        np.testing.assert_array_equal(found[0].boxes, [[10, 10, 60, 40], [0, 0, 5, 5]])
        np.testing.assert_array_equal(found[1].boxes, [[10, 10, 30, 20], [0, 0, 5, 5]])
        for detections in found:
            np.testing.assert_array_equal(detections.scores, [1, 1])
            np.testing.assert_array_equal(detections.category_ids, [OBJECT.id] * 2)

    def test_box_outside_an_image_fails_it(self):
        with pytest.raises(ImageError, match="the box 60,10,90,40 lies outside the image, which is 50 x 20"):
            Given([(0, 0, 5, 5), (60, 10, 90, 40)])([Image("a", np.zeros((20, 50, 3), np.uint8))])

    def test_box_without_area(self):
        with pytest.raises(DataError, match="no area"):
            Given([(5, 5, 5, 9)])

    @settings(deadline=None)
    @given(st.lists(st.floats(-1e6, 1e6), min_size=4, max_size=4))
    def test_parse_box(self, numbers):
        text = ", ".join(map(repr, numbers))
        if numbers[0] < numbers[2] and numbers[1] < numbers[3]:
            assert parse_box(text) == tuple(numbers)
        else:
            with pytest.raises(UsageError, match="no area"):
                parse_box(text)

    @pytest.mark.parametrize(
        "text", ["", "1,2,3", "1,2,3,4,5", "a,b,c,d", "1 2 3 4", "1,2,nan,4", "1,2,inf,4", "1,,3,4"]
    )
    def test_what_is_no_box(self, text):
        with pytest.raises(UsageError, match="is not a box: give four numbers"):
            parse_box(text)

    def test_parse_point(self):
        assert parse_point("3,4.5") == (3, 4.5, 1)
        assert parse_point(" 3, 4, 0") == (3, 4, 0)
        for text in ("3", "3,4,2", "3,4,0.5", "3,4,1,1", "x,y", "3,nan", ""):
            with pytest.raises(UsageError, match="is not a point"):
                parse_point(text)
