"""Augmentation of a photo and its masks: magnification and crop, flip, colour, instances pasted from another photo.

Everything draws from the generator it is given, so a sample depends on its seed alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pipelines.types import Bool, UInt8

_PASTED_SIDE = (0.12, 0.6)  # longest side of a pasted instance, as a share of the picture's


@dataclass(frozen=True)
class View:
    """A crop of a photo, resized into the top left corner of the network's square input, perhaps mirrored.

    x, y, crop_width, crop_height: the crop, pixels of the photo. width, height: its size in the input, pixels.
    """

    x: int
    y: int
    crop_width: int
    crop_height: int
    width: int
    height: int
    mirrored: bool

    def __call__(self, array: UInt8) -> UInt8:
        """H x W or H x W x 3 uint8 of the photo -> height x width of the view."""
        crop = array[self.y : self.y + self.crop_height, self.x : self.x + self.crop_width]
        shrinks = self.width < self.crop_width
        resized = cv2.resize(
            crop, (self.width, self.height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        )
        return np.ascontiguousarray(resized[:, ::-1] if self.mirrored else resized, np.uint8)


def draw_view(
    rng: np.random.Generator,
    shape: tuple[int, int],
    focus: tuple[int, int],
    size: int,
    scale: tuple[float, float],
    flip: float,
) -> View:
    """A random view of a photo of `shape` (height, width) that holds the pixel `focus` (x, y).

    scale: range of the magnification over fitting the whole photo into size x size, drawn log-uniformly.
    """
    height, width = shape
    zoom = float(np.exp(rng.uniform(*np.log(scale))))
    window = max(height, width) / zoom
    crop_width, crop_height = (max(1, min(side, round(window))) for side in (width, height))
    x, y = (
        int(rng.integers(max(0, at - crop + 1), min(side - crop, at) + 1))
        for at, crop, side in zip(focus, (crop_width, crop_height), (width, height), strict=True)
    )
    fit = size * min(zoom, 1.0) / max(crop_width, crop_height)
    out_width, out_height = (max(1, min(size, round(side * fit))) for side in (crop_width, crop_height))
    return View(x, y, crop_width, crop_height, out_width, out_height, bool(rng.random() < flip))


def change_colour(rng: np.random.Generator, pixels: UInt8) -> UInt8:
    """Random saturation (grey at times), brightness, contrast, gamma and tint. pixels: H x W x 3 uint8 RGB."""
    grey = cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    saturation = 0.0 if rng.random() < 0.1 else rng.uniform(0.5, 1.4)
    pixels = cv2.addWeighted(pixels, saturation, grey, 1 - saturation, 0).astype(np.uint8)
    ramp = np.linspace(0, 1, 256) ** np.exp(rng.uniform(-0.35, 0.35))
    contrast, brightness = rng.uniform(0.7, 1.3), rng.uniform(-0.15, 0.15)
    tint = rng.uniform(0.9, 1.1, 3)
    table = ((ramp[:, None] - 0.5) * contrast + 0.5 + brightness) * tint
    return np.asarray(cv2.LUT(pixels, (table.clip(0, 1) * 255).astype(np.uint8)[None]), np.uint8)


def cut_out(pixels: UInt8, mask: Bool) -> tuple[UInt8, UInt8]:
    """The pixels under the mask's bounding box, and the mask there (0 or 255). The mask must not be empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return pixels[box], mask[box].astype(np.uint8) * 255


def paste(
    rng: np.random.Generator, pixels: UInt8, masks: list[UInt8], part: UInt8, shape: UInt8
) -> tuple[UInt8, list[UInt8]]:
    """Copy-paste (arXiv 2012.07177): put an instance onto a picture, at a random size and place, in front.

    pixels: H x W x 3; masks: H x W each, 0 to 255; part and shape: the instance, as from `cut_out`. Returns the new
    picture and the masks, with what the instance hides taken away, and the instance's own mask last.
    """
    height, width = pixels.shape[:2]
    target = max(height, width) * np.exp(rng.uniform(*np.log(_PASTED_SIDE)))
    fit = min(target / max(shape.shape), height / shape.shape[0], width / shape.shape[1])
    w, h = max(1, round(shape.shape[1] * fit)), max(1, round(shape.shape[0] * fit))
    interpolation = cv2.INTER_AREA if fit < 1 else cv2.INTER_LINEAR
    part = cv2.resize(part, (w, h), interpolation=interpolation).astype(np.uint8)
    shape = cv2.resize(shape, (w, h), interpolation=interpolation).astype(np.uint8)
    if rng.random() < 0.5:
        part, shape = part[:, ::-1], shape[:, ::-1]
    x, y = int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1))
    at = slice(y, y + h), slice(x, x + w)
    cover = shape.astype(np.float32)[..., None] / 255
    picture = pixels.copy()
    picture[at] = (picture[at] * (1 - cover) + part * cover + 0.5).astype(np.uint8)
    own = np.zeros((height, width), np.uint8)
    own[at] = shape
    return picture, [*(np.minimum(mask, 255 - own) for mask in masks), own]
