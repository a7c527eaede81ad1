"""What the pixels need of a file. The rest never reaches Pillow, which loses a picture for a broken or large text.

Each walker copies the parts of its format that make pixels, in their order, and picks EXIF and XMP out for the
orientation alone. Where it finds no way on, it leaves what is left to Pillow, which says what is wrong. Nothing is
unpacked but a text of PNG that may hold EXIF or XMP, and of that no more than _LARGEST_TEXT bytes.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import BinaryIO

import PIL.ExifTags
import PIL.Image

from pipelines.errors import ImageError
from pipelines.images.pixels import known_orientation
from pipelines.images.reasons import check_size, truncated

_LARGEST_TEXT = 2**20


@dataclass(frozen=True)
class Needed:
    """file: what Pillow is given; exif, xmp: as the file has them, damaged perhaps.

    bits: of each value; significant: how many of them are in use in each band, where a PNG says so (sBIT).
    """

    file: BinaryIO
    exif: bytes = b""
    xmp: bytes = b""
    bits: int = 8
    significant: tuple[int, ...] = ()

    def orientation(self) -> tuple[int, tuple[str, ...]]:
        """EXIF orientation, and a note where damage may hide it. A picture is not lost for its metadata."""
        try:
            exif = PIL.Image.Exif()
            exif.load(self.exif)
            value = exif.get(PIL.ExifTags.Base.Orientation)
        except Exception:
            return 1, ("its EXIF data is damaged: the picture is taken to be upright as it is stored",)
        if value is None and (found := re.search(rb'tiff:Orientation(?:="|>)([0-9])', self.xmp)):
            value = int(found[1])
        return known_orientation(value), ()


def needed_of_jpeg(file: BinaryIO, max_pixels: int) -> Needed:
    """Without APP segments but those on colour, and without comments: also those that are too short or long."""
    kept, exif, xmp = [file.read(2)], b"", b""
    while True:
        marker = _next_marker(file)
        if marker == 0xD9 or 0x01 <= marker <= 0xBF or 0xD0 <= marker <= 0xD8:  # these have no content
            continue
        start = file.read(2)
        content = file.read(max(int.from_bytes(start, "big") - 2, 0))
        if len(content) < int.from_bytes(start, "big") - 2:
            raise truncated("JPEG")
        if marker == 0xE1 and content.startswith(b"Exif\0\0"):
            exif += content[6:]
        elif marker == 0xE1 and content.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
            xmp = content
        if _makes_pixels(marker, content):
            kept.append(bytes((0xFF, marker)) + start + content)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and len(content) >= 5:
            height, width = struct.unpack_from(">xHH", content)
            check_size((width, height), max_pixels)
        if marker == 0xDA:
            kept.append(file.read())
            return Needed(BytesIO(b"".join(kept)), exif, xmp)


def _next_marker(file: BinaryIO) -> int:
    """What is between segments is passed over, as libjpeg does."""
    sign = file.read(1)
    while True:
        while sign and sign != b"\xff":
            sign = file.read(1)
        while sign == b"\xff":
            sign = file.read(1)
        if not sign:
            raise truncated("JPEG")
        if sign != b"\0":
            return sign[0]


def _makes_pixels(marker: int, content: bytes) -> bool:
    if marker == 0xE0:
        return content.startswith(b"JFIF\0") and len(content) >= 14
    if marker == 0xEE:  # whether three bands are RGB or YCbCr
        return content.startswith(b"Adobe") and len(content) >= 12
    return 0xC0 <= marker <= 0xDF


def needed_of_png(file: BinaryIO, max_pixels: int) -> Needed:
    """The chunks below, whose checksums must be right, of the first frame alone."""
    kept, texts = [file.read(8)], dict[bytes, bytes]()
    header = significant = b""
    while True:
        start = file.read(8)
        size, kind = int.from_bytes(start[:4], "big"), start[4:]
        if len(start) < 8 or kind == b"IEND":
            kept.append(b"\0\0\0\0IEND\xaeB`\x82")
            break
        if kind in (b"IHDR", b"PLTE", b"tRNS", b"IDAT"):
            content, checksum = file.read(size), file.read(4)
            kept += start, content, checksum
            if len(checksum) < 4:
                break
            if not _is_sound(kind, content, checksum):
                raise ImageError(f"the PNG file is damaged: the checksum of its {kind.decode()} chunk is wrong")
            if kind == b"IHDR" and len(content) >= 13:
                header = header or content
                check_size(struct.unpack_from(">II", content), max_pixels)
        elif kind in (b"sBIT", b"eXIf", b"tEXt", b"zTXt", b"iTXt") and size <= _LARGEST_TEXT:
            content, checksum = file.read(size), file.read(4)
            sound = _is_sound(kind, content, checksum)
            if kind == b"sBIT" and sound:
                significant = content
            elif kind == b"eXIf":
                texts[kind] = content if sound else b"damaged"
            elif sound and (name := content.partition(b"\0")[0]) in _TEXTS and name not in texts:
                texts[name] = _text(kind, content[len(name) + 1 :])
        else:
            file.seek(size + 4, 1)
    exif = texts.get(b"eXIf") or _from_hex(texts.get(b"Raw profile type exif", b""))
    xmp = texts.get(b"XML:com.adobe.xmp", b"")
    return Needed(BytesIO(b"".join(kept)), exif, xmp, bits=header[8] if header else 8, significant=tuple(significant))


_TEXTS = (b"Raw profile type exif", b"XML:com.adobe.xmp")


def _is_sound(kind: bytes, content: bytes, checksum: bytes) -> bool:
    return zlib.crc32(content, zlib.crc32(kind)) == int.from_bytes(checksum, "big")


def _text(kind: bytes, content: bytes) -> bytes:
    """What follows the name of a text chunk, unpacked."""
    packed = kind == b"zTXt"
    if kind == b"iTXt":
        packed = content[:1] == b"\1"
        content = content[2:].split(b"\0", 2)[-1]
    elif packed:
        content = content[1:]
    try:
        return zlib.decompressobj().decompress(content, _LARGEST_TEXT) if packed else content
    except zlib.error:
        return b""


def _from_hex(profile: bytes) -> bytes:
    """EXIF as ImageMagick writes it into PNG: a name and a length, then hexadecimal lines."""
    try:
        return bytes.fromhex(b"".join(profile.split(b"\n")[3:]).decode("ascii"))
    except ValueError:
        return b""


def needed_of_webp(file: BinaryIO, max_pixels: int) -> Needed:
    """The chunks of pixels and of animation; where a header tells of others, it no longer does."""
    content = file.read()
    kept, others = list[bytes](), dict[bytes, bytes]()
    flags, place = 0, 12
    while place + 8 <= len(content):
        kind, size = struct.unpack_from("<4sI", content, place)
        chunk = content[place : place + 8 + size]
        if kind in (b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF"):
            if len(chunk) < 8 + size:
                raise truncated("WEBP")
            if kind == b"VP8X" and size >= 10:
                flags = chunk[8]
                chunk = chunk[:8] + bytes([flags & ~0x2C]) + chunk[9:]
                width, height = (1 + int.from_bytes(chunk[at : at + 3], "little") for at in (12, 15))
                check_size((width, height), max_pixels)
            kept.append(chunk + b"\0" * (size % 2))
        else:
            others.setdefault(kind, chunk[8:])
        place += 8 + size + size % 2
    if not any(chunk.startswith((b"VP8 ", b"VP8L", b"ANMF")) for chunk in kept):
        raise truncated("WEBP")
    body = b"WEBP" + b"".join(kept)
    exif = others.get(b"EXIF", b"") if flags & 8 else b""
    xmp = others.get(b"XMP ", b"") if flags & 4 else b""
    return Needed(BytesIO(b"RIFF" + len(body).to_bytes(4, "little") + body), exif, xmp)


def needed_of_gif(file: BinaryIO, max_pixels: int) -> Needed:
    """Without extensions but those on transparency; from the first frame on as it is."""
    kept = [file.read(13)]
    if len(kept[0]) == 13 and kept[0][10] & 0x80:
        kept.append(file.read(6 << (kept[0][10] & 7)))
    while sign := file.read(1):
        if sign in b",;":
            kept += sign, file.read()
            break
        if sign == b"!":
            label, content = file.read(1), b""
            while size := file.read(1).strip(b"\0"):
                content += size + file.read(size[0])
            if label == b"\xf9" and content[:1] >= b"\4" and len(content) > 4:
                kept += b"!\xf9\4", content[1:5], b"\0"
    return Needed(BytesIO(b"".join(kept)))


def needed_of_jpeg2000(file: BinaryIO, max_pixels: int) -> Needed:
    """Without boxes but those on size, colour and pixels; a stream of code without boxes as it is."""
    content = file.read()
    bits = 8
    if (code := content.find(_CODE)) >= 0 and len(content) > code + 42:
        bits = 1 + (content[code + 42] & 0x7F)
    if code == 0:
        return Needed(BytesIO(content), bits=bits)
    kept = list[bytes]()
    for kind, box, inside in _boxes(content):
        if kind == b"jp2h":
            parts = b"".join(part for name, part, _ in _boxes(inside) if name in _ON_COLOUR)
            box = (8 + len(parts)).to_bytes(4, "big") + kind + parts
        if kind in (b"jP  ", b"ftyp", b"jp2h", b"jp2c"):
            kept.append(box)
    return Needed(BytesIO(b"".join(kept)), bits=bits)


_CODE = b"\xff\x4f\xff\x51"
_ON_COLOUR = (b"ihdr", b"bpcc", b"colr", b"pclr", b"cmap", b"cdef")


def _boxes(content: bytes) -> list[tuple[bytes, bytes, bytes]]:
    """Kind, box and what is in it, as far as the lengths make sense."""
    found, place = list[tuple[bytes, bytes, bytes]](), 0
    while place + 8 <= len(content):
        size, kind = struct.unpack_from(">I4s", content, place)
        header = 8
        if size == 1 and place + 16 <= len(content):
            size, header = struct.unpack_from(">Q", content, place + 8)[0], 16
        size = size or len(content) - place  # 0: up to the end
        if size < header:
            break
        box = content[place : place + size]
        found.append((kind, box, box[header:]))
        place += size
    return found


NEEDED: dict[str, tuple[bytes, Callable[[BinaryIO, int], Needed]]] = {
    "JPEG": (rb"\xff\xd8\xff", needed_of_jpeg),
    "PNG": (rb"\x89PNG\r\n\x1a\n", needed_of_png),
    "WEBP": (rb"RIFF....WEBPVP8", needed_of_webp),
    "GIF": (rb"GIF8[79]a", needed_of_gif),
    "JPEG2000": (rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n", needed_of_jpeg2000),
}
"""By Pillow's name of a format: the first bytes of its files, as a pattern, and what its pixels need."""
