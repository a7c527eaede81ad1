"""The only place that converts between box formats.

xyxy: left, top, right, bottom. xywh: left, top, width, height (COCO). cxcywh: centre, width, height.
A `-normalised` format counts in shares of the image's width and height; the others in its pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from pipelines.errors import DataError
from pipelines.types import Float32


def _from_xyxy(b: Float32) -> Float32:
    return b


def _from_xywh(b: Float32) -> Float32:
    return np.concatenate([b[:, :2], b[:, :2] + b[:, 2:]], axis=1)


def _from_cxcywh(b: Float32) -> Float32:
    half = b[:, 2:] / 2
    return np.concatenate([b[:, :2] - half, b[:, :2] + half], axis=1)


_TO_XYXY: dict[str, Callable[[Float32], Float32]] = {
    "xyxy": _from_xyxy,
    "xywh": _from_xywh,
    "cxcywh": _from_cxcywh,
}
BOX_FORMATS = (*_TO_XYXY, *(f"{name}-normalised" for name in _TO_XYXY))


def to_xyxy(boxes: ArrayLike, box_format: str, *, width: int, height: int) -> Float32:
    """Convert N x 4 boxes of `box_format` to xyxy float32 pixels of a width x height image.

    Raises DataError when a box is not four finite numbers, is empty or upside down, or when boxes declared
    normalised hold pixels (values above 2) — the usual sign of the wrong format.
    """
    name, _, normalised = box_format.partition("-")
    array = np.asarray(boxes, dtype=np.float32).reshape(-1, 4) if np.size(boxes) else np.zeros((0, 4), np.float32)
    if not np.isfinite(array).all():
        raise DataError(f"box {int(np.argmin(np.isfinite(array).all(1)))} holds a value that is not a finite number")
    if normalised:
        if array.size and np.abs(array).max() > 2:
            raise DataError(f"boxes are declared {box_format} (0 to 1) but reach {np.abs(array).max():g}: are they pixels?")
        array = array * np.array([width, height, width, height], np.float32)
    xyxy = _TO_XYXY[name](array).astype(np.float32)
    bad = (xyxy[:, 2] <= xyxy[:, 0]) | (xyxy[:, 3] <= xyxy[:, 1])
    if bad.any():
        index = int(np.argmax(bad))
        raise DataError(
            f"box {index} ({', '.join(f'{v:g}' for v in array[index])}) has no area when read as {box_format}: "
            "is the box format right?"
        )
    return xyxy


def xyxy_to_xywh(boxes: Float32) -> Float32:
    """N x 4 xyxy -> N x 4 xywh, same frame."""
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def clip(boxes: Float32, *, width: int, height: int) -> Float32:
    """Clip N x 4 xyxy boxes to the image."""
    return boxes.clip(0, np.array([width, height, width, height], np.float32))
