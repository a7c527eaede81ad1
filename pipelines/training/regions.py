"""A photo and its masks, which stay encoded until they are used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL.PngImagePlugin import PngImageFile

from pipelines import coco, rle
from pipelines.errors import DataError, ImageError
from pipelines.images import MAX_PIXELS
from pipelines.images.annotated import load_annotated
from pipelines.images.load import load
from pipelines.images.needed import needed_of_png
from pipelines.images.sources import ImageSource
from pipelines.segmentations import to_rle
from pipelines.types import Bool, Frame, Image, UInt8

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class Region:
    """One mask of a photo, still encoded. segmentation: COCO polygons, an RLE dictionary (counts as text or a list), or
    a pair of PNG path and value; category_id: its class, 1 where there are none; crowd: it stands for many objects;
    entry: the file and the annotation that it stands in, for messages."""

    segmentation: Any
    category_id: int = 1
    crowd: bool = False
    entry: str = ""

    def decode(self, height: int, width: int) -> Bool:
        """height x width bool. Raises DataError when the segmentation is of another size, or not one at all."""
        if not isinstance(self.segmentation, tuple):
            return rle.decode(to_rle(self.segmentation, height, width))
        path, value = self.segmentation
        try:
            labels = read_labels(path)
        except OSError as error:
            raise DataError(f"a mask cannot be read: {error}") from error
        if labels.shape != (height, width):
            raise DataError(f"a mask is {labels.shape[1]} x {labels.shape[0]}, its photo {width} x {height}")
        return labels == value if value else labels > 0

    def size(self) -> tuple[int, int] | None:
        """Width and height of the mask, None where it has none of its own, or cannot be read."""
        try:
            if isinstance(self.segmentation, tuple):
                height, width = read_labels(self.segmentation[0]).shape
            else:
                height, width = self.segmentation["size"]
        except (TypeError, ValueError, LookupError, OSError):
            return None
        return width, height


@dataclass(frozen=True)
class Photo:
    """A photo and its masks, crowds included. path: of the photo, absolute or below the working directory; notes: see
    `pipelines.notes`. size (width, height), frame: as the annotations state them; file: what states them.
    """

    path: Path
    regions: tuple[Region, ...]
    notes: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    frame: Frame | None = None
    file: str = ""

    def image(self) -> Image:
        """In the frame of the annotations, see `pipelines.frames`, with the photo's notes. Raises DataError."""
        source, notes = ImageSource(self.path.name, str(self.path)), self.notes
        size = (self.regions[0].size() if self.regions else None) or self.size
        try:
            if not self.regions:
                return load(source, upright=False)
            image = load_annotated(source, self.frame, size, self.file)
        except ImageError as error:
            raise DataError(f"{self.path}: {error}") from error
        if size not in (None, (image.width, image.height)):
            notes += (f"photos are not of the sizes that {self.file} states",)
        return replace(image, notes=(*notes, *image.notes))

    def pixels(self) -> UInt8:
        """H x W x 3 uint8 RGB of `image`."""
        return self.image().pixels

    def mask(self, region: Region, height: int, width: int) -> Bool:
        """One of the photo's regions, height x width bool. Raises DataError that names its entry, or the photo."""
        with coco.named(region.entry or str(self.path)):
            return region.decode(height, width)


@lru_cache(maxsize=2)  # a photo's regions are read one by one
def read_labels(path: Path) -> UInt8:
    """A mask PNG's values, H x W; palette images give their indices. Raises OSError when it cannot be read."""
    with _plain_errors(path), path.open("rb") as file:
        picture = PngImageFile(needed_of_png(file, MAX_PIXELS).file, "")
        if picture.mode not in ("1", "L", "P", "I", "I;16"):
            raise OSError(f"{path} is a {picture.mode} image: a mask has one channel")
        return np.asarray(picture)


@contextmanager
def _plain_errors(path: Path) -> Iterator[None]:
    """Turn what Pillow raises for broken files into OSError."""
    try:
        yield
    except (ImageError, SyntaxError, ValueError) as error:
        raise OSError(f"{path} is no PNG that can be read: {error}") from error
