"""Where boxes come from. A row is one file of this folder; boxes are in the original image's frame.

Two detectors need no model and are made directly: `box_file.BoxFileDetector` and `given.Given`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pipelines import not_yet
from pipelines.errors import UnknownNameError, WeightsError
from pipelines.limits import MANY, SHARE, SIDE, keep_within
from pipelines.registry import Registry, Row
from weights import digest, store

if TYPE_CHECKING:
    from pipelines.types import Category, Detections, Image


class Detector(Protocol):
    """Boxes for images. `categories` are all classes it can name; `batch` is how many images it likes at once."""

    categories: tuple[Category, ...]
    batch: int

    def __call__(self, images: Sequence[Image]) -> list[Detections]:
        """One Detections per image, best score first, category ids from `categories`."""


@dataclass(frozen=True)
class DetectorRow(Row):
    """A detector, with the values of `DetectorConfig` that suit it; unless told otherwise they are ultralytics'.

    Its target makes a `Detector` and is called as `(weights, config, *, device, **options)`; weights: its file, None
    where the row has none; config: with `conf` and `iou` that are not None. of_coco: whether its classes are COCO's 80,
    which is then known before its weights are here. final: whether `everything` takes its boxes as they come, however
    far they overlap.
    """

    conf: float = 0.25
    iou: float = 0.7
    imgsz: int | None = None
    of_coco: bool = False
    final: bool = False


@dataclass(frozen=True)
class DetectorConfig:
    """What a model is asked for, in ultralytics' terms.

    model: a name of `DETECTORS`, or the path of a .pt or .onnx. conf: lowest score kept; iou: boxes of one class that
    overlap more are one; imgsz: longest side, in pixels, at which an image is searched; None for any of these: the
    model's own, see `with_defaults`, for imgsz at last the size that it was trained at. max_det: most boxes per image;
    classes: names or category ids to keep, () for all. Raises UsageError for a value that cannot be right.
    """

    model: str = "objects"
    conf: float | None = None
    iou: float | None = None
    max_det: int = 300
    imgsz: int | None = None
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        keep_within(self, conf=SHARE, iou=SHARE, max_det=MANY, imgsz=SIDE)


_YOLO = "pipelines.detectors.yolo:Yolo"


def _of_coco(name: str, summary: str) -> DetectorRow:
    return DetectorRow(name, _YOLO, summary, weights=name, of_coco=True)


DETECTORS = Registry(
    "detector",
    [
        DetectorRow(
            "objects",
            _YOLO,
            "bundled, small: boxes any object, names none, works offline",
            weights="objects-starter",
            better="yolov8m",
            conf=0.1,
            iou=0.5,
        ),
        DetectorRow(
            "object-aware",
            _YOLO,
            "MobileSAMv2's: boxes any object, names none",
            weights="object-aware",
            conf=0.4,
            iou=0.9,
            imgsz=1024,
            final=True,
            options={"snap": 20},
        ),
        _of_coco("yolov8n", "YOLOv8 nano, COCO's 80 classes, the fastest"),
        _of_coco("yolov8s", "YOLOv8 small, COCO's 80 classes"),
        _of_coco("yolov8m", "YOLOv8 medium, COCO's 80 classes"),
        _of_coco("yolov8l", "YOLOv8 large, COCO's 80 classes"),
        _of_coco("yolov8x", "YOLOv8 extra large, COCO's 80 classes, the best"),
    ],
)

_MODEL_FILES = (".pt", ".onnx")


def detector_row(model: str) -> DetectorRow:
    """The row of a detector's name; for a file of the user's, one of its own."""
    return DETECTORS[model] if model in DETECTORS else DetectorRow(model, _YOLO, "a file of the user's")


def with_defaults(config: DetectorConfig) -> DetectorConfig:
    """The configuration with the model's own values for those that are None."""
    row = detector_row(config.model)
    missing = {name: getattr(row, name) for name in ("conf", "iou", "imgsz") if getattr(config, name) is None}
    return replace(config, **missing)


def check_detector(config: DetectorConfig, *, device: str = "cpu") -> None:
    """Raise what `build_detector` would and can be known without the weights; fetches and loads nothing."""
    from pipelines.categories import COCO, select
    from pipelines.device import check_device

    if config.model not in DETECTORS:
        _given_file(config.model)
    elif DETECTORS[config.model].of_coco:
        select(COCO, config.classes)
    check_device(device)


def build_detector(config: DetectorConfig, *, device: str = "cpu", offline: bool | None = None) -> Detector:
    """A detector ready for images, with trained weights.

    device: "cpu", "cuda", "cuda:1", "mps". offline: see `weights.store.fetch`. Raises UsageError for an unknown model,
    device or class, WeightsError when the weights are missing, damaged or of another kind of model, and SetupError
    when a package is missing.
    """
    row = detector_row(config.model)
    weights = find_weights(config.model, offline=offline)
    detector: Detector = row.load()(weights, with_defaults(config), device=device, **row.options)
    return detector


def is_here(model: str) -> bool:
    """Whether nothing has to be fetched for a detector."""
    weights = DETECTORS[model].weights if model in DETECTORS else None
    return weights is None or store.locate(weights) is not None


def find_weights(model: str, *, offline: bool | None = None) -> Path | None:
    """The absolute path of a detector's weights, fetched if needed; None for one that has none.

    Raises as `build_detector` does.
    """
    if model not in DETECTORS:
        return _given_file(model)
    weights = DETECTORS[model].weights
    return None if weights is None else store.fetch(weights, offline=offline)


def detector_sha256(model: str, *, offline: bool | None = None) -> str | None:
    """The fingerprint of a detector's weights, fetched if needed; None for one that has none. Raises as above."""
    weights = find_weights(model, offline=offline)
    return None if weights is None else digest.fingerprint(weights)


def _given_file(model: str) -> Path:
    """The absolute path of a detector that is a file of the user's."""
    path = Path(model)
    if path.suffix.lower() not in _MODEL_FILES:
        raise UnknownNameError("detector", model, [*DETECTORS, "or the path of a .pt or .onnx file"])
    try:
        found = path.is_file()
    except OSError as error:
        raise WeightsError(f"{model} cannot be read: {error.strerror}") from error
    if not found:
        own = f"for the one evsam fetches itself, say {path.stem}" if path.stem in DETECTORS else None
        hint = own or not_yet.instead("detector", path.stem)
        raise WeightsError(f"there is no file {model}{f': {hint}' if hint else ''}")
    return path.absolute()
