"""From low-res mask logits to full-size masks, touching only the region that can hold the mask.

SAM upscales 256 x 256 logits bilinearly to 1024 x 1024, crops what is not padding, resizes bilinearly to the original
size and thresholds. Both resizes are linear and separable, so together they are one matrix per axis, whose rows read
two or three neighbouring sources. An interpolated value is a weighted mean of its sources: where no source is above a
threshold the result is not either, and those rows and columns are never computed.

Some families resize otherwise, see `pipelines.sam.frame.Fit`. Bicubic weights are partly negative, so that a value can
leave the range of its sources, by at most a share of that range: it is added to what a source stands for.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.rle import from_runs, region_runs
from pipelines.sam.axis import LOW_RES_SIDE, axis_of, spans_of
from pipelines.sam.chunks import Chunks, Item
from pipelines.sam.frame import PADDED, Fit, Frame
from pipelines.sam.prompt_encoder import PROMPT_SIDE
from pipelines.sam.regions import without_small_regions
from pipelines.sam.run_lengths import compressed
from pipelines.types import Float32, Int64, Masks, Rle, check_finite

STABILITY_OFFSET = 1.0
"""The stability score compares the mask at logits above +offset with the mask above -offset."""
PIXELS_AT_ONCE = 1 << 26
"""Pixels of masks that a GPU upscales and encodes together."""

_SOURCES = np.ones((3, 3), np.uint8)
_CUBIC_SOURCES = np.ones((5, 5), np.uint8)
_CUBIC_REACH = 7
"""Sources, in a row, that hold all four of any output that reads the middle one."""


@dataclass(frozen=True)
class LogitWindow:
    """Logits of a part of an image: w x h float32, transposed: logits[x, y] is that of the pixel (x0 + x, y0 + y)."""

    logits: Float32
    x0: int
    y0: int

    def stability(self, offset: float = STABILITY_OFFSET) -> float:
        """Pixels above `offset` per pixel above -`offset` (segment-anything's definition); 0 where there are none."""
        larger = np.count_nonzero(self.logits > -offset)
        return np.count_nonzero(self.logits > offset) / larger if larger else 0.0

    def rle(self, height: int, width: int, x0: int = 0, y0: int = 0) -> Rle:
        """The mask, logit > 0, in a height x width image in which this one's top left pixel is (x0, y0)."""
        return from_runs(region_runs(self.logits > 0, x0 + self.x0, y0 + self.y0, height, width), height, width)


@dataclass(frozen=True)
class LowResMasks:
    """One image's masks, chosen but not yet of its size. low_res: N x 256 x 256 logits and predicted_iou: N, on the
    device, where they are complete at the event `ready` (None on a CPU). earlier: those before them, where there are
    many. windows: N x 4, see `Frame.windows`: nothing outside counts; None: all counts. min_mask_region_area: see
    `MaskRules`.
    """

    frame: Frame
    low_res: Tensor
    predicted_iou: Tensor
    ready: torch.cuda.Event | None = None
    earlier: Sequence[Masks] = ()
    windows: Int64 | None = None
    min_mask_region_area: int = 0

    @torch.inference_mode()
    def upscale(self) -> Masks:
        """The masks in the image's own size. In another thread it runs beside the network's next work.

        Raises ImageError when the network's answer holds other than finite numbers.
        """
        with _after(self.ready, self.low_res.device):
            finite = torch.isfinite(self.low_res).all()
            upscaler = Upscaler(self.frame.height, self.frame.width, self.low_res.device, self.frame.fit)
            rles, stabilities = upscaler.to_masks(self.low_res, self.windows)
            check_finite("a mask", bool(finite))
            if self.min_mask_region_area:
                rles = [without_small_regions(mask, self.min_mask_region_area) for mask in rles]
            last = Masks(tuple(rles), self.predicted_iou.float().cpu().numpy(), stabilities)
        parts = [*self.earlier, last]
        return Masks(
            tuple(mask for part in parts for mask in part.rles),
            np.concatenate([part.predicted_iou for part in parts]),
            np.concatenate([part.stability_score for part in parts]),
        )


@contextmanager
def _after(event: torch.cuda.Event | None, device: torch.device) -> Iterator[None]:
    """On a GPU, a stream that waits for `event`, and for nothing that other threads ask for later."""
    if event is None:
        yield
        return
    stream = _stream(device, threading.get_ident())
    stream.wait_event(event)
    with torch.cuda.stream(stream):
        yield


@lru_cache
def _stream(device: torch.device, thread: int) -> torch.cuda.Stream:
    """One for each thread, as a stream keeps the memory that it has used."""
    return torch.cuda.Stream(device)


class Upscaler:
    """Low-res logits to the frame of one image of height x width pixels."""

    def __init__(self, height: int, width: int, device: torch.device, fit: Fit = PADDED) -> None:
        self.size = (height, width)
        side = LOW_RES_SIDE if fit.direct else PROMPT_SIDE
        rows, columns = fit.size(height, width, side)
        self.rows = axis_of(height, ((side, rows),), fit.upscaling, device)
        self.columns = axis_of(width, ((side, columns),), fit.upscaling, device)
        # of the negative weights that a pixel can have
        self.beyond = (self.rows.weight * self.columns.weight - 1) / 2

    def to_logits(self, low_res: Tensor) -> Tensor:
        """... x 256 x 256 logits -> ... x height x width logits."""
        return self.rows.matrix @ low_res.float() @ self.columns.matrix.T

    def logits_at(self, low_res: Tensor, rows: Int64, columns: Int64) -> Tensor:
        """N x 256 x 256 logits -> N x P logits of P pixels, given by their rows and columns."""
        down, across = self.rows.matrix[rows], self.columns.matrix[columns]
        return torch.einsum("ph,nhw,pw->np", down, low_res.float(), across)

    def to_masks(self, low_res: Tensor, windows: Int64 | None = None) -> tuple[list[Rle], Float32]:
        """N x 256 x 256 logits -> N masks (logit > 0) as RLE, and their stability scores.

        windows: N x 4 (x0, y0, x1, y1) pixels, half-open: what lies outside is not looked at.
        """
        if low_res.is_cuda:
            _, rles, stabilities = self.masks_on_gpu(low_res, STABILITY_OFFSET, None, *self.size, windows=windows)
            return rles, stabilities
        found = [
            (region.rle(*self.size), region.stability())  # one after the other: each can be as large as the image
            for region in self.logit_windows(low_res, -STABILITY_OFFSET, windows)
        ]
        return [mask for mask, _ in found], np.array([stability for _, stability in found], np.float32)

    def stable_masks(
        self, low_res: Tensor, offset: float, least: float, height: int, width: int, x0: int = 0, y0: int = 0
    ) -> tuple[Int64, list[Rle], Float32]:
        """Those masks that are not empty and whose stability score is `least` or more: which of the N they are, they
        themselves in a height x width image in which this one's top left pixel is (x0, y0), and their scores.
        """
        if low_res.is_cuda:
            return self.masks_on_gpu(low_res, offset, least, height, width, x0, y0)
        hopeful = np.flatnonzero(self.stability_bound(low_res, offset) >= least)
        indices, rles, stabilities = [], [], []
        for i, region in zip(hopeful, self.logit_windows(low_res[hopeful], -offset), strict=True):
            stability = np.float32(region.stability(offset))
            if stability >= least and (region.logits > 0).any():
                indices.append(i)
                rles.append(region.rle(height, width, x0, y0))
                stabilities.append(stability)
        return np.array(indices, np.int64), rles, np.array(stabilities, np.float32)

    def masks_on_gpu(
        self,
        low_res: Tensor,
        offset: float,
        least: float | None,
        height: int,
        width: int,
        x0: int = 0,
        y0: int = 0,
        windows: Int64 | None = None,
    ) -> tuple[Int64, list[Rle], Float32]:
        """As `stable_masks`, or without `least` of all masks, whole ones together: on a GPU that takes less time than
        to choose what to compute. windows: see `to_masks`.
        """

        def part(start: int, size: int) -> tuple[Int64, list[Rle], Float32]:
            logits = self.columns.matrix @ low_res[start : start + size].float().mT @ self.rows.matrix.T
            if windows is not None:
                logits.masked_fill_(self._outside(torch.from_numpy(windows[start : start + size])), -torch.inf)
            inner, outer = ((logits > level).sum((1, 2)) for level in (offset, -offset))
            stability = (inner.double() / outer.clamp(min=1)).float()
            masks = logits > 0
            if least is not None:
                kept = ((stability >= least) & masks.any(2).any(1)).nonzero()[:, 0]
                masks, stability = masks[kept], stability[kept]
            else:
                kept = torch.arange(size, device=masks.device)
            rles = compressed(masks, x0, y0, height, width)
            return (start + kept).cpu().numpy(), rles, stability.cpu().numpy()

        pixels = self.size[0] * self.size[1]
        chunks = Chunks(Item(usual=max(PIXELS_AT_ONCE // pixels, 1), bytes=24 * pixels), low_res.device)
        kept, stabilities, rles = np.zeros(0, np.int64), np.zeros(0, np.float32), []
        for indices, masks, scores in chunks(len(low_res), part):
            kept, stabilities = np.concatenate([kept, indices]), np.concatenate([stabilities, scores])
            rles += masks
        return kept, rles, stabilities

    def stability_bound(self, low_res: Tensor, offset: float = STABILITY_OFFSET) -> Float32:
        """N x 256 x 256 logits -> N upper bounds of the stability scores, without upscaling.

        A pixel above `offset` has a source above it, and one whose sources all exceed -`offset` exceeds it too.
        """
        rows, columns = self.rows.pixels, self.columns.pixels
        near = _CUBIC_SOURCES if self.beyond else _SOURCES
        low_res = low_res.float()
        bounds = []
        for highest, lowest in zip(self._highest(low_res), -self._highest(-low_res), strict=True):
            most = rows @ cv2.dilate((highest > offset).cpu().numpy().view(np.uint8), near) @ columns
            least = rows @ cv2.erode((lowest > -offset).cpu().numpy().view(np.uint8), near) @ columns
            bounds.append(min(most / least, 1) if least else 1.0)
        return np.array(bounds, np.float32)

    def _highest(self, low_res: Tensor) -> Tensor:
        """N x 256 x 256 -> the same: no pixel exceeds the greatest of its sources'."""
        if not self.beyond:
            return low_res
        lowest = -F.max_pool2d(-low_res[:, None], _CUBIC_REACH, 1, _CUBIC_REACH // 2)[:, 0]  # also of no masks
        return low_res + self.beyond * (low_res - lowest)

    def _outside(self, windows: Tensor) -> Tensor:
        """N x 4 windows -> N x width x height, whether a pixel lies outside of them."""
        x, y = self.columns.matrix.new_tensor(range(self.size[1])), self.rows.matrix.new_tensor(range(self.size[0]))
        x0, y0, x1, y1 = windows.to(x.device).T[:, :, None]
        outside = (x < x0) | (x >= x1)
        return outside[:, :, None] | ((y < y0) | (y >= y1))[:, None, :]

    def logit_windows(self, low_res: Tensor, level: float, windows: Int64 | None = None) -> Iterator[LogitWindow]:
        """N x 256 x 256 logits -> N regions, outside of which they do not exceed `level`, or are not looked at."""
        low_res = low_res.float()
        possible = self._highest(low_res) > level
        spans = zip(spans_of(possible.any(2)), spans_of(possible.any(1)), strict=True)
        everywhere = ((0, 0, self.size[1], self.size[0]),) * len(low_res)
        within = everywhere if windows is None else windows.tolist()
        for logits, (rows, columns), (x0, y0, x1, y1) in zip(low_res, spans, within, strict=True):
            left, right = self.columns.reach(columns)
            top, bottom = self.rows.reach(rows)
            yield self.logit_window(logits, max(left, x0), min(right, x1), max(top, y0), min(bottom, y1))

    def logit_window(self, logits: Tensor, x0: int, x1: int, y0: int, y1: int) -> LogitWindow:
        """256 x 256 logits -> those of the image's pixels x0 <= x < x1, y0 <= y < y1."""
        if x0 >= x1 or y0 >= y1:
            return LogitWindow(np.zeros((0, 0), np.float32), x0, y0)
        across = self.columns.interpolate(logits[self.rows.sources(y0, y1), self.columns.sources(x0, x1)], x0, x1)
        return LogitWindow(self.rows.interpolate(across.T, y0, y1).cpu().numpy(), x0, y0)
