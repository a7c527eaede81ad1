"""Why an image was not read, in one printable line without the name of anything inside a library."""

from __future__ import annotations

import re
import struct

import PIL.Image

from pipelines.errors import ImageError

_OURS_TO_TELL = (OSError, SyntaxError, ValueError)
"""What Pillow raises with a message for people; anything else is a slip of its own on damaged data."""

_FOR_PROGRAMMERS = re.compile(r"[A-Z]_[A-Z]|Plugin|Error\b|decoder error|buffer")

NOT_READ = {  # first bytes, as a pattern, of files that no format here reads
    rb"....ftyp(hei|hev)": "a HEIC picture, which this Pillow cannot read: convert it to JPEG",
    rb"....ftypavi[fs]": "an AVIF picture, which this Pillow cannot read: convert it to JPEG or update Pillow",
    rb"\xff\x0a|\0\0\0\x0cJXL ": "a JPEG XL picture, which this Pillow cannot read: convert it to JPEG",
    rb"PF\s": "a portable map of floating-point colours, which is not read: convert it to PNG",
    rb"P7\s": "a portable arbitrary map (PAM), which is not read: convert it to PNG",
    rb"%PDF": "a PDF document, not an image",
    rb"%!PS|\xc5\xd0\xd3\xc6": "a PostScript document, not an image",
    rb"(?i)\s*<(!doctype html|html)": "a web page, not an image",
    rb"\s*<(\?xml|svg)": "an XML or SVG document, not an image of pixels",
    rb"version https://git-lfs": "a Git LFS pointer, not the image itself: run `git lfs pull`",
}


def check_size(size: tuple[int, int], max_pixels: int) -> None:
    """size: width, height. Raises ImageError above the limit."""
    width, height = size
    if width * height > max_pixels:
        raise ImageError(f"{width} x {height} pixels are above the limit of {max_pixels:,}; see --max-pixels")


def truncated(file_format: str) -> ImageError:
    return ImageError(f"the {file_format} file is truncated")


def explained(error: Exception, file_format: str, max_pixels: int) -> ImageError:
    """The reason in an exception of Pillow's, whose formats let any exception through on damaged data."""
    detail = one_line(error)
    if isinstance(error, PIL.Image.DecompressionBombError):
        return ImageError(f"it claims more pixels than the limit of {max_pixels:,}; see --max-pixels")
    if isinstance(error, MemoryError):
        return ImageError("there is not enough memory to decode it")
    if isinstance(error, OSError) and error.errno:
        return ImageError(f"the file cannot be read: {detail}")
    cut = (EOFError, IndexError, struct.error)
    if "truncat" in detail.lower() or isinstance(error, cut) or isinstance(error.__cause__, cut):
        return truncated(file_format)
    if detail == "not identified by this driver":
        detail = "its header is damaged, or its width or height is zero"
    elif not isinstance(error, _OURS_TO_TELL) or _FOR_PROGRAMMERS.search(detail):
        detail = "its content cannot be decoded"
    return ImageError(f"the {file_format} file is damaged or of an unsupported kind: {detail}")


def one_line(error: object) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    text = "".join(sign if sign.isprintable() else " " for sign in text)
    return " ".join(text.split())[:200] or type(error).__name__
