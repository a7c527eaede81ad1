"""Photos in the size that training needs, decoded once where memory allows it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from pipelines.training.regions import Photo
from pipelines.types import UInt8


class PhotoCache:
    """Decoded photos, shrunk to at most `side` pixels, kept until `budget` bytes are full. told: notes of photos that
    were read, each with the photo's name, until somebody takes them out."""

    def __init__(self, side: int, budget: float) -> None:
        self.side = side
        self.told: list[tuple[str, str]] = []
        self._left = budget
        self._kept: dict[Path, tuple[UInt8, tuple[int, int]]] = {}

    def __call__(self, photo: Photo) -> tuple[UInt8, tuple[int, int]]:
        """The photo's pixels, at most `side` long, and its original height and width."""
        if photo.path in self._kept:
            return self._kept[photo.path]
        image = photo.image()
        self.told += [(note, image.name) for note in image.notes]
        pixels = image.pixels
        height, width = pixels.shape[:2]
        fit = self.side / max(height, width)
        if fit < 1:
            small = (max(1, round(width * fit)), max(1, round(height * fit)))
            pixels = cv2.resize(pixels, small, interpolation=cv2.INTER_AREA).astype(np.uint8)
        if pixels.nbytes <= self._left:
            self._left -= pixels.nbytes
            self._kept[photo.path] = pixels, (height, width)
        return pixels, (height, width)
