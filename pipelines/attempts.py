"""Work on images that a machine's memory, or a network's numbers, may not be up to: an image fails, and never a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import cv2

from pipelines.errors import ImageError
from pipelines.memory import out_of_memory
from pipelines.types import Image

T = TypeVar("T")
R = TypeVar("R")

FAULTS = (ImageError, RuntimeError, MemoryError, cv2.error)
"""What work on an image raises when it fails, among others that `failure` raises again."""


def failure(image: Image, error: Exception, more: str = "") -> ImageError:
    """Why the image failed. error: one of FAULTS. Raises it when it is neither an ImageError nor of memory.

    more: what the reason says last when memory ran out.
    """
    if isinstance(error, ImageError):
        return ImageError(str(error))  # without what the other holds on to: where it was raised, and all that was there
    if not out_of_memory(error):
        raise error
    return ImageError(f"out of memory at {image.width} x {image.height} pixels{more}")


def together_or_alone(
    work: Callable[[Sequence[T]], Sequence[R]], items: Sequence[T], image: Callable[[T], Image], more: str = ""
) -> list[R | ImageError]:
    """What `work` makes of each item, or why its image failed: all at once, and when that fails, each alone.

    image: the one that an item is of; more: see `failure`.
    """
    if not items:
        return []
    try:
        return list(work(items))
    except FAULTS as error:
        fault = failure(image(items[0]), error, more)
    if len(items) == 1:
        return [fault]
    return [result for item in items for result in together_or_alone(work, [item], image, more)]
