"""From low-res mask logits to full-size masks, touching only the region that can hold the mask.

SAM upscales 256 x 256 logits bilinearly to 1024 x 1024, crops what is not padding, resizes bilinearly to the original
size and thresholds. Both resizes are linear and separable, so together they are one matrix per axis. An interpolated
value is a weighted mean of its sources: where no source is above a threshold the result is not either, and those rows
and columns are never computed.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.rle import from_runs
from pipelines.sam.frame import resized
from pipelines.sam.prompt_encoder import FRAME
from pipelines.types import Bool, Rle

LOW = 256
"""Side of the low-res masks."""
STABILITY_OFFSET = 1.0
"""The stability score compares the mask at logits above +offset with the mask above -offset."""


@lru_cache(maxsize=8)
def _axis(original: int, scaled: int, device: torch.device) -> Tensor:
    """original x 256: the two resizes of one axis as a matrix, read off torch's own operator."""
    columns = torch.eye(LOW, device=device)[None, :, :, None]  # one channel per low-res position
    columns = F.interpolate(columns, size=(FRAME, 1), mode="bilinear", align_corners=False)[:, :, :scaled]
    columns = F.interpolate(columns, size=(original, 1), mode="bilinear", align_corners=False)
    return columns[0, :, :, 0].T.contiguous()


class Upscaler:
    """Low-res logits to the frame of one image of height x width pixels."""

    def __init__(self, height: int, width: int, device: torch.device) -> None:
        self.size = [height, width]
        rows, columns = resized(height, width, FRAME)
        self.rows = _axis(height, rows, device)
        self.columns = _axis(width, columns, device)

    def full(self, low_res: Tensor) -> Tensor:
        """... x 256 x 256 logits -> ... x height x width logits."""
        return self.rows @ low_res.float() @ self.columns.T

    def segment(self, low_res: Tensor) -> tuple[list[Rle], list[float]]:
        """N x 256 x 256 logits -> N masks (logit > 0) as RLE, and their stability scores.

        Stability: |logits > 1| / |logits > -1| at full size (segment-anything's definition); 0 for an empty mask.
        """
        low_res = low_res.float()
        possible = low_res > -STABILITY_OFFSET
        spans = zip(_spans(possible.any(2)), _spans(possible.any(1)), strict=True)
        results = [self._one(logits, *span) for logits, span in zip(low_res, spans, strict=True)]
        return [rle for rle, _ in results], [stability for _, stability in results]

    def _one(self, logits: Tensor, rows: tuple[int, int], columns: tuple[int, int]) -> tuple[Rle, float]:
        height, width = self.size
        y0, y1, top, bottom = _reach(self.rows, rows)
        x0, x1, left, right = _reach(self.columns, columns)
        if y0 == y1 or x0 == x1:
            return from_runs([height * width], height, width), 0.0
        region = self.columns[x0:x1, left:right] @ logits[top:bottom, left:right].T @ self.rows[y0:y1, top:bottom].T
        larger = int((region > -STABILITY_OFFSET).sum())
        smaller = int((region > STABILITY_OFFSET).sum())
        runs = region_runs((region > 0).cpu().numpy(), x0, y0, height, width)
        return from_runs(runs, height, width), smaller / larger if larger else 0.0


def _spans(occupied: Tensor) -> list[tuple[int, int]]:
    """N x S bool -> per row the half-open span from first to last True; (0, 0) when there is none."""
    marks = occupied.to(torch.uint8)
    first, last = marks.argmax(1), occupied.shape[1] - marks.flip(1).argmax(1)
    empty = ~occupied.any(1)
    return list(zip(first.masked_fill(empty, 0).tolist(), last.masked_fill(empty, 0).tolist(), strict=True))


def _reach(axis: Tensor, span: tuple[int, int]) -> tuple[int, int, int, int]:
    """The outputs that sources in `span` reach, and all the sources those outputs read: two half-open spans."""
    outputs = _spans((axis[:, span[0] : span[1]] != 0).any(1)[None])[0]
    sources = _spans((axis[outputs[0] : outputs[1]] != 0).any(0)[None])[0]
    return *outputs, *sources


def region_runs(region: Bool, x0: int, y0: int, height: int, width: int) -> list[int]:
    """COCO run lengths, column by column from a run of zeros, of a height x width mask that is `region` at (x0, y0).

    region: w x h, transposed: region[x, y] is the pixel (x0 + x, y0 + y).
    """
    w, h = region.shape
    padded = np.zeros((w, h + 1), np.bool_)  # the extra pixel ends a run at the end of its column
    padded[:, :h] = region
    flat = padded.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    if flat[0]:
        edges = np.concatenate([[0], edges])
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
