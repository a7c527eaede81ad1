"""Eight real photographs with two objects each: cuts of those that ultralytics ships, with exact masks.

The objects are pieces of the other photograph, cut along ellipses and triangles, so every mask is known to the pixel.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image as Pil

from pipelines import rle
from pipelines.sam.encoders.efficientvit import EfficientViTEncoder, Small
from pipelines.sam.model import Sam
from pipelines.training.config import (
    AugmentConfig,
    DataConfig,
    FinetuneConfig,
    LoopConfig,
    OptimiserConfig,
    PromptMix,
    StageConfig,
)
from pipelines.training.data import TrainingSet
from pipelines.training.sources import open_source

SIZE = (96, 128)  # height, width
RECIPE = """
model = "evsam-starter"
weights = ""
[[stages]]
size = 64
photos = 2
masks = 2
steps = 2
[loop]
device = "cpu"
workers = 0
validate_every = 100
"""
LOOP = LoopConfig(device="cpu", workers=0, photos_at_once=4, log_every=5, checkpoint_every=2, validate_every=1000)


def tiny_sam(input_size: int = 512) -> Sam:
    """A SAM whose encoder has 0.2 M parameters; prompt encoder and mask decoder are SAM's own."""
    config = Small(widths=(8, 16, 16, 32, 64), depths=(1, 1, 1, 1, 1), neck_depth=1, neck_width=64)
    return Sam(EfficientViTEncoder(config, input_size), input_size, multiple=32)


def write_photos(folder: Path, photographs: list[Path]) -> Path:
    """Write images/ and annotations.json (RLE, polygon-free) to `folder`; returns it."""
    (folder / "images").mkdir(parents=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(8):
        pixels, masks = _composite(number, photographs)
        name = f"{number:02}.png"
        Pil.fromarray(pixels).save(folder / "images" / name)
        images.append({"id": number, "file_name": name, "height": SIZE[0], "width": SIZE[1]})
        for mask in masks:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1 + len(annotations) % 2,
                    "segmentation": rle.encode(mask),
                    "area": int(mask.sum()),
                    "bbox": [0, 0, 1, 1],
                    "iscrowd": 0,
                }
            )
    categories = [{"id": 1, "name": "round"}, {"id": 2, "name": "pointed"}]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(document))
    return folder


def _composite(number: int, photographs: list[Path]) -> tuple[np.ndarray, list[np.ndarray]]:
    rng = np.random.default_rng(number)
    height, width = SIZE
    back, front = (_cut(rng, photographs[(number + i) % 2]) for i in range(2))
    round_, pointed = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
    centre = (int(rng.integers(28, 40)), int(rng.integers(30, height - 30)))
    axes = (int(rng.integers(18, 26)), int(rng.integers(18, 28)))
    cv2.ellipse(round_, centre, axes, float(rng.uniform(0, 90)), 0, 360, 1, -1)
    corners = np.array([[70, 12], [width - 8, 20], [92, height - 10]]) + rng.integers(-6, 7, (3, 2))
    cv2.fillPoly(pointed, [corners.astype(np.int32)], 1)
    masks = [round_.astype(bool), pointed.astype(bool)]
    for mask in masks:
        back[mask] = front[mask]
    return back, masks


def _cut(rng: np.random.Generator, path: Path) -> np.ndarray:
    height, width = SIZE
    photo = np.asarray(Pil.open(path).convert("RGB").reduce(2))
    y, x = int(rng.integers(photo.shape[0] - height)), int(rng.integers(photo.shape[1] - width))
    return photo[y : y + height, x : x + width].copy()


def training_set(
    photos: Path, size: int = 64, masks: int = 2, zoom: float = 1, squeezes: bool = False, **augment: Any
) -> TrainingSet:
    config = FinetuneConfig(
        model="tiny",
        stages=(StageConfig(size=size, photos=4, masks=masks, steps=1, zoom=zoom),),
        data=(DataConfig(str(photos)),),
        augment=AugmentConfig(**augment),
        prompts=PromptMix(points=4),
        loop=LoopConfig(workers=2, cache_gb=0.001),
    )
    return TrainingSet([open_source(photos)], config, config.stages[0], size // 2, squeezes=squeezes)


def short(photos: Path, **changes: object) -> FinetuneConfig:
    """Four steps in two stages, with all augmentation, corrections and accumulation."""
    stage = StageConfig(size=64, photos=3, masks=2, steps=2)
    config = FinetuneConfig(
        model="tiny",
        data=(DataConfig(str(photos)),),
        stages=(stage, dataclasses.replace(stage, size=96, photos=2, rate=0.5)),
        augment=AugmentConfig(scale=(0.7, 1.8), colour=0.5, paste=0.5),
        prompts=PromptMix(points=3, corrections=1, correct_every=2),
        optimiser=OptimiserConfig(learning_rate=1e-3, warmup=1, ema=0.5),
        loop=dataclasses.replace(LOOP, photos_at_once=2),
    )
    return dataclasses.replace(config, **changes)  # type: ignore[arg-type]
