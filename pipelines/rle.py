"""COCO's run-length encoding of masks, compressed: to and from arrays, whole or only where the mask is.

Runs count pixels down the columns, first column first, and start with a run of background, which may be 0 long.
Compression writes each run as its difference to the run two before it, five bits to an ASCII character. Format:
pycocotools (common/maskApi.c, rleToString), which also does the encoding here; every mask here is a COCO `Rle`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import cv2
import hotcoco
import numpy as np
from pycocotools import mask as coco_mask

from pipelines.errors import DataError
from pipelines.types import Bool, Int64, Rle

_MOST_CHARACTERS = 7  # of one run: 35 bits hold any image's


def encode(mask: Bool) -> Rle:
    """H x W bool -> Rle."""
    return _rle(coco_mask.encode(np.asfortranarray(mask, np.uint8)))  # type: ignore[no-untyped-call]


def from_runs(counts: Sequence[int] | Int64, height: int, width: int) -> Rle:
    """Uncompressed runs, which must sum to height * width -> Rle."""
    return _rle(coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width))


def region_runs(region: Bool, x0: int, y0: int, height: int, width: int) -> list[int]:
    """COCO run lengths, column by column from a run of zeros, of a height x width mask that is `region` at (x0, y0).

    region: w x h, transposed: region[x, y] is the pixel (x0 + x, y0 + y).
    """
    w, h = region.shape
    padded = np.zeros((w, h + 1), np.bool_)  # the extra pixel ends a run at the end of its column
    padded[:, :h] = region
    flat = padded.ravel()
    edges = np.flatnonzero(np.diff(flat.view(np.int8), prepend=np.int8(0)))
    column, row = np.divmod(edges, h + 1)
    positions = (x0 + column) * height + y0 + row
    starts, ends = positions[0::2], positions[1::2]
    apart = starts[1:] != ends[:-1]  # full-height columns that touch are one run
    starts, ends = (
        starts[np.r_[True, apart]] if len(starts) else starts,
        ends[np.r_[apart, True]] if len(ends) else ends,
    )
    bounds = np.stack([starts, ends], axis=1).ravel()
    runs: list[int] = np.diff(bounds, prepend=0, append=height * width).tolist()
    return runs if runs[-1] else runs[:-1]


def from_region(region: Bool, x0: int, y0: int, height: int, width: int) -> Rle:
    """h x w bool, whose top left pixel is (x0, y0) of the image -> Rle: the inverse of `decode_region`."""
    return from_runs(region_runs(np.ascontiguousarray(region.T), x0, y0, height, width), height, width)


def union(rles: Sequence[Rle]) -> Rle:
    """Masks of one size, one at least -> the pixels of any."""
    return _rle(coco_mask.merge(list(rles)))


def _rle(encoded: dict[str, Any]) -> Rle:
    return Rle(size=[int(side) for side in encoded["size"]], counts=encoded["counts"].decode("ascii"))


def runs(rle: Rle) -> Int64:
    """The uncompressed runs, R int64. Raises DataError when they are not those of a mask of the stated size."""
    height, width = rle["size"]
    counts = _uncompress(rle["counts"])
    if counts is None or (counts < 0).any() or counts.sum() != height * width:
        raise DataError(f"a mask's run lengths do not fill its {width} x {height} pixels: the file is damaged")
    return counts


def check(rle: Rle) -> None:
    """Raise DataError where `runs` does; ten times as fast for most masks."""
    try:
        # hotcoco fills what runs leave empty and joins runs of nothing: equal text is that of a whole mask.
        again = hotcoco.mask.merge([dict(rle), dict(_nothing(*rle["size"]))])["counts"]
        if again.decode("ascii") == rle["counts"]:
            return
    except (ValueError, TypeError):  # no runs at all, or too long
        pass
    runs(rle)


@lru_cache(maxsize=64)
def _nothing(height: int, width: int) -> Rle:
    return from_runs([height * width], height, width)


def _uncompress(text: str) -> Int64 | None:
    """None when the text is no RLE."""
    bits = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8).astype(np.int64) - 48
    last = np.flatnonzero(bits & 0x20 == 0)  # the character that ends each run; 0x20 says that more follow
    if not len(bits) or bits.min() < 0 or bits.max() > 0x3F or last[-1:].tolist() != [len(bits) - 1]:
        return None
    first = np.concatenate([[0], last[:-1] + 1])
    lengths = last - first + 1
    if lengths.max() > _MOST_CHARACTERS:
        return None
    place = np.arange(len(bits)) - np.repeat(first, lengths)
    counts: Int64 = np.add.reduceat((bits & 0x1F) << (5 * place), first)
    counts -= np.where(bits[last] & 0x10, 1 << (5 * lengths), 0)  # the top bit of the last character is the sign
    for parity in (1, 2):  # the first three are written as they are
        counts[parity::2] = np.cumsum(counts[parity::2])
    return counts


def decode(rle: Rle) -> Bool:
    """Rle -> H x W bool. Raises DataError for a damaged mask."""
    height, width = rle["size"]
    return _fill(runs(rle), height, width)


def _fill(counts: Int64, height: int, width: int) -> Bool:
    values = (np.arange(len(counts)) & 1).astype(np.uint8)
    columns = np.repeat(values, counts).reshape(width, height)
    mask: Bool = cv2.transpose(columns).view(np.bool_) if columns.size else columns.T.view(np.bool_)
    return mask


def decode_region(rle: Rle) -> tuple[Bool, int, int]:
    """Rle -> (mask, x0, y0): only the mask's bounding box, h x w bool, whose top left pixel is (x0, y0) of the image.

    Costs as much as the box, not the image, is large. A mask without pixels gives (0 x 0, 0, 0). Raises DataError for
    a damaged mask.
    """
    height = rle["size"][0]
    bounds = np.cumsum(runs(rle))
    start, stop = bounds[0:-1:2], bounds[1::2] - 1  # first and last pixel of each run of foreground
    start, stop = start[stop >= start], stop[stop >= start]
    if not len(start):
        return np.zeros((0, 0), np.bool_), 0, 0
    (first_column, top), (last_column, bottom) = divmod(start, height), divmod(stop, height)
    x0, x1 = int(first_column[0]), int(last_column[-1]) + 1
    crosses = (first_column < last_column).any()  # a run goes from the foot of one column to the head of the next
    y0, y1 = (0, height) if crosses else (int(top.min()), int(bottom.max()) + 1)
    region_start = (first_column - x0) * (y1 - y0) + top - y0
    region_stop = (last_column - x0) * (y1 - y0) + bottom - y0 + 1
    edges = np.stack([region_start, region_stop], axis=1).ravel()
    counts = np.diff(edges, prepend=0, append=(y1 - y0) * (x1 - x0))
    return _fill(counts, y1 - y0, x1 - x0), x0, y0


def along_rows(mask: Bool) -> Int64:
    """H x W bool -> run lengths along its rows, the first row first, in turn off the mask and on it, from off."""
    edges = np.flatnonzero(np.diff(mask.ravel(), prepend=False))
    return np.diff(edges, prepend=0, append=mask.size)


def area(rle: Rle) -> int:
    """How many pixels the mask covers."""
    return int(coco_mask.area(rle))  # type: ignore[no-untyped-call]


def bbox(rle: Rle) -> list[int]:
    """The mask's bounding box, xywh in pixels; [0, 0, 0, 0] for a mask without pixels."""
    return [int(side) for side in coco_mask.toBbox(rle)]  # type: ignore[no-untyped-call]


def large_first(rles: Sequence[Rle]) -> list[int]:
    """The order in which to paint masks so that none hides a smaller one: indices, equal sizes as they come."""
    return sorted(range(len(rles)), key=lambda i: -area(rles[i]))
