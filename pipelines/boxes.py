"""The only place that converts between box formats.

xyxy: left, top, right, bottom. xywh: left, top, width, height (COCO). cxcywh: centre, width, height.
A `-normalised` format counts in shares of the image's width and height; the others in its pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from pipelines.errors import DataError, UnknownNameError
from pipelines.types import Bool, Float32


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


def to_xyxy(
    boxes: ArrayLike,
    box_format: str,
    *,
    width: int,
    height: int,
    allow_empty: bool = False,
    name_box: Callable[[int], str] = "box {}".format,
) -> Float32:
    """Convert N x 4 boxes of `box_format` to xyxy float32 pixels of a width x height image.

    allow_empty: let boxes without area pass, for files that hold a few. name_box: how an error calls box i.
    Raises UnknownNameError for the format, and DataError when a box is not four finite numbers, is empty or upside
    down, or when boxes declared normalised hold pixels (values above 2), the usual sign of the wrong format.
    """
    if box_format not in BOX_FORMATS:
        raise UnknownNameError("box format", box_format, list(BOX_FORMATS))
    layout, _, normalised = box_format.partition("-")
    with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold becomes infinite, refused below
        given = np.asarray(boxes, dtype=np.float32).reshape(-1, 4) if np.size(boxes) else np.zeros((0, 4), np.float32)
        scale = np.array([width, height, width, height] if normalised else 1, np.float32)
        xyxy = _TO_XYXY[layout](given * scale).astype(np.float32)

    def refuse(bad: ArrayLike, why: str) -> None:
        for index in map(int, np.flatnonzero(bad)[:1]):
            raise DataError(f"{name_box(index)} ({', '.join(f'{v:g}' for v in given[index])}) {why}")

    refuse(~np.isfinite(xyxy).all(axis=1), "holds a value that is not a finite number")
    if normalised:
        refuse((np.abs(given) > 2).any(axis=1), f"is declared {box_format} (0 to 1): are these pixels?")
    top_left, bottom_right = xyxy[:, :2], xyxy[:, 2:]
    bad = bottom_right < top_left if allow_empty else bottom_right <= top_left
    refuse(bad.any(axis=1), f"has no area when read as {box_format}: is the box format right?")
    return xyxy


def xyxy_to_xywh(boxes: Float32) -> Float32:
    """N x 4 xyxy -> N x 4 xywh, same frame."""
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def clip(boxes: Float32, *, width: int, height: int) -> Float32:
    """Clip N x 4 xyxy boxes to the image. A box wholly outside it ends up without area."""
    return boxes.clip(0, np.array([width, height, width, height], np.float32))


def has_area(boxes: Float32) -> Bool:
    """Which of N x 4 xyxy boxes cover anything: N bool."""
    covers: Bool = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return covers
