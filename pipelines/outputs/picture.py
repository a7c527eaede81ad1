"""Writing a picture: encoded in memory, since OpenCV cannot open every path, then put in place in one step."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
from numpy.typing import NDArray
from PIL import Image as Pil

from pipelines.errors import ImageError
from pipelines.files import replacing
from pipelines.frames import png_saying
from pipelines.outputs import Destination
from pipelines.types import Frame, UInt8

_LONGEST_SIDE = {".jpg": 65_500, ".png": 1_000_000}  # pixels, what libjpeg and libpng take


def write_picture(
    destination: Destination,
    path: Path,
    pixels: NDArray[Any],
    parameters: Sequence[int] = (),
    frame: Frame | None = None,
) -> None:
    """Write pixels, in OpenCV's channel order, in the format of the path's extension.

    parameters: OpenCV's; without them it favours speed. frame: of a PNG, which says it. Raises ImageError for a picture
    too large for the format.
    """
    _check_sides(path, pixels)
    written, encoded = cv2.imencode(path.suffix, pixels, parameters)
    if not written:
        height, width = pixels.shape[:2]
        raise ImageError(f"{width} x {height} pixels could not be encoded as {path.suffix}; was memory short?")
    with replacing(path, destination.scratch) as temporary:
        temporary.write_bytes(encoded.data if frame is None else png_saying(frame, encoded.tobytes()))


def write_indexed(
    destination: Destination, path: Path, indices: UInt8, palette: UInt8, frame: Frame | None = None
) -> None:
    """Write a PNG of H x W indices into a palette, 256 x 3 RGB: its values are the indices.

    Raises as `write_picture`.
    """
    _check_sides(path, indices)
    picture = Pil.fromarray(indices)
    picture.putpalette(palette.tobytes())
    encoded = BytesIO()
    picture.save(encoded, "PNG", compress_level=1)
    with replacing(path, destination.scratch) as temporary:
        temporary.write_bytes(png_saying(frame, encoded.getvalue()))


def _check_sides(path: Path, pixels: NDArray[Any]) -> None:
    height, width = pixels.shape[:2]
    longest = _LONGEST_SIDE[path.suffix]
    if max(height, width) > longest:
        raise ImageError(f"{width} x {height} pixels do not fit a {path.suffix}, whose sides end at {longest:,} pixels")
