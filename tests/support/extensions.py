"""A script of a user's own: a SAM, a detector, an output and a strategy that evsam does not have, and its command line.

python extensions.py segment photo.jpg -o out --sam one-layer --weights one.pt --detector bright --save areas
python extensions.py everything photo.jpg -o out --prompts tiles --points-per-side 3
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import ClassVar

import cv2
import numpy as np
from torch import nn

from evsam_cli.__main__ import main
from pipelines.categories import OBJECT
from pipelines.detectors import DETECTORS, DetectorConfig, DetectorRow
from pipelines.everything import STRATEGIES, StrategyRow
from pipelines.files import replacing
from pipelines.outputs import OUTPUTS, Output, OutputRow
from pipelines.rle import decode
from pipelines.sam import SAMS, SamConfig, SamRow
from pipelines.sam.model import Sam
from pipelines.segment import SegmentJob
from pipelines.types import Category, Detections, Image, Instances


@dataclass(frozen=True)
class OneLayer:
    """A SAM (`pipelines.sam.model.Architecture`) whose image encoder is one convolution."""

    input_size: int

    def build(self) -> Sam:
        return Sam(nn.Conv2d(3, 256, self.input_size // 64, stride=self.input_size // 64), self.input_size)


class Bright:
    """A detector (`pipelines.detectors.Detector`) of the bright regions of an image. It needs no weights."""

    categories = (Category(1, "bright"),)
    batch = 1

    def __init__(self, weights: None, config: DetectorConfig, *, device: str, level: int) -> None:
        self.config = config
        self.level = level

    def __call__(self, images: Sequence[Image]) -> list[Detections]:
        return [self.find(image) for image in images]

    def find(self, image: Image) -> Detections:
        """Regions of at least 100 pixels; a box's score is the share of it that is bright."""
        bright = (image.pixels.min(axis=2) >= self.level).astype(np.uint8)
        regions = cv2.connectedComponentsWithStats(bright)[2][1:]
        left, top, width, height, pixels = regions[regions[:, cv2.CC_STAT_AREA] >= 100].T
        boxes = np.stack([left, top, left + width, top + height], axis=1).astype(np.float32)
        scores = (pixels / (width * height)).astype(np.float32)
        best = np.argsort(-scores, kind="stable")
        best = best[scores[best] >= self.config.conf][: self.config.max_det]
        return Detections(boxes, scores, np.ones(len(boxes), np.int64)).take(best)


class Areas(Output):
    """`areas/<stem>.txt`: the pixels of each mask, one a line."""

    of_image = ("areas/{}.txt",)

    def write(self, image: Image, instances: Instances) -> None:
        path = self.destination.path("areas", f"{self.destination.stem(image.name)}.txt")
        with replacing(path, self.destination.scratch) as temporary:
            temporary.write_text("".join(f"{decode(rle).sum()}\n" for rle in instances.rles))


@dataclass(frozen=True)
class TilesConfig:
    """points_per_side: of the tiles, which have no points."""

    points_per_side: int = 2

    strategy: ClassVar[str] = "tiles"


@dataclass(frozen=True)
class Tiles:
    """Boxes that cover the image, side by side."""

    across: int
    categories: tuple[Category, ...] = (OBJECT,)
    batch: int = 1

    def __call__(self, images: Sequence[Image]) -> list[Detections]:
        return [self.cut(image) for image in images]

    def cut(self, image: Image) -> Detections:
        x, y = (np.linspace(0, side, self.across + 1, dtype=np.float32) for side in (image.width, image.height))
        boxes = np.array(
            [(*start, *stop) for start, stop in zip(product(x[:-1], y[:-1]), product(x[1:], y[1:]), strict=True)]
        )
        return Detections(boxes, np.ones(len(boxes), np.float32), np.full(len(boxes), OBJECT.id))


def tiles(sam: SamConfig, config: TilesConfig, *, offline: bool | None) -> SegmentJob:
    """A strategy of `evsam everything`: the mask of each tile."""
    return SegmentJob(sam.build(offline=offline), Tiles(config.points_per_side))


if __name__ == "__main__":
    SAMS.add(SamRow("one-layer", "__main__:OneLayer", "a single convolution", options={"input_size": 256}))
    DETECTORS.add(DetectorRow("bright", "__main__:Bright", "bright regions", options={"level": 200}, conf=0.5))
    OUTPUTS.add(OutputRow("areas", "__main__:Areas", "pixels of each mask: areas/", files=("areas",)))
    STRATEGIES.add(StrategyRow("tiles", "__main__:tiles", "the thing in each tile", config=TilesConfig))
    main()
