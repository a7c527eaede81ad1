"""Labels on a picture, each beside its box, where there is room for them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import ceil

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipelines.types import Int64, UInt8

Colour = tuple[int, int, int]

_SIZES = 14, 11  # pixels of text in a picture of 640 x 640; the second for boxes narrower than their label
_LEAST_SIZE = 9
_MOST_COVERED = 0.15  # of the picture, by all labels together


def draw_labels(
    canvas: UInt8, boxes: Int64, texts: Sequence[str], colours: Sequence[Colour], order: Sequence[int], scale: float
) -> None:
    """Draw on `canvas` (H x W x 3) a label for each of N xyxy boxes, those first in `order` first.

    colours: the grounds of the texts. scale: of the text, 1 for a picture of 640 x 640. A box too small or too crowded
    for its label has none; where all labels together would bury the picture, no box has one.
    """
    fonts = [_font(max(_LEAST_SIZE, round(size * scale))) for size in _SIZES]
    room = _MOST_COVERED * canvas.shape[0] * canvas.shape[1]
    if sum(width * height for width, height in (_size(text, fonts[-1]) for text in texts)) > room:
        return
    placed = np.zeros((0, 4), np.int64)
    for i in order:
        wide = _size(texts[i], fonts[0])[0] <= boxes[i, 2] - boxes[i, 0]
        for font in fonts if wide else fonts[1:]:
            width, height = _size(texts[i], font)
            place = _place(width, height, boxes[i], boxes, placed, canvas) if width * height <= room else None
            if place is not None:
                x, y = place
                canvas[y : y + height, x : x + width] = _text_picture(texts[i], font, colours[i], width, height)
                placed = np.concatenate([placed, [[x, y, x + width, y + height]]])
                room -= width * height
                break


def overlap(a: Int64, b: Int64) -> Int64:
    """Pixels shared by each of A xyxy boxes with each of B: A x B."""
    sides = np.minimum(a[:, None, 2:], b[:, 2:]) - np.maximum(a[:, None, :2], b[:, :2])
    shared: Int64 = sides.clip(0).prod(axis=2)
    return shared


def _place(width: int, height: int, box: Int64, boxes: Int64, placed: Int64, canvas: UInt8) -> tuple[int, int] | None:
    """The left and top of a label of this size, None when there is no room.

    On top of its box, else inside its head, under it, inside its foot: the first place, moved into the picture, that
    meets no label placed before and covers at most half of any box.
    """
    farthest = canvas.shape[1] - width, canvas.shape[0] - height
    if min(farthest) < 0:
        return None
    x1, y1, x2, y2 = box.tolist()
    corners = np.array([(x1, y1 - height), (x2 - width, y1 - height), (x1, y1), (x1, y2), (x1, y2 - height)])
    corners = corners.clip(0, farthest)
    labels = np.concatenate([corners, corners + np.array([width, height])], axis=1)
    clashes = (overlap(labels, placed) > 0).any(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    hides = (2 * overlap(labels, boxes) > areas).any(axis=1)
    good = corners[~clashes & ~hides].tolist()
    return (good[0][0], good[0][1]) if good else None


@lru_cache(16)
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


def _size(text: str, font: ImageFont.FreeTypeFont) -> tuple[int, int]:
    """Width and height of a label."""
    ascent, descent = font.getmetrics()
    return ceil(font.getlength(text)) + 2 * _margin(font), ascent + descent + 2


def _margin(font: ImageFont.FreeTypeFont) -> int:
    return max(2, round(font.size / 4))


def _text_picture(text: str, font: ImageFont.FreeTypeFont, colour: Colour, width: int, height: int) -> UInt8:
    """height x width x 3: the text on a ground of the colour, black or white, whichever is easier to read."""
    picture = Image.new("RGB", (width, height), colour)
    ink = "black" if _luminance(colour) > 0.18 else "white"
    ImageDraw.Draw(picture).text((_margin(font), 1), text, fill=ink, font=font)
    return np.asarray(picture)


def _luminance(colour: Colour) -> float:
    """Relative luminance, 0 to 1, as WCAG 2 defines it; above 0.18 black has the better contrast."""
    red, green, blue = ((value / 255 + 0.055) ** 2.4 / 1.055**2.4 if value > 10 else value / 3294.6 for value in colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
