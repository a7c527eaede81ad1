"""Masks as PNG files: all of an image's instances in one picture, one picture per object, or the objects cut out.

The instances of an image are numbered in record order, from 0.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from pipelines.errors import ImageError
from pipelines.outputs import Destination, Output
from pipelines.outputs.picture import write_picture
from pipelines.rle import decode_region, large_first
from pipelines.types import Image, Instances, Rle

_MOST_IDS = 2**16 - 1
_NAME_BYTES = 100
_OBJECT_FILES = "[0-9][0-9][0-9]*_*.png"


@dataclass(frozen=True)
class InstanceIds(Output):
    """`ids/<image>.png`, 16 bits: 0 is background, i + 1 is instance i; where masks overlap, the smaller one shows."""

    files = ("ids",)
    of_image = ("ids/{}.png",)

    def write(self, image: Image, instances: Instances) -> None:
        """Raises ImageError for more instances than 16 bits can tell apart."""
        if len(instances) > _MOST_IDS:
            raise ImageError(
                f"{len(instances):,} instances are more than the {_MOST_IDS:,} that a 16-bit PNG can number; "
                "save something other than ids"
            )
        ids = np.zeros((image.height, image.width), np.uint16)
        for i in large_first(instances.masks.rles):
            mask, x0, y0 = decode_region(instances.masks.rles[i])
            ids[y0 : y0 + mask.shape[0], x0 : x0 + mask.shape[1]][mask] = i + 1
        write_picture(self.destination, self.destination.path("ids", f"{image.name}.png"), ids, frame=image.frame)


@dataclass(frozen=True)
class Objects(Output):
    """`objects/<image>/<i>_<category>.png`, 8 bits, the size of the image: 255 on the object, 0 off it."""

    files = ("objects",)
    of_image = (f"objects/{{}}/{_OBJECT_FILES}",)

    def write(self, image: Image, instances: Instances) -> None:
        self.remove(image.name)
        for path, rle in _own_files(self.destination, "objects", image, instances):
            mask, x0, y0 = decode_region(rle)
            pixels = np.zeros((image.height, image.width), np.uint8)
            pixels[y0 : y0 + mask.shape[0], x0 : x0 + mask.shape[1]][mask] = 255
            write_picture(self.destination, path, pixels, frame=image.frame)


@dataclass(frozen=True)
class Cutouts(Output):
    """`cutouts/<image>/<i>_<category>.png`, RGBA, the size of the object: its own colours, nothing around it.

    A mask without pixels has no cut-out; its number is left out.
    """

    files = ("cutouts",)
    of_image = (f"cutouts/{{}}/{_OBJECT_FILES}",)

    def write(self, image: Image, instances: Instances) -> None:
        self.remove(image.name)
        for path, rle in _own_files(self.destination, "cutouts", image, instances):
            mask, x0, y0 = decode_region(rle)
            if mask.size:
                around = image.pixels[y0 : y0 + mask.shape[0], x0 : x0 + mask.shape[1]]
                pixels = cv2.copyTo(cv2.cvtColor(around, cv2.COLOR_RGB2BGRA), mask.view(np.uint8))
                write_picture(self.destination, path, pixels)


def _own_files(destination: Destination, kind: str, image: Image, instances: Instances) -> Iterator[tuple[Path, Rle]]:
    """Each object's path and mask."""
    folder = destination.path(kind, image.name)
    for i, (rle, category) in enumerate(zip(instances.masks.rles, instances.detections.category_ids, strict=True)):
        yield folder / f"{i:03d}_{_safe(destination.categories[int(category)].name)}.png", rle


def _safe(name: str) -> str:
    """A category's name as part of a file name: letters, marks and digits of any script, anything else is `_`."""
    kept = (character if unicodedata.category(character)[0] in "LMN" else "_" for character in name)
    return "".join(kept).encode()[:_NAME_BYTES].decode(errors="ignore") or "unnamed"
