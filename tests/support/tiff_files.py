"""TIFF files of every kind, by tifffile, which also reads them back: a writer and reader that is not ours."""

from __future__ import annotations

import itertools
import struct
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from pipelines.images.load import load
from pipelines.images.sources import ImageSource
from pipelines.types import Image

HEIGHT, WIDTH = 37, 50  # no multiple of a tile, of a strip or of 8 pixels
LAYOUTS = [{}, {"rowsperstrip": 5}, {"tile": (16, 32)}, {"tile": (64, 64)}]
CONTAINERS = [{"byteorder": order, "bigtiff": big} for order in "<>" for big in (False, True)]
COMPRESSIONS = [
    {},
    {"compression": "lzw"},
    {"compression": "deflate"},
    {"compression": "packbits"},
    {"compression": "lzma"},
    {"compression": "lzw", "predictor": 2},
    {"compression": "deflate", "predictor": 2},
]
REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def written(path: Path, values: np.ndarray, **options: Any) -> Path:
    """values: H x W x bands; with planarconfig="separate" they are written band by band."""
    values = values[..., 0] if values.shape[2] == 1 else values
    if options.get("planarconfig") == "separate":
        values = np.ascontiguousarray(np.moveaxis(values, 2, 0))
    tifffile.imwrite(path, values, metadata=None, **options)
    return path


def stored(path: Path) -> np.ndarray:
    """H x W x bands, as tifffile reads it."""
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        values = page.asarray()
        separate = page.planarconfig == tifffile.PLANARCONFIG.SEPARATE and page.samplesperpixel > 1
        return np.moveaxis(values, 0, 2) if separate else values.reshape(page.imagelength, page.imagewidth, -1)


def loaded(path: Path, **options: bool) -> Image:
    return load(ImageSource("x", str(path)), **options)


def random(dtype: str, bands: int, bits: int | None = None) -> np.ndarray:
    rng = np.random.default_rng(bands)
    if np.dtype(dtype).kind == "f":
        return rng.normal(0, 50, (HEIGHT, WIDTH, bands)).astype(dtype)
    limits = np.iinfo(dtype)
    low, high = (0, 2**bits - 1) if bits else (limits.min, limits.max)
    return rng.integers(low, high, (HEIGHT, WIDTH, bands), np.dtype(dtype), endpoint=True)


def grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values.reshape(HEIGHT, WIDTH, 1), 3, axis=2)


def ways(*options: list[dict]) -> list[dict]:
    """Combinations, every seventh of them all: any two options meet."""
    every = [{key: value for part in parts for key, value in part.items()} for parts in itertools.product(*options)]
    return every[::7]


def packed(path: Path, values: np.ndarray, bits: int, **options: Any) -> Path:
    """One band of any number of bits: written as the bytes that they are packed in, under the tags of the samples."""
    each = np.unpackbits(values.astype(">u2").view(np.uint8).reshape(len(values), -1, 2), axis=2)[..., 16 - bits :]
    content = np.packbits(each.reshape(len(values), -1), axis=1)
    tifffile.imwrite(path, content, metadata=None, **options)
    overwrite(path, ImageWidth=values.shape[1], BitsPerSample=bits)
    return path


def overwrite(path: Path, **tags: object) -> None:
    with tifffile.TiffFile(path, mode="r+") as file:
        for name, value in tags.items():
            file.pages.first.tags[name].overwrite(value)


def without(path: Path, name: str) -> None:
    """Make a tag one that nobody knows."""
    with tifffile.TiffFile(path) as file:
        tag = file.pages.first.tags.get(name)
        order = file.byteorder
    if tag is not None:
        content = bytearray(path.read_bytes())
        struct.pack_into(order + "H", content, tag.offset, 65000)
        path.write_bytes(content)


def rewritten(path: Path, reverse: bool, tags: dict[int, int]) -> Path:
    """With other tags, and each byte of the pixels turned round when `reverse` (FillOrder 2)."""
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        pieces = list(zip(page.dataoffsets, page.databytecounts, strict=True))
        entries = {tag.code: (int(tag.dtype), tag.count, tag.value) for tag in page.tags}
    content = bytearray(path.read_bytes())
    if reverse:
        tags = {**tags, 266: 2}
        for offset, count in pieces:
            content[offset : offset + count] = content[offset : offset + count].translate(REVERSED)
    entries |= {tag: (3, 1, value) for tag, value in tags.items()}
    table = b""
    values = b""
    start = len(content)
    for tag, (kind, count, value) in sorted(entries.items()):
        if kind not in (3, 4):
            continue
        numbers = value if isinstance(value, tuple) else (int(value),)
        raw = struct.pack(f"<{count}{'H' if kind == 3 else 'I'}", *numbers)
        if len(raw) > 4:
            raw, values = struct.pack("<I", start + len(values)), values + raw
        table += struct.pack("<HHI4s", tag, kind, count, raw)
    struct.pack_into("<I", content, 4, start + len(values))
    path.write_bytes(bytes(content) + values + struct.pack("<H", len(table) // 12) + table + bytes(4))
    return path
