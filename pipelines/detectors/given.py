"""No detector at all: boxes and points that the user gives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipelines.boxes import clip, has_area, to_xyxy
from pipelines.categories import OBJECT
from pipelines.errors import ImageError, UsageError
from pipelines.limits import LARGE
from pipelines.types import Detections, Image, Points


class Given:
    """The same boxes for every image, all of category "object", with score 1."""

    categories = (OBJECT,)
    batch = 1

    def __init__(self, boxes: Sequence[tuple[float, float, float, float]]) -> None:
        """boxes: xyxy pixels. Raises DataError for a box without area."""
        self._boxes = to_xyxy(boxes, "xyxy", width=1, height=1)

    def __call__(self, images: Sequence[Image]) -> list[Detections]:
        """The boxes clipped to each image, in the order given. Raises ImageError when one lies outside the image."""
        return [self._detections(image) for image in images]

    def _detections(self, image: Image) -> Detections:
        boxes = clip(self._boxes, width=image.width, height=image.height)
        outside = ~has_area(boxes)
        if outside.any():
            box = ",".join(f"{value:g}" for value in self._boxes[outside][0])
            raise ImageError(f"the box {box} lies outside the image, which is {image.width} x {image.height}")
        count = len(boxes)
        return Detections(boxes, np.ones(count, np.float32), np.full(count, OBJECT.id, np.int64))


class GivenClicks:
    """The same clicks for every image; together they name one object."""

    categories = (OBJECT,)
    batch = 1

    def __init__(self, points: Sequence[tuple[float, float, int]]) -> None:
        """points: (x, y, label), pixels."""
        self._points = np.array([point[:2] for point in points], np.float32)
        self._labels = np.array([point[2] for point in points], np.int64)

    def __call__(self, images: Sequence[Image]) -> list[Points]:
        """The clicks, for each image. Raises ImageError when one lies outside the image."""
        for image in images:
            outside = (self._points < 0).any(1) | (self._points >= [image.width, image.height]).any(1)
            if outside.any():
                x, y = self._points[outside][0]
                raise ImageError(
                    f"the point {x:g},{y:g} lies outside the image, which is {image.width} x {image.height}"
                )
        return [Points(self._points, self._labels)] * len(images)


def parse_box(text: str) -> tuple[float, float, float, float]:
    """`"x1,y1,x2,y2"` in pixels. Raises UsageError when it is anything else, or a box without area."""
    numbers = _numbers(text)
    if len(numbers) != 4:
        raise UsageError(f"{text!r} is not a box: give four numbers, x1,y1,x2,y2 in pixels")
    x1, y1, x2, y2 = numbers
    if x2 <= x1 or y2 <= y1:
        raise UsageError(f"the box {text!r} has no area: give x1,y1,x2,y2 with x1 < x2 and y1 < y2")
    return x1, y1, x2, y2


def parse_point(text: str) -> tuple[float, float, int]:
    """`"x,y"` or `"x,y,label"` in pixels; label 1 = on the object (the default), 0 = off it.

    Raises UsageError when it is anything else.
    """
    numbers = _numbers(text)
    if len(numbers) not in (2, 3) or (len(numbers) == 3 and numbers[2] not in (0, 1)):
        raise UsageError(
            f"{text!r} is not a point: give x,y in pixels, or x,y,label with label 1 (on it) or 0 (off it)"
        )
    label = int(numbers[2]) if len(numbers) == 3 else 1
    return numbers[0], numbers[1], label


def _numbers(text: str) -> list[float]:
    """The numbers of a comma-separated list; empty when one of them is none, or too large for a picture."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        return []
    return numbers if all(abs(number) <= LARGE for number in numbers) else []
