"""In which frame a file counts the pixels of a photo that EXIF turns: as they are stored, or upright.

evsam counts upright and says so in what it writes: `"frame": "upright"` beside an image's name, wherever the two
differ; PNG masks say it in their text. A file may say it once for all of its images, under "info". Of files that say
nothing, the sizes they state tell as much as they can; the rest is assumed, and noted.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args
from zlib import crc32

import numpy as np

from pipelines.types import Float32, Frame, Image

_OTHER: Mapping[Frame, Frame] = {"stored": "upright", "upright": "stored"}
_BACK = {6: 8, 8: 6}
"""The orientations that the way back from upright is; all others undo themselves."""


def stated(entry: Any, document: Any = None) -> Frame | None:
    """What an image's entry says, or else the document, under "info"; None where neither does."""
    for said in (entry, document.get("info") if isinstance(document, dict) else None):
        if isinstance(said, dict) and said.get("frame") in get_args(Frame):
            frame: Frame = said["frame"]
            return frame
    return None


_HEADER = 33
"""Bytes of a PNG's signature and of its first chunk; what it says of its frame comes next."""


def png_saying(frame: Frame | None, png: bytes) -> bytes:
    """A PNG file that also says in which frame its pixels are, in its text; as it is where there is but one frame."""
    if frame is None:
        return png
    text = b"tEXtframe\0" + frame.encode("ascii")
    return png[:_HEADER] + struct.pack(">I", len(text) - 4) + text + struct.pack(">I", crc32(text)) + png[_HEADER:]


def said_by_png(path: Path) -> Frame | None:
    """What `png_saying` put into a file, None where it says nothing. Raises OSError."""
    with path.open("rb") as file:
        text = file.read(_HEADER + 30)[_HEADER + 4 :]
    return next((frame for frame in _OTHER if text.startswith(b"tEXtframe\0" + frame.encode("ascii"))), None)


def unsaid(file: str, assumed: Frame) -> str:
    """The note on a photo that EXIF turns when nothing tells the frame of its annotations or boxes."""
    other = _OTHER[assumed]
    return (
        f"{file} does not say whether it counts in {assumed} or in {other} pixels of photos that EXIF turns: taken as "
        f'{assumed} ones ("frame": "{other}" in its images would say otherwise)'
    )


def frame_of_size(image: Image, size: tuple[int, int] | None) -> Frame | None:
    """The only frame in which the photo is of that width and height, None where there is not one."""
    own, other = (image.width, image.height), size_in_other(image)
    if image.frame is None or own == other or size not in (own, other):
        return None
    return image.frame if size == own else _OTHER[image.frame]


def size_in_other(image: Image) -> tuple[int, int]:
    """Width and height in the other frame than its own."""
    return (image.height, image.width) if image.orientation >= 5 else (image.width, image.height)


def boxes_from(frame: Frame | None, boxes: Float32, image: Image) -> Float32:
    """N x 4 xyxy pixels, counted in a frame -> in the image's own; None is its own."""
    if frame is None or image.frame in (None, frame):
        return boxes
    width, height = size_in_other(image)
    orientation = image.orientation if frame == "stored" else _BACK.get(image.orientation, image.orientation)
    return _TURNED[orientation](boxes, width, height)


def _flipped(boxes: Float32, width: int | None, height: int | None) -> Float32:
    """Mirrored in a width, and in a height."""
    x1, y1, x2, y2 = boxes.T
    if width is not None:
        x1, x2 = width - x2, width - x1
    if height is not None:
        y1, y2 = height - y2, height - y1
    return np.stack([x1, y1, x2, y2], axis=1).astype(np.float32)


def _swapped(boxes: Float32) -> Float32:
    """Mirrored at the diagonal from the top left."""
    return boxes[:, [1, 0, 3, 2]]


_TURNED: Mapping[int, Callable[[Float32, int, int], Float32]] = {
    2: lambda boxes, width, height: _flipped(boxes, width, None),
    3: lambda boxes, width, height: _flipped(boxes, width, height),
    4: lambda boxes, width, height: _flipped(boxes, None, height),
    5: lambda boxes, width, height: _swapped(boxes),
    6: lambda boxes, width, height: _swapped(_flipped(boxes, None, height)),
    7: lambda boxes, width, height: _swapped(_flipped(boxes, width, height)),
    8: lambda boxes, width, height: _swapped(_flipped(boxes, width, None)),
}
"""By EXIF orientation: xyxy boxes in stored pixels, and the stored width and height -> the boxes upright."""
