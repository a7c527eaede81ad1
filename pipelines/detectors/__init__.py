"""Where boxes come from. A row is one file of this folder; every detector gives boxes in the original image's frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pipelines.types import Category, Detections, Image


class Detector(Protocol):
    """Boxes for images. `categories` are all classes it can name; `batch` is how many images it likes at once."""

    categories: tuple[Category, ...]

    def __call__(self, images: Sequence[Image]) -> list[Detections]:
        """One Detections per image, best score first, category ids from `categories`."""
