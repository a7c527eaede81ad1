"""The photograph with its instances drawn on it: tinted masks with outlines, boxes, and labels where there is room."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import sqrt

import cv2
import numpy as np

from pipelines.boxes import clip
from pipelines.outputs import Output
from pipelines.outputs.labels import Colour, draw_labels, overlap
from pipelines.outputs.picture import write_picture
from pipelines.rle import decode_region, large_first
from pipelines.types import Category, Image, Instances, Int64, Rle, UInt8

# Told apart by colour-blind people too: Okabe and Ito, "Color Universal Design" (2008), without black.
PALETTE: tuple[Colour, ...] = (
    (0, 158, 115),
    (230, 159, 0),
    (86, 180, 233),
    (213, 94, 0),
    (240, 228, 66),
    (0, 114, 178),
    (204, 121, 167),
)
_TINT = 0.4
_REMEMBERED = 1000
"""Boxes before one whose colours it avoids: of more, the time would grow with the square of their number."""
_LONGEST_NAME = 40
_JPEG = (
    *(cv2.IMWRITE_JPEG_QUALITY, 90),
    *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),  # thin coloured lines stay sharp
)


@dataclass(frozen=True)
class Overlay(Output):
    """`overlays/<stem>.jpg`."""

    of_image = ("overlays/{}.jpg",)

    def write(self, image: Image, instances: Instances) -> None:
        """Raises ImageError for a picture too large for JPEG."""
        picture = cv2.cvtColor(draw(image, instances, self.destination.categories), cv2.COLOR_RGB2BGR)
        path = self.destination.path("overlays", f"{self.destination.stem(image.name)}.jpg")
        write_picture(self.destination, path, picture, _JPEG)


def draw(image: Image, instances: Instances, categories: Mapping[int, Category]) -> UInt8:
    """A copy of the image's pixels, H x W x 3 RGB, with the instances drawn on it.

    Smaller masks lie over larger ones, and larger objects get their labels first.
    """
    scale = sqrt(image.width * image.height) / 640
    line = max(1, round(1.5 * scale))
    detections = instances.detections
    boxes = clip(detections.boxes, width=image.width, height=image.height).round().astype(np.int64)
    colours = _colours(boxes)
    canvas = image.pixels.copy()
    order = large_first(instances.rles) if instances.masks else list(range(len(instances)))
    for i in order if instances.masks else ():
        _draw_mask(canvas, image.pixels, instances.rles[i], colours[i], line)
    for i in order:
        x1, y1, x2, y2 = boxes[i].tolist()
        if x1 < x2 and y1 < y2:  # else the box lies outside the image
            cv2.rectangle(canvas, (x1, y1), (x2 - 1, y2 - 1), colours[i], line)
    if len(categories) == 1:  # a label that is the same everywhere says nothing
        return canvas
    names = [categories[category].name for category in detections.category_ids.tolist()]
    texts = [_text(name, score) for name, score in zip(names, detections.scores.tolist(), strict=True)]
    draw_labels(canvas, boxes, texts, colours, order, scale)
    return canvas


def _colours(boxes: Int64) -> list[Colour]:
    """For each box the colour least used by the boxes before it that it meets, in turn among equals."""
    chosen = np.zeros(len(boxes), np.int64)
    for i in range(len(boxes)):
        before = slice(max(i - _REMEMBERED, 0), i)
        meets = overlap(boxes[i : i + 1], boxes[before])[0] > 0
        used = np.bincount(chosen[before][meets], minlength=len(PALETTE))
        turn = (i + np.arange(len(PALETTE))) % len(PALETTE)
        chosen[i] = turn[used[turn].argmin()]
    return [PALETTE[colour] for colour in chosen]


def _draw_mask(canvas: UInt8, photo: UInt8, rle: Rle, colour: Colour, line: int) -> None:
    mask, x0, y0 = decode_region(rle)
    if not mask.size:
        return
    window = np.s_[y0 : y0 + mask.shape[0], x0 : x0 + mask.shape[1]]
    shape = mask.view(np.uint8)
    cv2.copyTo(cv2.LUT(photo[window], _tint(colour)), shape, canvas[window])
    contours, _ = cv2.findContours(shape, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(canvas, contours, -1, colour, line, cv2.LINE_AA, offset=(x0, y0))


@lru_cache(len(PALETTE))
def _tint(colour: Colour) -> UInt8:
    """1 x 256 x 3: what each channel's value becomes under the colour."""
    values = np.arange(256)[None, :, None] * (1 - _TINT) + np.array(colour) * _TINT
    return values.round().astype(np.uint8)


def _text(name: str, score: float) -> str:
    name = " ".join(name.split())
    short = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 3]}..."
    return f"{short} {score:.2f}".strip()
