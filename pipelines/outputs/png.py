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
from numpy.typing import NDArray

from pipelines.errors import ImageError
from pipelines.outputs import Destination, Output
from pipelines.outputs.picture import write_indexed, write_picture
from pipelines.rle import decode_region, large_first
from pipelines.types import Frame, Image, Instances, Rle, UInt8

UInt16 = NDArray[np.uint16]


def _voc_palette() -> UInt8:
    """256 x 3 RGB, all distinct, 0 black: every third bit of the number, the lowest the highest of its channel."""
    bits = np.arange(256)[:, None] >> np.arange(8) & 1
    channels = [
        sum(bits[:, channel + 3 * place] << (7 - place) for place in range((10 - channel) // 3)) for channel in range(3)
    ]
    return np.stack(channels, axis=1).astype(np.uint8)


VOC_PALETTE = _voc_palette()
"""The colours of label maps in the PASCAL VOC development kit (VOClabelcolormap)."""
_MOST_IDS = 2**16 - 1
_NAME_BYTES = 100
_OBJECT_FILES = "[0-9][0-9][0-9]*_*.png"


@dataclass(frozen=True)
class InstanceIds(Output):
    """`ids/<stem>.png`: 0 is background, i + 1 is instance i; where masks overlap, the smaller one shows.

    8 bits with PASCAL VOC's palette, in which viewers show a colour for each id; for more than 255 instances 16 bits.
    """

    of_image = ("ids/{}.png",)

    def write(self, image: Image, instances: Instances) -> None:
        """Raises ImageError for more instances than 16 bits can tell apart."""
        ids = numbered(image, instances, "ids")
        path = self.destination.path("ids", f"{self.destination.stem(image.name)}.png")
        write_ids(self.destination, path, ids, image.frame, most=len(instances))


def numbered(image: Image, instances: Instances, kind: str) -> UInt16:
    """H x W: in each pixel the number of the smallest instance there, from 1, or 0.

    Raises ImageError for more instances than 16 bits can tell apart. kind: the output that asks.
    """
    if len(instances) > _MOST_IDS:
        raise ImageError(
            f"{len(instances):,} instances are more than the {_MOST_IDS:,} that a 16-bit PNG can number; "
            f"save something other than {kind}"
        )
    ids = np.zeros((image.height, image.width), np.uint16)
    for i in large_first(instances.rles):
        mask, x0, y0 = decode_region(instances.rles[i])
        ids[y0 : y0 + mask.shape[0], x0 : x0 + mask.shape[1]][mask] = i + 1
    return ids


def write_ids(
    destination: Destination, path: Path, ids: UInt16, frame: Frame | None, most: int, greatest: int = 255
) -> None:
    """Write a PNG of numbers up to `most`: of 8 bits with a palette, but where they are above `greatest` of 16 bits."""
    if most <= greatest:
        write_indexed(destination, path, ids.astype(np.uint8), VOC_PALETTE, frame=frame)
    else:
        write_picture(destination, path, ids, frame=frame)


@dataclass(frozen=True)
class Objects(Output):
    """`objects/<stem>/<i>_<category>.png`, 8 bits, the size of the image: 255 on the object, 0 off it."""

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
    """`cutouts/<stem>/<i>_<category>.png`, RGBA, the size of the object: its own colours, nothing around it.

    A mask without pixels has no cut-out; its number is left out.
    """

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
    folder = destination.path(kind, destination.stem(image.name))
    for i, (rle, category) in enumerate(zip(instances.rles, instances.detections.category_ids, strict=True)):
        yield folder / f"{i:03d}_{_safe(destination.categories[int(category)].name)}.png", rle


def _safe(name: str) -> str:
    """A category's name as part of a file name: letters, marks and digits of any script, anything else is `_`."""
    kept = (character if unicodedata.category(character)[0] in "LMN" else "_" for character in name)
    return "".join(kept).encode()[:_NAME_BYTES].decode(errors="ignore") or "unnamed"
