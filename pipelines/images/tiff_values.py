"""The values of a TIFF's pixels, bit for bit as the file has them: any number of bits and bands, strips and tiles.

Pillow's libtiff unpacks what is compressed, and nothing else: it is given a file of plain bytes, made up here, so
that no table of kinds of pixels stands between. Bits, byte order, predictors and planes are undone here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL.TiffImagePlugin import TiffImageFile

from pipelines.errors import ImageError
from pipelines.images.pillow import prepare_pillow
from pipelines.images.reasons import truncated
from pipelines.images.tiff_tags import COMPRESSIONS, Layout, Tag, Tags
from pipelines.types import UInt8

_BATCH = 2**24
"""Bytes that are unpacked at a time, where strips and tiles are smaller."""

_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
PICTURES = (2, 3, 4, 7)
"""The compressions that know pixels and not bytes: fax and JPEG."""
_PREDICTED = (5, 8, 32946, 34925, 50000)
"""The compressions that know a predictor; libtiff ignores the tag with others."""


def read_values(file: BinaryIO, layout: Layout, wanted: Sequence[int]) -> NDArray[Any]:
    """H x W x len(wanted) of `layout.dtype`, the samples `wanted`."""
    out = np.empty((layout.height, layout.width, len(wanted)), layout.dtype)
    width, rows = layout.segment
    across, down = -(-layout.width // width), -(-layout.height // rows)
    passes: list[tuple[slice, int, slice | list[int]]] = [(slice(None), 0, _as_slice(wanted))]
    if layout.planar:
        passes = [(slice(n, n + 1), sample, slice(1)) for n, sample in enumerate(wanted)]
    for place, plane, samples in passes:
        for first, values in _unpacked(file, layout, plane * across * down, across * down):
            for n in range(first, first + len(values) // rows + (len(values) % rows > 0)):
                y, x = n // across * rows, n % across * width
                part = out[y : y + rows, x : x + width, place]
                part[:] = values[(n - first) * rows :][: part.shape[0], : part.shape[1], samples]
    return out


def read_picture(file: BinaryIO, tags: Tags, layout: Layout) -> tuple[UInt8, Layout]:
    """H x W x samples of what JPEG or fax has compressed, and the layout of these, in which YCbCr is RGB already.

    libtiff unpacks each plane as a kind of picture that has as many samples and is not converted.
    """
    samples = 1 if layout.planar else layout.samples
    ycbcr = layout.photometric == 6 and not layout.planar
    bits, most = (8, 4) if layout.compression == 7 else (1, 1)
    if layout.kind != "u" or layout.bits != bits or samples > most or (ycbcr and samples != 3):
        name = COMPRESSIONS[layout.compression]
        raise ImageError(f"the TIFF file is compressed by {name} and has {layout.what}, which is not read")
    copied = (Tag.T4_OPTIONS, Tag.T6_OPTIONS, Tag.JPEG_TABLES, Tag.YCBCR_SUBSAMPLING)
    kept: dict[int, Sequence[int]] = {
        **{tag: tags.all(tag) for tag in copied if tag in tags.values},
        **dict(zip(_SEGMENT[layout.tiled], ([side] for side in layout.segment), strict=True)),
        Tag.WIDTH: [layout.width],
        Tag.LENGTH: [layout.height],
        Tag.BITS_PER_SAMPLE: [bits] * samples,
        Tag.COMPRESSION: [layout.compression],
        Tag.PHOTOMETRIC: [6 if ycbcr else _UNCONVERTED[samples]],
        Tag.SAMPLES_PER_PIXEL: [samples],
        **({Tag.EXTRA_SAMPLES: [2]} if samples == 2 else {}),
    }
    across, down = (
        -(-whole // part) for whole, part in zip((layout.width, layout.height), layout.segment, strict=True)
    )
    count, size = across * down, layout.segment[0] * layout.segment[1] * samples
    if sum(layout.counts.tolist()) > file.seek(0, 2):
        raise truncated("TIFF")
    planes = [range(n * count, (n + 1) * count) for n in range(layout.samples if layout.planar else 1)]
    pictures = [_made_up(kept, _pieces(file, layout, plane, size, size * count), layout.tiled) for plane in planes]
    values = np.dstack([np.asarray(picture) for picture in pictures]).astype(np.uint8, copy=False)
    return values, replace(layout, photometric=2, subsampling=(1, 1)) if ycbcr else layout


_UNCONVERTED = {1: 1, 2: 1, 3: 2, 4: 5}
_SEGMENT = {True: (Tag.TILE_WIDTH, Tag.TILE_LENGTH), False: (Tag.WIDTH, Tag.ROWS_PER_STRIP)}


def _as_slice(wanted: Sequence[int]) -> slice | list[int]:
    """NumPy copies a slice many times as fast."""
    return slice(len(wanted)) if list(wanted) == list(range(len(wanted))) else list(wanted)


def _unpacked(file: BinaryIO, layout: Layout, start: int, count: int) -> Iterator[tuple[int, NDArray[Any]]]:
    """Of segments start to start + count, below each other: the number of the first, and rows x columns x samples."""
    width, rows = layout.segment
    step_x, step_y = layout.subsampling
    samples = 1 if layout.planar else layout.samples
    if layout.subsampling == (1, 1):
        row_bytes = (width * samples * layout.bits + 7) // 8
    else:
        row_bytes = -(-width // step_x) * (step_x * step_y + 2)
    lines = -(-rows // step_y)
    batch = min(max(1, _BATCH // (row_bytes * lines)), 2**12)
    for first in range(0, count, batch):
        last = min(first + batch, count)
        height = lines * (last - first)
        if last == count and not layout.tiled:
            height = -(-(layout.height - first * rows) // step_y)
        pieces = _pieces(file, layout, range(start + first, start + last), row_bytes * lines, row_bytes * height)
        if layout.compression == 1:
            raw = np.frombuffer(b"".join(pieces), np.uint8).reshape(height, row_bytes)
        else:
            raw = _expanded(pieces, layout.compression, row_bytes, lines, height)
        if layout.subsampling == (1, 1):
            yield first, _values(raw, layout, width, samples)
        else:
            yield first, _shared_colour(raw, step_x, step_y)


def _pieces(file: BinaryIO, layout: Layout, segments: range, size: int, total: int) -> list[bytes]:
    """What the file holds of each; not compressed, it is what their sizes ask for, whatever the counts say."""
    if len(layout.offsets) < segments.stop:
        raise ImageError("the TIFF file is damaged: strips or tiles are missing")
    pieces, end = [], file.seek(0, 2)
    for n in segments:
        offset, count = int(layout.offsets[n]), min(size, total)
        total -= count
        if layout.compression != 1:
            count = int(layout.counts[n]) if n < len(layout.counts) else 0
            if count <= 0:  # as some write it: up to what comes next
                count = int(layout.offsets[layout.offsets > offset].min(initial=end)) - offset
            count = min(count, 2 * size + 2**16)  # more is no data of this strip
        if not 0 <= offset < offset + count <= end:
            raise truncated("TIFF")
        file.seek(offset)
        piece = file.read(count)
        pieces.append(piece.translate(_REVERSED) if layout.reversed_bits else piece)
    return pieces


def _expanded(pieces: Sequence[bytes], compression: int, row_bytes: int, rows: int, height: int) -> UInt8:
    """height x row_bytes. rows: in each piece but the last, which may have fewer."""
    prepare_pillow(row_bytes * height)
    tags: dict[int, Sequence[int]] = {
        Tag.WIDTH: [row_bytes],
        Tag.LENGTH: [height],
        Tag.BITS_PER_SAMPLE: [8],
        Tag.COMPRESSION: [compression],
        Tag.PHOTOMETRIC: [1],
        Tag.SAMPLES_PER_PIXEL: [1],
        Tag.ROWS_PER_STRIP: [rows],
    }
    return np.array(_made_up(tags, pieces, tiled=False))


def _made_up(tags: dict[int, Sequence[int]], pieces: Sequence[bytes], tiled: bool) -> TiffImageFile:
    """A little-endian TIFF in memory, of the strips or tiles `pieces`, as Pillow opens it."""
    ends = np.cumsum([8, *map(len, pieces)])
    offsets, counts = (324, 325) if tiled else (273, 279)
    entries = sorted({**tags, offsets: ends[:-1].tolist(), counts: list(map(len, pieces))}.items())
    table, values = struct.pack("<H", len(entries)), b""
    place = int(ends[-1]) + 2 + 12 * len(entries) + 4
    for tag, numbers in entries:
        kind, letter = (7, "B") if tag == Tag.JPEG_TABLES else (4, "I")
        content = struct.pack(f"<{len(numbers)}{letter}", *numbers)
        if len(content) > 4:
            content, values = struct.pack("<I", place + len(values)), values + content
        table += struct.pack("<HHI4s", tag, kind, len(numbers), content)
    header = struct.pack("<2sHI", b"II", 42, ends[-1])
    return TiffImageFile(BytesIO(b"".join((header, *pieces, table, bytes(4), values))), "")


def _values(raw: UInt8, layout: Layout, width: int, samples: int) -> NDArray[Any]:
    """rows x bytes -> rows x width x samples."""
    predictor = layout.predictor or 1 if layout.compression in _PREDICTED else 1
    shape = (len(raw), width, samples)
    if layout.bits % 8 or predictor not in (1, 2, 3) or (predictor == 3) > (layout.kind == "f"):
        if predictor != 1:
            raise ImageError(f"the TIFF file has a predictor that is not read: {predictor} of {layout.what}")
        return _of_bits(raw, layout.bits, width * samples).reshape(shape)
    size = layout.bits // 8
    if predictor == 3:  # bytes are differences, the high bytes of a row first
        raw = np.add.accumulate(raw.reshape(len(raw), -1, samples), axis=1, dtype=np.uint8)
        raw = raw.reshape(len(raw), size, -1).transpose(0, 2, 1)
    order = ">" if predictor == 3 else layout.order
    values = np.ascontiguousarray(raw).view(f"{order}{layout.kind}{size}").astype(layout.dtype, copy=False)
    if predictor != 2:
        return values.reshape(shape)
    steps = values.view(f"u{size}").reshape(shape)
    return np.add.accumulate(steps, axis=1, dtype=steps.dtype).view(layout.dtype)


def _of_bits(raw: UInt8, bits: int, columns: int) -> NDArray[Any]:
    """rows x bytes, filled from the high bit on -> rows x columns."""
    size = 8 if bits <= 8 else 16
    found = [np.empty((0, columns), np.uint8 if size == 8 else np.uint16)]
    for part in np.array_split(raw, 1 + raw.size * 8 // _BATCH):
        each = np.unpackbits(part, axis=1)[:, : columns * bits].reshape(len(part), columns, bits)
        packed = np.packbits(np.pad(each, ((0, 0), (0, 0), (size - bits, 0))), axis=2)
        found.append(packed.view(f">u{size // 8}")[..., 0])
    return np.concatenate(found)


def _shared_colour(raw: UInt8, across: int, down: int) -> UInt8:
    """YCbCr of 8 bits whose units are across x down values of Y, then Cb and Cr -> rows x columns x 3."""
    units = raw.reshape(len(raw), -1, across * down + 2)
    rows, columns = len(raw) * down, units.shape[1] * across
    luma = units[..., :-2].reshape(len(raw), -1, down, across).transpose(0, 2, 1, 3).reshape(rows, columns)
    chroma = units[..., -2:].repeat(down, axis=0).repeat(across, axis=1)
    return np.dstack([luma, chroma])
