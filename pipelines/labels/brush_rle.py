"""Label Studio's brushes: RGBA pixels packed by thi.ng/rle-pack; the mask is where alpha is not 0.

The stream, in bits, highest first: how many values there are (32), bits of a value less one (5), bits of each of four
kinds of run length less one (4 x 4); then, until all values are there, runs: whether one value is repeated (1), the
kind of its length (2), the length less one, and the value, or one for each. Format: label_studio_sdk,
converter/brush.py (decode_rle), after https://github.com/thi-ng/umbrella, packages/rle-pack.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pipelines import coco, rle
from pipelines.errors import DataError
from pipelines.types import Bool, Rle

_HEAD = 53
"""Bits before the first run."""


def mask_of_brush(packed: Any, width: int, height: int) -> Rle:
    """packed: a list of bytes, as it stands in the JSON. Raises DataError for what is none of that size."""
    if not isinstance(packed, list) or not all(type(byte) is int and 0 <= byte < 256 for byte in packed):
        raise DataError(f"'rle' is {coco.told(packed)}, not a list of bytes")
    data = bytes(packed)
    if len(data) * 8 < _HEAD:
        raise DataError("'rle' is too short")
    bits = _Bits(data)
    count, word = bits.take(32), bits.take(5) + 1
    if count != 4 * width * height or word != 8:
        raise DataError(f"'rle' holds {count} values of {word} bits, not the RGBA pixels of {width} x {height}")
    lengths = [bits.take(4) + 1 for _ in range(4)]
    mask = np.zeros(width * height, np.bool_)
    done = 0
    while done < count:
        repeated = bits.take(1)
        stop = done + 1 + bits.take(lengths[bits.take(2)])
        if stop > count:
            raise DataError(f"'rle' holds more than the pixels of {width} x {height}")
        pixels = slice(done // 4, stop // 4)  # those whose alpha, the last of their four values, is in the run
        if repeated:
            mask[pixels] = bits.take(8) != 0
        else:
            values = bits.bytes(stop - done)
            mask[pixels] = values[(3 - done) % 4 :: 4] != 0
        done = stop
    return _encoded(mask.reshape(height, width))


def _encoded(mask: Bool) -> Rle:
    """Of the rows alone that hold any of it: a brush is small."""
    height, width = mask.shape
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return rle.from_runs([height * width], height, width)
    return rle.from_region(mask[rows[0] : rows[-1] + 1], 0, int(rows[0]), height, width)


class _Bits:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, count: int) -> int:
        """The next bits, 32 at most, as a number."""
        start, stop = self._at >> 3, (self._at + count + 7) >> 3
        if stop > len(self._data):
            raise DataError("'rle' ends before its last pixel")
        value = int.from_bytes(self._data[start:stop], "big") >> (8 * stop - self._at - count)
        self._at += count
        return value & ((1 << count) - 1)

    def bytes(self, count: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """The next bytes, wherever they start."""
        start, stop = self._at >> 3, (self._at + 8 * count + 7) >> 3
        if stop > len(self._data):
            raise DataError("'rle' ends before its last pixel")
        shift = self._at & 7
        around = np.frombuffer(self._data[start:stop], np.uint8)
        self._at += 8 * count
        if not shift:
            return around[:count]
        return (around[:-1] << shift | around[1:] >> (8 - shift)).astype(np.uint8)
