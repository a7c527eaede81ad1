"""Writing a picture: encoded in memory, since OpenCV cannot open every path, then put in place in one step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
from numpy.typing import NDArray

from pipelines.errors import ImageError
from pipelines.files import replacing
from pipelines.frames import png_saying
from pipelines.outputs import Destination
from pipelines.types import Frame

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
    height, width = pixels.shape[:2]
    longest = _LONGEST_SIDE[path.suffix]
    if max(height, width) > longest:
        raise ImageError(f"{width} x {height} pixels do not fit a {path.suffix}, whose sides end at {longest:,} pixels")
    written, encoded = cv2.imencode(path.suffix, pixels, parameters)
    if not written:
        raise ImageError(f"{width} x {height} pixels could not be encoded as {path.suffix}; was memory short?")
    with replacing(path, destination.scratch) as temporary:
        temporary.write_bytes(encoded.data if frame is None else png_saying(frame, encoded.tobytes()))
