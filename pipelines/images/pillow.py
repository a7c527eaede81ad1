"""Pictures as Pillow decodes them, of every format but TIFF, and turned into RGB by our rules."""

from __future__ import annotations

import re
import warnings
from typing import Any, BinaryIO

import numpy as np
import PIL.ExifTags
import PIL.Image
import PIL.ImageFile
from numpy.typing import NDArray

from pipelines.errors import ImageError
from pipelines.images.needed import NEEDED, Needed
from pipelines.images.pixels import Decoded, dark, eight_bits, known_orientation, on_white, stretched
from pipelines.images.reasons import NOT_READ, check_size, explained
from pipelines.images.sources import IMAGE_EXTENSIONS

_FORMATS = tuple(dict.fromkeys(IMAGE_EXTENSIONS.values()))


def prepare_pillow(max_pixels: int) -> None:
    """Load Pillow's formats, let it not refuse a size that the caller allows, and keep its warnings quiet.

    Both settings are the process's, so they only ever move one way: `warnings.catch_warnings` would restore a
    stale state when two threads decode at a time.
    """
    PIL.Image.init()
    refused = PIL.Image.MAX_IMAGE_PIXELS  # Pillow refuses above twice this
    if refused is not None and 2 * refused < max_pixels:
        PIL.Image.MAX_IMAGE_PIXELS = (max_pixels + 1) // 2
    if ("ignore", None, Warning, re.compile(r"PIL\."), 0) not in warnings.filters:
        warnings.filterwarnings("ignore", module=r"PIL\.")


def read_by_pillow(file: BinaryIO, max_pixels: int) -> Decoded:
    """A format is told by the content, and the reason is that of the first that takes it for its own."""
    start = file.read(64)
    failure = None
    for name in _FORMATS:
        pattern, needed_of = NEEDED.get(name, (b"", None))
        if name not in PIL.Image.OPEN or not re.match(pattern, start, re.DOTALL):
            continue
        factory, accept = PIL.Image.OPEN[name]
        if accept is not None and accept(start) is not True:
            continue
        file.seek(0)
        try:
            needed = needed_of(file, max_pixels) if needed_of else None
            # Not `PIL.Image.open`: ultralytics replaces it by a function that may install packages
            picture = factory(needed.file if needed else file, "")
        except ImageError:
            raise
        except Exception as error:
            failure = failure or explained(error, name, max_pixels)
            continue
        try:
            return _decoded(picture, needed, max_pixels)
        except ImageError:
            raise
        except Exception as error:
            raise explained(error, name, max_pixels) from error
    if failure:
        raise failure
    for pattern, kind in NOT_READ.items():
        if re.match(pattern, start, re.DOTALL):
            raise ImageError(f"this is {kind}")
    raise ImageError(f"not an image, or in none of the formats {', '.join(_FORMATS)}")


def _decoded(picture: PIL.ImageFile.ImageFile, needed: Needed | None, max_pixels: int) -> Decoded:
    check_size(picture.size, max_pixels)
    bits = needed.bits if needed else _bits_of_ppm(picture)
    picture.load()
    orientation, notes = needed.orientation() if needed else (_orientation(picture), ())
    if bits > 8 or picture.mode.startswith("I;16"):
        rgb, of_depth = _from_deep(picture, bits, needed)
        return Decoded(rgb, orientation, (*notes, *of_depth))
    return Decoded(to_rgb(picture), orientation, notes)


def to_rgb(picture: PIL.Image.Image) -> PIL.Image.Image:
    """By Pillow's plain conversions."""
    if picture.mode in ("I", "F"):
        return PIL.Image.fromarray(stretched(np.asarray(picture))).convert("RGB")
    if picture.has_transparency_data:
        return on_white(picture.convert("RGBA"))
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _from_deep(
    picture: PIL.ImageFile.ImageFile, bits: int, needed: Needed | None
) -> tuple[PIL.Image.Image, tuple[str, ...]]:
    """More than 8 bits: Pillow has all of grey, spread over 16 bits, and the high 8 of colour."""
    values, key = np.asarray(picture), picture.info.get("transparency")
    if values.ndim == 2:
        bits = 16
    elif picture.format == "PNG" and needed and (key is not None or values[..., :3].max() < 16):
        values, bits = _all_bits(needed.file), 16
    else:
        return to_rgb(picture), dark(max(1, int(values[..., :3].max()) * (2**bits - 1) // 256), bits)
    colours = values if values.ndim == 2 else values[..., :3]
    largest = int(colours.max())
    in_use = max(needed.significant, default=bits) if needed and picture.mode != "RGBA" else bits
    if in_use < bits and largest < 1 << in_use and (colours & ((1 << bits - in_use) - 1)).any():
        bits = in_use  # at the low end, where PNG wants them at the high end
    rgb = PIL.Image.fromarray(eight_bits(colours, bits)).convert("RGB")
    if picture.mode == "RGBA":
        rgb.putalpha(picture.getchannel("A"))
    elif key is not None:
        seen = colours != key if colours.ndim == 2 else (colours != key).any(-1)
        rgb.putalpha(PIL.Image.fromarray(seen))
    return on_white(rgb) if rgb.mode == "RGBA" else rgb, dark(largest, bits)


def _all_bits(png: BinaryIO) -> NDArray[np.uint16]:
    """H x W x 3, RGB."""
    import cv2

    png.seek(0)
    values: Any = cv2.imdecode(np.frombuffer(png.read(), np.uint8), cv2.IMREAD_UNCHANGED)
    return np.asarray(values[..., 2::-1], np.uint16)


def _bits_of_ppm(picture: PIL.ImageFile.ImageFile) -> int:
    """16 for grey or colour whose greatest value needs two bytes: Pillow scales by it."""
    if picture.format != "PPM":
        return 8
    coder, *_, arguments = picture.tile[0]
    greatest = arguments[-1] if coder.startswith("ppm") and isinstance(arguments, tuple) else 0
    return 16 if picture.mode == "I" or greatest > 255 else 8


def _orientation(picture: PIL.ImageFile.ImageFile) -> int:
    try:
        return known_orientation(picture.getexif().get(PIL.ExifTags.Base.Orientation))
    except Exception:  # a picture is not lost for its broken metadata
        return 1
