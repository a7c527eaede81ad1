"""The one loader: a path or URL from anyone, to RGB pixels or an ImageError that says what is wrong.

How an image becomes 8-bit RGB:
- EXIF orientation is applied; of several frames the first is taken; embedded colour profiles are not applied.
- Transparency (alpha, palette, colour key) is put on white. A band of a TIFF is alpha only where the file says so; any
  other band beside those of its colours is left out, which a note tells.
- Of more than 8 bits the high 8 are kept: of 16, 0..65535 becomes 0..255. Where a file says that fewer bits are in use
  (sBIT of PNG, MaxSampleValue of TIFF, the greatest value of a portable map) these count; where it says nothing, and
  no value is above 1/16 of what the bits can hold, a note tells.
- Signed, floating-point and 32-bit grey have no fixed range: the image's least finite value becomes 0 and its greatest
  255; what is not a number, and an image of one value, becomes 0.
- Grey, palette, 1-bit, CMYK, YCbCr and CIELAB go through plain conversions, in TIFF by what its tags say.
What the pixels do not need (texts, profiles, previews) may be damaged or missing; what they need may not, and what a
file holds that is no picture (bands without colours, floats in colours) is refused by what it is.
"""

from __future__ import annotations

import stat
from pathlib import Path
from typing import BinaryIO

from pipelines.errors import ImageError
from pipelines.images import MAX_PIXELS
from pipelines.images.download import downloaded
from pipelines.images.pillow import prepare_pillow, read_by_pillow
from pipelines.images.reasons import explained, one_line
from pipelines.images.sources import ImageSource
from pipelines.images.tiff import is_tiff, read_tiff
from pipelines.types import Frame, Image
from pipelines.urls import is_url


def load(source: ImageSource, *, max_pixels: int = MAX_PIXELS, timeout: float = 30, upright: bool = True) -> Image:
    """Read and decode one image, by the rules above. Its pixels are C-contiguous and read-only.

    max_pixels: the largest width x height that is decoded, known from the header. timeout: seconds that a URL's
    server may take to connect, and between two pieces of its answer, which may take MAX_DOWNLOAD_SECONDS in all.
    upright: whether EXIF orientation is applied; the annotations of data sets count in pixels as they are stored.
    `Image.orientation` is the file's own either way.
    Raises ImageError for whatever the file or the server holds, in one line without the image's name.
    """
    prepare_pillow(max_pixels)
    with _open(source.location, timeout) as file:
        try:
            decoded = (read_tiff if is_tiff(file) else read_by_pillow)(file, max_pixels)
            pixels = decoded.pixels(upright)
        except ImageError:
            raise
        except Exception as error:
            raise explained(error, "image", max_pixels) from error
    orientation = decoded.orientation
    frame: Frame | None = None if orientation == 1 else "upright" if upright else "stored"
    return Image(source.name, pixels, decoded.notes, orientation=orientation, frame=frame)


def _open(location: str, timeout: float) -> BinaryIO:
    if is_url(location):
        return downloaded(location, timeout)
    path = Path(location)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a device, pipe or socket"
            raise ImageError(f"{location!r} is {kind}, not an image file")
        if status.st_size == 0:
            raise ImageError("the file is empty (0 bytes)")
        return path.open("rb")
    except FileNotFoundError:
        raise ImageError(f"there is no file {location!r}") from None
    except PermissionError:
        raise ImageError(f"permission to read {location!r} is denied") from None
    except (OSError, ValueError) as error:
        raise ImageError(f"{location!r} cannot be read: {one_line(error)}") from error
