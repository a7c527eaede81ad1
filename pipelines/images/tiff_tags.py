"""The tags of a TIFF's first page, and the layout of its pixels that they declare: TIFF 6.0 and BigTIFF."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import ImageError
from pipelines.images.reasons import truncated


class Tag(IntEnum):
    """Those that make pixels. Any other is passed over, whatever it holds."""

    NEW_SUBFILE_TYPE = 254
    WIDTH = 256
    LENGTH = 257
    BITS_PER_SAMPLE = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    FILL_ORDER = 266
    STRIP_OFFSETS = 273
    ORIENTATION = 274
    SAMPLES_PER_PIXEL = 277
    ROWS_PER_STRIP = 278
    STRIP_BYTE_COUNTS = 279
    MAX_SAMPLE_VALUE = 281
    PLANAR_CONFIGURATION = 284
    T4_OPTIONS = 292
    T6_OPTIONS = 293
    PREDICTOR = 317
    COLOR_MAP = 320
    TILE_WIDTH = 322
    TILE_LENGTH = 323
    TILE_OFFSETS = 324
    TILE_BYTE_COUNTS = 325
    INK_SET = 332
    EXTRA_SAMPLES = 338
    SAMPLE_FORMAT = 339
    S_MAX_SAMPLE_VALUE = 341
    JPEG_TABLES = 347
    YCBCR_COEFFICIENTS = 529
    YCBCR_SUBSAMPLING = 530
    REFERENCE_BLACK_WHITE = 532
    XMP = 700


_TYPES = {  # TIFF's type of a value -> NumPy's; a rational is two
    **{1: "u1", 2: "u1", 3: "u2", 4: "u4", 5: "u4", 6: "i1", 7: "u1", 8: "i2", 9: "i4", 10: "i4", 11: "f4", 12: "f8"},
    **{13: "u4", 16: "u8", 17: "i8", 18: "u8"},
}
_RATIONAL = (5, 10)
_KNOWN = frozenset(map(int, Tag))


COMPRESSIONS = {
    1: "nothing",
    2: "CCITT RLE",
    3: "CCITT fax 3",
    4: "CCITT fax 4",
    5: "LZW",
    6: "old-style JPEG",
    7: "JPEG",
    8: "deflate",
    32946: "deflate",
    32773: "PackBits",
    34925: "LZMA",
    50000: "Zstandard",
}


@dataclass(frozen=True)
class Tags:
    """order: "<" or ">", of every value in the file; values: of each tag, one or more numbers."""

    order: str
    values: dict[int, NDArray[Any]]

    def one(self, tag: Tag, default: int) -> int:
        values = self.values.get(tag)
        return default if values is None else int(values[0])

    def all(self, tag: Tag) -> tuple[int, ...]:
        return tuple(self.values.get(tag, np.empty(0, np.int64)).tolist())

    def largest(self, tags: Iterable[Tag]) -> float:
        """0 where none of them is there."""
        return max((float(self.values[tag].max()) for tag in tags if tag in self.values), default=0)


def read_tags(file: BinaryIO) -> Tags:
    """A tag whose values lie outside the file is as good as missing."""
    end = file.seek(0, 2)
    file.seek(0)
    start = file.read(16)
    order = "<" if start[:2] == b"II" else ">"
    big = 43 in start[2:4]
    try:
        place = struct.unpack_from(order + ("Q" if big else "I"), start, 8 if big else 4)[0]
        if place >= end:
            raise truncated("TIFF")
        file.seek(place)
        count = struct.unpack(order + ("Q" if big else "H"), file.read(8 if big else 2))[0]
    except struct.error:
        raise truncated("TIFF") from None
    step, inline = (20, 8) if big else (12, 4)
    table = file.read(min(count * step, end))
    values = {}
    for at in range(0, len(table) - step + 1, step):
        tag, kind, number = struct.unpack_from(order + ("HHQ" if big else "HHI"), table, at)
        if tag not in _KNOWN or tag in values or kind not in _TYPES or number == 0:
            continue
        number *= 1 + (kind in _RATIONAL)
        dtype = np.dtype(order + _TYPES[kind])
        content = table[at + step - inline : at + step]
        if number * dtype.itemsize > inline:
            file.seek(min(struct.unpack(order + ("Q" if big else "I"), content)[0], end))
            content = file.read(min(number * dtype.itemsize, end))
        if len(content) >= number * dtype.itemsize:
            found = np.frombuffer(content, dtype, number)
            values[tag] = found[::2] / np.maximum(found[1::2], 1) if kind in _RATIONAL else found
    return Tags(order, values)


@dataclass(frozen=True)
class Layout:
    """How the values of a page lie in its file. kind: "u", "i" or "f", NumPy's; samples: of a pixel, also extra ones.

    planar: each sample has its own plane; segment: width and height of a strip or tile; offsets, counts: where each
    is, in bytes; subsampling: pixels across and down that share their colour, in YCbCr.
    """

    width: int
    height: int
    bits: int
    kind: str
    samples: int
    photometric: int
    compression: int
    predictor: int
    order: str
    reversed_bits: bool
    planar: bool
    tiled: bool
    segment: tuple[int, int]
    offsets: NDArray[Any]
    counts: NDArray[Any]
    subsampling: tuple[int, int]

    @property
    def what(self) -> str:
        """`5 bands, float32`"""
        kind = {"u": "uint", "i": "int", "f": "float"}[self.kind]
        return f"{self.samples} band{'s' * (self.samples != 1)}, {kind}{self.bits}"

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of values in memory: the smallest that holds them."""
        return np.dtype(f"{self.kind}{next(size for size in (1, 2, 4, 8) if self.bits <= 8 * size)}")


def layout_of(tags: Tags) -> Layout:
    """Raises ImageError where the tags are not there, contradict each other, or declare what no number here is."""
    width, height = tags.one(Tag.WIDTH, 0), tags.one(Tag.LENGTH, 0)
    compression = tags.one(Tag.COMPRESSION, 1)
    samples = tags.one(Tag.SAMPLES_PER_PIXEL, 3 if compression == 6 else 1)
    if min(width, height, samples) <= 0:
        raise ImageError("the TIFF file is damaged: its width, height or number of bands is zero or missing")
    bits = _same(tags, Tag.BITS_PER_SAMPLE, 8 if compression == 6 else 1, samples, "bits")
    sample_format = _same(tags, Tag.SAMPLE_FORMAT, 1, samples, "sample formats")
    kind = {1: "u", 2: "i", 3: "f", 4: "u"}.get(sample_format)
    if kind is None or bits not in {"u": (*range(1, 17), 32, 64), "i": (8, 16, 32, 64), "f": (16, 32, 64)}[kind]:
        names = {1: "unsigned", 2: "signed", 3: "floating-point", 4: "untyped", 5: "complex", 6: "complex"}
        raise ImageError(
            f"the TIFF file has {names.get(sample_format, 'unknown')} values of {bits} bits, which are not read"
        )
    tiled = Tag.TILE_WIDTH in tags.values and Tag.TILE_LENGTH in tags.values
    if tiled:
        segment = tags.one(Tag.TILE_WIDTH, 0), tags.one(Tag.TILE_LENGTH, 0)
    else:
        segment = width, min(tags.one(Tag.ROWS_PER_STRIP, height), height) or height
    if min(segment) <= 0:
        raise ImageError("the TIFF file is damaged: its tiles have no size")
    nothing = np.empty(0, np.int64)
    strips = tags.values.get(Tag.STRIP_OFFSETS, nothing), tags.values.get(Tag.STRIP_BYTE_COUNTS, nothing)
    tiles = tags.values.get(Tag.TILE_OFFSETS, strips[0]), tags.values.get(Tag.TILE_BYTE_COUNTS, strips[1])
    across, down = (*tags.all(Tag.YCBCR_SUBSAMPLING), 2, 2)[:2]
    if Tag.YCBCR_SUBSAMPLING not in tags.values and strips[1].sum() >= width * height * 3:
        across, down = 1, 1  # against the standard's default, as some write it
    unsaid = 0 if compression in (2, 3, 4) else 6 if compression == 7 and samples == 3 else 2 if samples >= 3 else 1
    photometric = tags.one(Tag.PHOTOMETRIC, unsaid)
    return Layout(
        width,
        height,
        bits,
        kind,
        samples,
        photometric,
        compression,
        tags.one(Tag.PREDICTOR, 1),
        tags.order,
        tags.one(Tag.FILL_ORDER, 1) == 2 and compression != 7,  # of JPEG, libtiff ignores it
        tags.one(Tag.PLANAR_CONFIGURATION, 1) == 2 and samples > 1,
        tiled,
        segment,
        *(tiles if tiled else strips),
        (across, down) if photometric == 6 else (1, 1),
    )


def _same(tags: Tags, tag: Tag, default: int, samples: int, what: str) -> int:
    """The one value that all samples have: some writers give it once, some for more samples than there are."""
    values = set(tags.all(tag)[:samples]) or {default}
    if len(values) > 1:
        each = ", ".join(map(str, tags.all(tag)[:samples]))
        raise ImageError(f"the TIFF file has bands of different {what} ({each}), which are not read")
    return int(values.pop())
