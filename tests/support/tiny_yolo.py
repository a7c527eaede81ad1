"""Small YOLO networks of real architectures, and photographs for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch

from pipelines.categories import COCO
from pipelines.detectors import Detector, DetectorConfig, build_detector
from pipelines.detectors.quiet_ultralytics import tasks
from pipelines.types import Image

COCO_NAMES = [category.name for category in COCO]
SIZE = 160


def photographs() -> list[Image]:
    from ultralytics import ASSETS

    return [Image(path.name, np.array(PIL.Image.open(path))) for path in sorted(ASSETS.glob("*.jpg"))]


PHOTOS = photographs()


def make_yolo(path: Path, *, architecture: str = "v8/yolov8", names: Sequence[str] = COCO_NAMES, seed: int = 0) -> Path:
    """A small network of a real architecture whose random head answers with many classes and scores. One that makes
    masks, too, is pickled as ultralytics did in 2023.
    """
    from ultralytics.nn.modules import Detect
    from ultralytics.utils import ROOT, YAML

    torch.manual_seed(seed)
    layout = YAML.load(ROOT / f"cfg/models/{architecture}.yaml")
    segments = architecture.endswith("-seg")
    model: Any = (tasks.SegmentationModel if segments else tasks.DetectionModel)(
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
    if segments:
        model.task, model.model[-1].detect = "segment", Detect.forward
    torch.save({"model": model.eval().half(), "ema": None, "train_args": {}}, path)
    return path


def detector(path: Path, **options: Any) -> Detector:
    return build_detector(DetectorConfig(str(path), imgsz=SIZE, **options))
