"""The one loader: a path or URL from anyone, to RGB pixels or an ImageError that says what is wrong.

How an image becomes 8-bit RGB:
- EXIF orientation is applied; of several frames the first is taken; embedded colour profiles are not applied.
- Transparency (alpha, palette, colour key) is put on white; a colour key of 16-bit grey is ignored.
- 16 bits per channel keep their high byte: 0..65535 becomes 0..255.
- 32-bit integer and float grey have no fixed range: the image's least finite value becomes 0 and its greatest 255;
  what is not a number, and an image of one value, becomes 0.
- Grey, palette, 1-bit, CMYK, YCbCr and CIELAB go through Pillow's plain conversions.
"""

from __future__ import annotations

import re
import stat
import struct
import threading
import time
import warnings
from concurrent.futures import Future
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import PIL.ExifTags
import PIL.Image
import PIL.ImageFile
from numpy.typing import NDArray

from pipelines.errors import ImageError
from pipelines.sources import IMAGE_EXTENSIONS, Source, is_url
from pipelines.types import Frame, Image, UInt8

MAX_PIXELS = 200_000_000
MAX_DOWNLOAD_BYTES = 256 * 2**20
MAX_DOWNLOAD_SECONDS = 120.0

_FORMATS = tuple(dict.fromkeys(IMAGE_EXTENSIONS.values()))
_NOT_READ = {  # first bytes, as a pattern, of files that no format here reads
    rb"....ftyp(hei|hev)": "a HEIC picture, which this Pillow cannot read: convert it to JPEG",
    rb"....ftypavi[fs]": "an AVIF picture, which this Pillow cannot read: convert it to JPEG or update Pillow",
    rb"\xff\x0a|\0\0\0\x0cJXL ": "a JPEG XL picture, which this Pillow cannot read: convert it to JPEG",
    rb"%PDF": "a PDF document, not an image",
    rb"%!PS|\xc5\xd0\xd3\xc6": "a PostScript document, not an image",
    rb"(?i)\s*<(!doctype html|html)": "a web page, not an image",
    rb"\s*<(\?xml|svg)": "an XML or SVG document, not an image of pixels",
    rb"version https://git-lfs": "a Git LFS pointer, not the image itself: run `git lfs pull`",
}
_UPRIGHT = {  # by EXIF orientation
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}
_AS_STORED = {**_UPRIGHT, 6: _UPRIGHT[8], 8: _UPRIGHT[6]}  # the way back


def load(source: Source, *, max_pixels: int = MAX_PIXELS, timeout: float = 30, upright: bool = True) -> Image:
    """Read and decode one image, by the rules above. Its pixels are C-contiguous and read-only.

    max_pixels: the largest width x height that is decoded, known from the header. timeout: seconds that a URL's
    server may take to connect, and between two pieces of its answer, which may take MAX_DOWNLOAD_SECONDS in all.
    upright: whether EXIF orientation is applied; the annotations of data sets count in pixels as they are stored.
    `Image.orientation` is the file's own either way.
    Raises ImageError for whatever the file or the server holds, in one line without the image's name.
    """
    with _open(source.location, timeout) as file:
        pixels, orientation = _decode(file, max_pixels, upright)
        frame: Frame | None = None if orientation == 1 else "upright" if upright else "stored"
        return Image(source.name, pixels, orientation=orientation, frame=frame)


# Bytes


def _open(location: str, timeout: float) -> BinaryIO:
    if is_url(location):
        return _download(location, timeout)
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
        raise ImageError(f"{location!r} cannot be read: {_one_line(error)}") from error


def _download(url: str, timeout: float) -> BinaryIO:
    """In a thread of its own, which is left behind in the end: `timeout` never ends what comes byte by byte."""
    answer = Future[BinaryIO]()
    threading.Thread(target=_fetch, args=(answer, url, timeout), daemon=True).start()
    try:
        return answer.result(MAX_DOWNLOAD_SECONDS)
    except TimeoutError:
        raise _too_slow() from None


def _fetch(answer: Future[BinaryIO], url: str, timeout: float) -> None:
    try:
        answer.set_result(_body(url, timeout))
    except BaseException as error:
        answer.set_exception(error)


def _body(url: str, timeout: float) -> BinaryIO:
    import requests

    body = BytesIO()
    end = time.monotonic() + MAX_DOWNLOAD_SECONDS
    try:
        with requests.get(url, stream=True, timeout=timeout) as response:
            if response.status_code != 200:
                answer = f"{response.status_code} {response.reason or ''}"
                raise ImageError(f"the server answered HTTP {_one_line(answer)}")
            for block in response.iter_content(2**13):
                body.write(block)
                if time.monotonic() > end:  # nobody waits any longer
                    raise _too_slow()
                if body.tell() > MAX_DOWNLOAD_BYTES:
                    raise ImageError(f"the download is larger than {MAX_DOWNLOAD_BYTES:,} bytes")
    except ImageError:
        raise
    except Exception as error:  # requests lets some of urllib3's, http.client's and the codecs' own errors through
        if isinstance(error, requests.Timeout) or "timed out" in str(error):
            reason = f"the server did not answer within {timeout:g} s"
        elif isinstance(error, requests.exceptions.ChunkedEncodingError):
            reason = "the server cut the download short"
        elif isinstance(error, requests.exceptions.SSLError):
            reason = "the server's certificate is not trusted, or TLS failed"
        elif isinstance(error, requests.ConnectionError):
            reason = "the server cannot be reached, or closed the connection"
        else:
            reason = f"the URL cannot be downloaded: {_one_line(error)}"
        raise ImageError(reason) from error
    if not body.tell():
        raise ImageError("the server sent an empty file (0 bytes)")
    body.seek(0)
    return body


def _too_slow() -> ImageError:
    return ImageError(f"the download takes longer than {MAX_DOWNLOAD_SECONDS:g} s")


# Pixels


def _decode(file: BinaryIO, max_pixels: int, upright: bool) -> tuple[UInt8, int]:
    """H x W x 3 uint8, RGB, and the file's EXIF orientation."""
    _prepare_pillow(max_pixels)
    picture = _identify(file, max_pixels)
    width, height = picture.size
    if width * height > max_pixels:
        raise ImageError(f"{width} x {height} pixels are above the limit of {max_pixels:,}; see --max-pixels")
    try:
        orientation = _orientation(picture) if picture.format == "TIFF" else None
        picture.load()  # turns a TIFF upright and forgets its orientation, by itself, in some releases of Pillow
        left = _orientation(picture)
        orientation = orientation or left
        if upright:
            turn = _UPRIGHT.get(left)
        else:
            turn = _AS_STORED.get(orientation) if left != orientation else None
        rgb = _to_rgb(picture)
        return np.asarray(rgb if turn is None else rgb.transpose(turn)), orientation
    except Exception as error:
        raise _explained(error, str(picture.format), max_pixels) from error


def _prepare_pillow(max_pixels: int) -> None:
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


def _identify(file: BinaryIO, max_pixels: int) -> PIL.ImageFile.ImageFile:
    """Open by content, trying only the formats of IMAGE_EXTENSIONS: others may start an external program.

    Not `PIL.Image.open`: ultralytics replaces it by a function that may install packages when a file is damaged.
    """
    failure = None
    try:
        start = file.read(64)
    except OSError as error:
        raise _explained(error, "image", max_pixels) from error
    for name in _FORMATS:
        if name not in PIL.Image.OPEN:
            continue
        factory, accept = PIL.Image.OPEN[name]
        try:
            if accept is None or accept(start) is True:
                file.seek(0)
                return factory(file, "")
        except Exception as error:
            failure = failure or _explained(error, name, max_pixels)
    if failure:
        raise failure
    for pattern, kind in _NOT_READ.items():
        if re.match(pattern, start, re.DOTALL):
            raise ImageError(f"this is {kind}")
    raise ImageError(f"not an image, or in none of the formats {', '.join(_FORMATS)}")


def _orientation(picture: PIL.ImageFile.ImageFile) -> int:
    """1 to 8; 1, which is upright, where the file says nothing, or nothing that has a meaning."""
    try:
        orientation = int(picture.getexif().get(PIL.ExifTags.Base.Orientation, 1))
    except Exception:  # a picture is not lost for its broken metadata
        return 1
    return orientation if orientation in _UPRIGHT else 1


def _to_rgb(picture: PIL.ImageFile.ImageFile) -> PIL.Image.Image:
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        return PIL.Image.fromarray(_eight_bits(np.asarray(picture), picture.format)).convert("RGB")
    if picture.has_transparency_data:
        white = PIL.Image.new("RGBA", picture.size, "white")
        return PIL.Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _eight_bits(grey: NDArray[Any], file_format: str | None) -> UInt8:
    """H x W grey of 16 or 32 bits -> uint8. Pillow may hold the 16 bits of PNG and PNM files in 32."""
    if grey.dtype.kind != "f" and (grey.dtype.itemsize == 2 or file_format in ("PNG", "PPM")):
        return (grey.clip(0, 65535) >> 8).astype(np.uint8)
    finite = grey[np.isfinite(grey)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if low == high:
        return np.zeros(grey.shape, np.uint8)
    values = np.nan_to_num(grey.astype(np.float64), nan=low, posinf=high, neginf=low)
    return np.rint((values - low) / (high - low) * 255).astype(np.uint8)


def _explained(error: Exception, file_format: str, max_pixels: int) -> ImageError:
    """The reason in an exception of Pillow's, whose formats let any exception through on damaged data."""
    detail = _one_line(error)
    if isinstance(error, PIL.Image.DecompressionBombError):
        return ImageError(f"it claims more pixels than the limit of {max_pixels:,}; see --max-pixels")
    if isinstance(error, MemoryError):
        return ImageError("there is not enough memory to decode it")
    if isinstance(error, OSError) and error.errno:
        return ImageError(f"the file cannot be read: {detail}")
    cut = (EOFError, IndexError, struct.error)
    if "truncat" in detail.lower() or isinstance(error, cut) or isinstance(error.__cause__, cut):
        return ImageError(f"the {file_format} file is truncated")
    if detail == "not identified by this driver":
        detail = "its header is damaged, or its width or height is zero"
    return ImageError(f"the {file_format} file is damaged or of an unsupported kind: {detail}")


def _one_line(error: object) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    text = "".join(sign if sign.isprintable() else " " for sign in text)
    return " ".join(text.split())[:200] or type(error).__name__
