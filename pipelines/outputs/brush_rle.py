"""Label Studio's brushes: RGBA pixels, row by row, packed by thi.ng/rle-pack.

The stream, in bits, highest first: how many values there are (32), bits of a value less one (5), bits of each of four
kinds of run length less one (4 x 4); then runs of one value: 1, the kind of its length (2), the length less one, the
value. Format: label_studio_sdk, converter/brush.py, after https://github.com/thi-ng/umbrella, packages/rle-pack.
"""

from __future__ import annotations

import numpy as np

from pipelines import rle
from pipelines.types import Int64, Rle, UInt8

_CHANNELS = 4
_BITS = np.array([3, 4, 8, 16])
"""Of the four kinds of run length."""
_LONGEST = 2**16


def brush_of_mask(mask: Rle) -> list[int]:
    """The bytes: 255 in all four channels on the mask, 0 off it."""
    height, width = mask["size"]
    region, x, y = rle.decode_region(mask)
    rows = np.zeros((region.shape[0], width), np.bool_)
    rows[:, x : x + region.shape[1]] = region
    runs = rle.along_rows(rows) * _CHANNELS
    runs[0] += y * width * _CHANNELS
    rest = height * width * _CHANNELS - runs.sum()
    lengths = np.concatenate([runs, [0, rest] if len(runs) % 2 else [rest]]) if rest else runs
    values = np.where(np.arange(len(lengths)) % 2, 255, 0)
    head = [f"{_CHANNELS * height * width:032b}", f"{8 - 1:05b}", *(f"{bits - 1:04b}" for bits in _BITS)]
    bits = np.concatenate([np.array(list("".join(head)), np.uint8), _packed(*_short(lengths, values))])
    packed: list[int] = np.packbits(bits).tolist()
    return packed


def _short(lengths: Int64, values: Int64) -> tuple[Int64, Int64]:
    """Runs, none of which is longer than can be said, or of nothing."""
    times = -(-lengths // _LONGEST)
    cut = np.full(times.sum(), _LONGEST)
    last = np.cumsum(times)[times > 0] - 1
    cut[last] = (lengths - 1)[times > 0] % _LONGEST + 1
    return cut, np.repeat(values, times)


def _packed(lengths: Int64, values: Int64) -> UInt8:
    """A bit in each byte."""
    kinds = np.searchsorted(2 ** _BITS[:-1], lengths)
    bits = _BITS[kinds]
    codes = (((4 + kinds) << bits | (lengths - 1)) << 8) | values
    widths = 3 + bits + 8
    places = widths[:, None] - 1 - np.arange(widths.max())
    every: UInt8 = (codes[:, None] >> places.clip(0) & 1).astype(np.uint8)
    return every[places >= 0]
