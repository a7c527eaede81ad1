"""Images that a SAM has encoded, and the masks of prompts on them. Nothing here changes when it is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from pipelines.errors import UsageError
from pipelines.sam.axis import LOW_RES_SIDE
from pipelines.sam.choice import SINGLE, MaskChoice
from pipelines.sam.chunks import Chunks
from pipelines.sam.frame import Frame
from pipelines.sam.masks import LowResMasks, Upscaler
from pipelines.sam.network import Decoded, EncodedImages, Prompts
from pipelines.sam.prompting import PixelPrompts
from pipelines.sam.rules import NO_BOX, MaskRules
from pipelines.types import Bool, Float32, Int64, Masks, check_finite

R = TypeVar("R")
PIECE, GPU_PIECE = 256, 1024
"""Low-res masks of one image, 256 KiB each, that are held together."""

Tell = Callable[[int], None]
"""Called with the number of prompts whenever some more have been decoded."""


def tell_nobody(count: int) -> None:
    """For those who do not want to know."""


class Prediction(NamedTuple):
    """masks: N x K x H x W bool; predicted_iou: N x K float32; low_res_masks: N x K x 256 x 256 float32 logits.

    Of a prompt in segment-anything's own names, all without N.
    """

    masks: Bool
    predicted_iou: Float32
    low_res_masks: Float32


class Candidates(NamedTuple):
    """M masks of single clicks. prompts: M int64, each one's click; predicted_iou: M float32; low_res: M x 256 x 256
    float32 logits, on the device. These were chosen of clicks x each masks; best_iou: the best predicted IoU of all of
    them.
    """

    prompts: Int64
    predicted_iou: Float32
    low_res: Tensor
    clicks: int
    each: int
    best_iou: float


@dataclass(frozen=True)
class Decoding:
    """How prompts are answered. chunks: how many at once; choice: by which of their masks; rules: see `MaskRules`."""

    device: torch.device
    chunks: Chunks
    choice: MaskChoice
    rules: MaskRules


@dataclass(frozen=True)
class Encoded:
    """B images, ready for prompts. embeddings: B x 256 x 64 x 64, on the device.

    places: which of those that the network holds in `images` they are. What is asked of one image is asked of the
    first.
    """

    frames: tuple[Frame, ...]
    embeddings: Tensor
    images: EncodedImages
    places: tuple[int, ...]
    decoding: Decoding

    def take(self, which: Sequence[int]) -> Encoded:
        """Some of the images, by number."""
        frames, places = tuple(self.frames[i] for i in which), tuple(self.places[i] for i in which)
        return replace(self, frames=frames, embeddings=self.embeddings[list(which)], places=places)

    def each(self) -> list[Encoded]:
        """The images one by one."""
        return [self.take([i]) for i in range(len(self.frames))]

    @property
    def upscaler(self) -> Upscaler:
        """From low-res logits to the first image's own size."""
        frame = self.frames[0]
        return Upscaler(frame.height, frame.width, self.decoding.device, frame.fit)

    @torch.inference_mode()
    def predict(
        self, prompts: PixelPrompts, *, multimask_output: bool = True, hq_token_only: bool = False
    ) -> Prediction:
        """The masks of N prompts on the first image: several for each, three of most SAMs, or one (K = 1).

        hq_token_only: of a choice with a `detail` token, that token's mask alone.
        """
        choice, frame, upscaler = self.decoding.choice, self.frames[0], self.upscaler
        which = choice.multi if multimask_output else SINGLE
        detail = choice.detail if hq_token_only else None

        def full(decoded: Decoded) -> tuple[Bool, Float32, Float32]:
            ranked = choice.ranked(decoded, which)
            low_res = ranked.masks() if detail is None else decoded.masks(torch.full_like(ranked.tokens, detail))
            masks = upscaler.to_logits(low_res) > 0
            return masks.cpu().numpy(), decoded.iou.gather(1, ranked.tokens).cpu().numpy(), low_res.cpu().numpy()

        parts = list(self._decode(self._joined(self._in_frame([prompts])), full))
        if not parts:
            k = 1 if choice.best_alone else len(which)
            shapes = ((0, k, frame.height, frame.width), (0, k), (0, k, LOW_RES_SIDE, LOW_RES_SIDE))
            return Prediction(np.zeros(shapes[0], bool), *(np.zeros(shape, np.float32) for shape in shapes[1:]))
        return Prediction(*map(np.concatenate, zip(*parts, strict=True)))

    @torch.inference_mode()
    def segment(self, asked: Sequence[PixelPrompts], tell: Tell = tell_nobody) -> list[LowResMasks]:
        """One mask per prompt, the best by the SAM's choice, by `rules`, of all images.

        asked: for each image boxes, or points and labels; the same for all images, and P the same. On a GPU this
        returns before it is done. Of an image with more than `PIECE` prompts the masks are upscaled as they come, all
        but the last piece, so that memory does not grow with their number. Raises UsageError where `rules` ask for the
        boxes' surroundings, which clicks have not.
        """
        decoding = self.decoding
        windows = [self._windows(frame, prompts) for frame, prompts in zip(self.frames, asked, strict=True)]
        each = self._in_frame(asked)
        together = self._joined(each)

        def best(decoded: Decoded) -> tuple[Tensor, Tensor]:
            best = decoding.choice.best(decoded, boxes=together.boxes is not None)
            return best.masks()[:, 0], best.scores[:, 0]

        rows = _Rows(self._decode(together, best, tell=tell), decoding.device)

        def taken(frame: Frame, windows: Int64 | None, part: slice, earlier: Sequence[Masks] = ()) -> LowResMasks:
            low_res, iou = rows.take(part.stop - part.start)
            on_gpu = decoding.device.type == "cuda"
            ready = torch.cuda.current_stream(decoding.device).record_event() if on_gpu else None
            within = None if windows is None else windows[part]
            return LowResMasks(frame, low_res, iou, ready, earlier, within, decoding.rules.min_mask_region_area)

        piece = PIECE if decoding.device.type == "cpu" else GPU_PIECE
        found = []
        for frame, within, count in zip(self.frames, windows, map(len, each), strict=True):
            starts = range(0, max(count, 1), piece)
            earlier = [taken(frame, within, slice(start, start + piece)).upscale() for start in starts[:-1]]
            found.append(taken(frame, within, slice(starts[-1], count), earlier))
        return found

    def segment_boxes(self, boxes: ArrayLike) -> Masks:
        """One mask per box (N x 4 xyxy pixels) of the first image: the fast path of `segment`."""
        return self.segment([PixelPrompts(boxes=boxes)])[0].upscale()

    def segment_points(self, points: ArrayLike, labels: ArrayLike) -> Masks:
        """One mask per prompt of clicks (points N x P x 2 pixels, labels N x P), as `segment_boxes`."""
        return self.segment([PixelPrompts(points=points, labels=labels)])[0].upscale()

    @torch.inference_mode()
    def candidates(
        self, points: ArrayLike, *, min_iou: float, at_once: int, tell: Tell = tell_nobody
    ) -> Iterator[Candidates]:
        """The masks, of those that each click (points N x 2 pixels) gives, whose score is above `min_iou`.

        Clicks are decoded `at_once` or fewer at a time; each time gives one Candidates, perhaps without masks. Clicks
        without such a mask are never upscaled. Raises ImageError when the network's answer holds other than finite
        numbers.
        """
        choice = self.decoding.choice
        clicks = np.asarray(points, np.float32).reshape(-1, 1, 2)

        def likely(decoded: Decoded) -> Candidates:
            ranked = choice.ranked(decoded, choice.multi)
            iou = ranked.scores
            check_finite("a predicted IoU", bool(torch.isfinite(iou).all()))
            good = iou > min_iou
            prompts = good.any(1).nonzero()[:, 0]
            low_res = torch.zeros(0, LOW_RES_SIDE, LOW_RES_SIDE, device=self.decoding.device)
            if len(prompts):
                low_res = ranked.take(prompts).masks()[good[prompts]]
                check_finite("a mask", bool(torch.isfinite(low_res).all()))
            owners = good.nonzero()[:, 0].cpu().numpy()
            return Candidates(owners, iou[good].cpu().numpy(), low_res, len(iou), iou.shape[1], float(iou.max()))

        start = 0
        asked = PixelPrompts(points=clicks, labels=np.ones(clicks.shape[:2]))
        prompts = self._joined(self._in_frame([asked]))
        for found in self._decode(prompts, likely, at_once, tell):
            yield found._replace(prompts=found.prompts + start)
            start += found.clicks

    def _in_frame(self, asked: Sequence[PixelPrompts]) -> list[Prompts]:
        """The prompts of each image in the network's frame; of fewer images than these, of the first ones."""
        return [prompts.in_frame(frame, self.decoding.device) for prompts, frame in zip(asked, self.frames)]  # noqa: B905

    def _joined(self, each: Sequence[Prompts]) -> Prompts:
        """The prompts of the first image, of the second, ..., which know their image."""
        joined = Prompts.join(each)
        return replace(joined, images=tuple(self.places[i] for i in joined.images or ()))

    def _windows(self, frame: Frame, asked: PixelPrompts) -> Int64 | None:
        """Where the masks of an image's prompts are looked for; None: everywhere."""
        margin = self.decoding.rules.box_margin
        if margin is None:
            return None
        if asked.boxes is None:
            raise UsageError(NO_BOX)
        return frame.windows(asked.boxes, margin)

    def _decode(
        self,
        prompts: Prompts,
        then: Callable[[Decoded], R],
        at_once: int | None = None,
        tell: Tell = tell_nobody,
    ) -> Iterator[R]:
        """What `then` makes of the prompts, decoded in parts of at most `at_once`, smaller when memory runs out."""

        def part(start: int, size: int) -> R:
            made = then(self.images.decode(prompts.part(start, size)))
            tell(size)
            return made

        return self.decoding.chunks(len(prompts), part, at_once)


class _Rows:
    """Low-res masks and their predicted IoU, which come in parts, in parts of other sizes."""

    def __init__(self, parts: Iterator[tuple[Tensor, Tensor]], device: torch.device) -> None:
        self._parts = parts
        self._low_res = torch.zeros(0, LOW_RES_SIDE, LOW_RES_SIDE, device=device)
        self._iou = torch.zeros(0, device=device)

    def take(self, count: int) -> tuple[Tensor, Tensor]:
        """The next `count`: N x 256 x 256 and N."""
        low_res, iou = self._low_res.new_empty(count, LOW_RES_SIDE, LOW_RES_SIDE), self._iou.new_empty(count)
        taken = 0
        while taken < count:
            if not len(self._iou):
                self._low_res, self._iou = next(self._parts)
            more = min(count - taken, len(self._iou))
            low_res[taken : taken + more], iou[taken : taken + more] = self._low_res[:more], self._iou[:more]
            self._low_res, self._iou = self._low_res[more:], self._iou[more:]
            taken += more
        return low_res, iou
