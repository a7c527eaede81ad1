"""How large a photo is, from the head of its file alone."""

from __future__ import annotations

import stat
from pathlib import Path

import PIL.ExifTags
import PIL.Image

from pipelines.errors import ImageError
from pipelines.images import MAX_PIXELS
from pipelines.images.pillow import prepare_pillow
from pipelines.images.pixels import known_orientation
from pipelines.images.reasons import explained
from pipelines.images.sources import IMAGE_EXTENSIONS

_TURNING = (5, 6, 7, 8)
"""EXIF orientations that swap width and height."""


def upright_size(path: Path) -> tuple[int, int]:
    """Width and height of a photo as EXIF turns it. Raises ImageError."""
    prepare_pillow(MAX_PIXELS)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ImageError(f"{path} is no file")
        with path.open("rb") as file:
            start = file.read(64)
            for name in dict.fromkeys(IMAGE_EXTENSIONS.values()):
                if name not in PIL.Image.OPEN:
                    continue
                factory, accept = PIL.Image.OPEN[name]  # not `PIL.Image.open`, which ultralytics replaces
                if accept is None or accept(start) is not True:
                    continue
                file.seek(0)
                with factory(file, "") as picture:
                    orientation = known_orientation(picture.getexif().get(PIL.ExifTags.Base.Orientation))
                    width, height = picture.size
                return (height, width) if orientation in _TURNING else (width, height)
    except ImageError:
        raise
    except Exception as error:
        raise explained(error, "image", MAX_PIXELS) from error
    raise ImageError(f"{path} is none of the images that evsam reads")
