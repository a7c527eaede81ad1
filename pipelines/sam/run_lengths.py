"""COCO's run-length encoding of masks that are parts of an image; of many at once, on the device that they are on, so
that only its characters leave it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.types import Rle

_MOST_CHARACTERS = 7


def compressed(masks: Tensor, x0: int, y0: int, height: int, width: int) -> list[Rle]:
    """N x w x h bool, transposed, each at (x0, y0) of a height x width image -> N masks. See `pipelines.rle`."""
    if not len(masks):
        return []
    if not masks.numel():
        masks, x0, y0 = masks.new_zeros(len(masks), 1, 1), 0, 0
    owner, start, stop = _spans(masks, x0, y0, height)
    owner, place, counts = _counts(owner, start, stop, len(masks), height * width)
    before = F.pad(counts, (2, 0))[:-2]
    characters, lengths = _characters(torch.where(place > 2, counts - before, counts))
    sizes = torch.zeros(len(masks), dtype=torch.int64, device=masks.device).index_add_(0, owner, lengths).tolist()
    text = characters.cpu().numpy().tobytes().decode("ascii")
    found, at = [], 0
    for size in sizes:
        found.append(Rle(size=[height, width], counts=text[at : at + size]))
        at += size
    return found


def _spans(masks: Tensor, x0: int, y0: int, height: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of every run of foreground its mask, and its first and last-but-one pixel, counted down the columns."""
    _, w, h = masks.shape
    flat = F.pad(masks, (0, 1)).flatten()  # the extra pixel ends a run at the end of its column
    edges = (flat ^ F.pad(flat, (1, 0))[:-1]).nonzero()[:, 0]
    column, row = edges // (h + 1), edges % (h + 1)
    position = (x0 + column % w) * height + y0 + row
    start, stop, owner = position[0::2], position[1::2], column[0::2] // w
    apart = (start[1:] != stop[:-1]) | (owner[1:] != owner[:-1])  # full-height columns that touch are one run
    first, last = F.pad(apart, (1, 0), value=True)[: len(start)], F.pad(apart, (0, 1), value=True)[: len(start)]
    return owner[first], start[first], stop[last]


def _counts(owner: Tensor, start: Tensor, stop: Tensor, masks: int, pixels: int) -> tuple[Tensor, Tensor, Tensor]:
    """Uncompressed runs, mask after mask, from one of background on: of each its mask, its place there, its length."""
    each = torch.zeros(masks, dtype=torch.int64, device=owner.device).index_add_(0, owner, torch.ones_like(owner))
    begin = F.pad((2 * each + 1).cumsum(0), (1, 0))
    end = begin[1:] - 1
    total = 2 * len(owner) + masks
    bounds = torch.full((total,), pixels, dtype=torch.int64, device=owner.device)
    at = owner + 2 * torch.arange(len(owner), device=owner.device)
    bounds[at], bounds[at + 1] = start, stop
    before = F.pad(bounds, (1, 0))[:-1]
    before[begin[:-1]] = 0
    counts = bounds - before
    owner = torch.repeat_interleave(torch.arange(masks, device=owner.device), 2 * each + 1, output_size=total)
    place = torch.arange(total, device=owner.device) - begin[owner]
    last = torch.zeros(total, dtype=torch.bool, device=owner.device)
    last[end] = True
    kept = ~last | (counts > 0)
    return owner[kept], place[kept], counts[kept]


def _characters(values: Tensor) -> tuple[Tensor, Tensor]:
    """Characters of five bits each, the lowest first, the last one signed, in a row; and how many each value has."""
    size = torch.where(values < 0, ~values, values)
    limits = torch.tensor([1 << (5 * n - 1) for n in range(1, _MOST_CHARACTERS)], device=values.device)
    lengths = 1 + torch.bucketize(size, limits, right=True)
    ends = lengths.cumsum(0)
    total = int(ends[-1])
    of = torch.repeat_interleave(torch.arange(len(values), device=values.device), lengths, output_size=total)
    number = torch.arange(total, device=values.device) - (ends - lengths)[of]
    more = number < lengths[of] - 1
    return ((values[of] >> (5 * number) & 31) + 32 * more + 48).to(torch.uint8), lengths
