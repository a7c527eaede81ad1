"""Objects as small pictures: where mask and truth agree, what is missing, what is too much."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from pipelines import rle
from pipelines.errors import ImageError
from pipelines.evaluation.annotations import GroundTruth
from pipelines.evaluation.miou import ObjectScore
from pipelines.evaluation.photos import Photos
from pipelines.types import Bool, Image, Rle, UInt8

AGREES, MISSING, SURPLUS = (0, 158, 115), (204, 60, 160), (230, 159, 0)
"""Colours (RGB) of pixels in both masks, in the truth alone and in the prediction alone; told apart by the
colour-blind too (after Okabe and Ito, "Color Universal Design", 2008)."""
_SIDE = 220
_MARGIN = 0.2
_TINT = 0.45


def picture_urls(truth: GroundTruth, photos: Photos, scored: Sequence[ObjectScore]) -> Mapping[int, str]:
    """Object id -> `data:` URL of a JPEG, of those whose image can be read. Each image is read once."""
    by_image: dict[int, dict[int, ObjectScore]] = {}
    for one in scored:
        by_image.setdefault(one.image_id, {})[one.object.id] = one
    urls: dict[int, str] = {}
    for image_id, objects in by_image.items():
        try:
            image = photos.load(truth.images[image_id])
        except ImageError:
            continue
        urls |= {id: _url(draw_object(image, one.object.rle, one.mask)) for id, one in objects.items()}
    return urls


def draw_object(image: Image, truth: Rle, mask: Rle) -> UInt8:
    """The part of the image around both masks, h x w x 3 RGB, at most 220 pixels on a side.

    Pixels are tinted `AGREES`, `MISSING` or `SURPLUS`; a white line runs around the truth.
    """
    x0, y0, x1, y1 = _window(image, truth, mask)
    wanted, given = (rle.decode(shape)[y0:y1, x0:x1] for shape in (truth, mask))
    scale = _SIDE / max(x1 - x0, y1 - y0)
    size = max(1, round((x1 - x0) * scale)), max(1, round((y1 - y0) * scale))
    shrink = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    canvas = np.asarray(cv2.resize(image.pixels[y0:y1, x0:x1], size, interpolation=shrink), np.uint8)
    wanted, given = _resize(wanted, size), _resize(given, size)
    for colour, region in ((AGREES, wanted & given), (MISSING, wanted & ~given), (SURPLUS, given & ~wanted)):
        canvas[region] = (canvas[region] * (1 - _TINT) + np.array(colour) * _TINT).astype(np.uint8)
    outline, _ = cv2.findContours(wanted.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(canvas, outline, -1, (255, 255, 255), 1, cv2.LINE_AA)
    return canvas


def _window(image: Image, truth: Rle, mask: Rle) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 of what is shown: both masks and some of what is around them, not less than 32 pixels."""
    boxes = [rle.bbox(shape) for shape in (truth, mask) if rle.area(shape)] or [[0, 0, image.width, image.height]]
    left, top = min(box[0] for box in boxes), min(box[1] for box in boxes)
    right, bottom = max(box[0] + box[2] for box in boxes), max(box[1] + box[3] for box in boxes)
    margin = max(_MARGIN * max(right - left, bottom - top), (32 - max(right - left, bottom - top)) / 2)
    return (
        max(0, int(left - margin)),
        max(0, int(top - margin)),
        min(image.width, int(right + margin) + 1),
        min(image.height, int(bottom + margin) + 1),
    )


def _resize(mask: Bool, size: tuple[int, int]) -> Bool:
    resized: Bool = np.asarray(cv2.resize(mask.view(np.uint8), size, interpolation=cv2.INTER_NEAREST)).astype(bool)
    return resized


def _url(pixels: UInt8) -> str:
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 82])
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode('ascii')}"
