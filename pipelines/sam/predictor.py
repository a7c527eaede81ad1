"""The predictor: one image at a time, any number of prompts (segment-anything's manner), or several images together.

sam.set_image(rgb); sam.segment_boxes(boxes)
sam.segment_batch(sam.encode([sam.prepare(rgb), sam.prepare(other)]), [{"boxes": boxes}, {"boxes": others}])
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from pipelines.device import send
from pipelines.errors import UsageError
from pipelines.sam.choice import SINGLE
from pipelines.sam.chunks import IMAGES, PROMPTS, Chunks
from pipelines.sam.frame import Frame, preprocess
from pipelines.sam.masks import LOW, LowResMasks, Upscaler
from pipelines.sam.model import Features, Sam
from pipelines.sam.network import Decoded, EncodedImages, Network, Prompts
from pipelines.sam.rules import AS_THEY_COME, NO_BOX, MaskRules
from pipelines.sam.torch_network import TorchNetwork
from pipelines.types import Bool, Float32, Int64, Masks, UInt8, check_finite

R = TypeVar("R")
PIECE, GPU_PIECE = 256, 1024
"""Low-res masks of one image, 256 KiB each, that are held together."""


class Prediction(NamedTuple):
    """masks: N x K x H x W bool; predicted_iou: N x K float32; low_res_masks: N x K x 256 x 256 float32 logits.

    Of a prompt in segment-anything's own names, all without N.
    """

    masks: Bool
    predicted_iou: Float32
    low_res_masks: Float32


class Candidates(NamedTuple):
    """M masks of single clicks. prompts: M int64, each one's click; predicted_iou: M float32; low_res: M x 256 x 256
    float32 logits, on the predictor's device. These were chosen of clicks x each masks; best_iou: the best predicted
    IoU of all of them.
    """

    prompts: Int64
    predicted_iou: Float32
    low_res: Tensor
    clicks: int
    each: int
    best_iou: float


@dataclass(frozen=True)
class Prepared:
    """One image in the network's input form. pixels: 1 x 3 x S x S float32, normalised and padded, on the CPU."""

    frame: Frame
    pixels: Tensor


@dataclass(frozen=True)
class Encoded:
    """B images, ready for prompts. embeddings: B x 256 x 64 x 64, on the predictor's device."""

    frames: tuple[Frame, ...]
    embeddings: Tensor
    images: EncodedImages


class SamPredictor:
    """Encodes an image once, then answers prompts given in pixels of the original image."""

    def __init__(
        self, name: str, network: Network, *, max_memory: int | None = None, rules: MaskRules = AS_THEY_COME
    ) -> None:
        """Use `pipelines.sam.build_sam` to get a predictor. max_memory, rules: see there.

        Afterwards `batch` is how many images it likes to be given at once.
        """
        self.name = name
        self.network = network
        self.rules = rules
        self.device = network.device
        self.fit, self.choice = network.conventions.fit, network.conventions.choice
        self.batch = IMAGES.usual if network.device.type == "cuda" else 1
        self._image_chunks = Chunks(IMAGES, network.device, max_memory)
        self._chunks = Chunks(PROMPTS, network.device, max_memory, network.most_prompts, network.prompt_sizes)
        self._image: Encoded | None = None
        self._tell: Callable[[int], None] = lambda count: None

    @contextmanager
    def telling(self, tell: Callable[[int], None]) -> Iterator[None]:
        """Within the block, `tell` is called with the number of prompts whenever some more have been decoded."""
        self._tell, before = tell, self._tell
        try:
            yield
        finally:
            self._tell = before

    def set_image(self, rgb: UInt8) -> None:
        """Encode an image. rgb: H x W x 3 uint8."""
        self._image = self.encode([self.prepare(rgb)])

    def prepare(self, rgb: UInt8) -> Prepared:
        """The CPU's part of encoding an image, which other threads may do. rgb: H x W x 3 uint8."""
        rgb = np.asarray(rgb)
        if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
            raise UsageError(f"an image is an H x W x 3 uint8 RGB array, got {rgb.dtype} {rgb.shape}")
        pixels = preprocess(rgb, self.network.input_size, self.fit)
        if self.device.type == "cuda":
            pixels = pixels.pin_memory()
        return Prepared(Frame(rgb.shape[0], rgb.shape[1], self.fit), pixels)

    @torch.inference_mode()
    def encode(self, images: Sequence[Prepared]) -> Encoded:
        """One image or more, as many at once as fit into memory."""

        def part(start: int, size: int) -> Features:
            pixels = [send(image.pixels, self.device) for image in images[start : start + size]]
            return self.network.encode(torch.cat(pixels))

        features = tuple(map(torch.cat, zip(*self._image_chunks(len(images), part), strict=True)))
        return Encoded(tuple(image.frame for image in images), features[0], self.network.images(features))

    @property
    def model(self) -> Sam:
        """The network's torch module. Raises UsageError when another back end runs it."""
        if not isinstance(self.network, TorchNetwork):
            raise UsageError(f"{self.name} runs on an exported graph: its module is had with backend='torch'")
        return self.network.model

    @property
    def image_embedding(self) -> Tensor:
        """1 x 256 x 64 x 64, on the predictor's device."""
        return self._encoded.embeddings

    @torch.inference_mode()
    def predict(
        self,
        boxes: ArrayLike | None = None,
        points: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        mask_input: ArrayLike | None = None,
        multimask_output: bool = True,
        *,
        point_coords: ArrayLike | None = None,
        point_labels: ArrayLike | None = None,
        box: ArrayLike | None = None,
        hq_token_only: bool = False,
    ) -> Prediction:
        """Masks for N prompts; prompt i is made of the i-th entry of everything given.

        boxes: N x 4 xyxy pixels. points: N x P x 2 (x, y) pixels with labels: N x P (1 on, 0 off, -1 padding).
        mask_input: N x 1 x 256 x 256 logits, as an earlier `low_res_masks`. multimask_output: three masks per prompt
        (K = 3) or one (K = 1).
        point_coords: P x 2, point_labels: P, box: 4, and with them mask_input: 1 x 256 x 256: one prompt, as
        segment-anything's `SamPredictor.predict` takes it, with its shapes in the answer.
        hq_token_only: of an HQ-SAM, whose K is 1 in any case, its own token's mask without SAM's.
        Raises UsageError for prompts of other shapes, before `set_image`, or for what the model does not have.
        """
        if not all(part is None for part in (point_coords, point_labels, box)):
            if not all(part is None for part in (boxes, points, labels)):
                raise UsageError("give one prompt (point_coords, point_labels, box) or many (points, labels, boxes)")
            one = self.predict(
                _of_one(box),
                _of_one(point_coords),
                _of_one(point_labels),
                _of_one(mask_input),
                multimask_output,
                hq_token_only=hq_token_only,
            )
            return Prediction(*(part[0] for part in one))
        which = self.choice.multi if multimask_output else SINGLE
        detail = self.choice.detail if hq_token_only else None
        if hq_token_only and detail is None:
            raise UsageError(f"{self.name} has no HQ token: hq_token_only is for a model called ...-hq-...")

        def full(decoded: Decoded) -> tuple[Bool, Float32, Float32]:
            ranked = self.choice.ranked(decoded, which)
            low = ranked.masks() if detail is None else decoded.masks(torch.full_like(ranked.tokens, detail))
            masks = self.upscaler.full(low) > 0
            return masks.cpu().numpy(), decoded.iou.gather(1, ranked.tokens).cpu().numpy(), low.cpu().numpy()

        frame = self._encoded.frames[0]
        prompts = self._prompts(frame, boxes, points, labels, mask_input)
        parts = list(self._decode(self._encoded, prompts, full))
        if not parts:
            k = 1 if self.choice.best_alone else len(which)
            shapes = ((0, k, frame.height, frame.width), (0, k), (0, k, LOW, LOW))
            return Prediction(np.zeros(shapes[0], bool), *(np.zeros(shape, np.float32) for shape in shapes[1:]))
        return Prediction(*map(np.concatenate, zip(*parts, strict=True)))

    def segment_boxes(self, boxes: ArrayLike) -> Masks:
        """One mask per box (N x 4 xyxy pixels): the best of three by predicted IoU, by `rules`. The fast path."""
        return self.segment_batch(self._encoded, [{"boxes": boxes}])[0].upscale()

    def segment_points(self, points: ArrayLike, labels: ArrayLike) -> Masks:
        """One mask per prompt of clicks (points N x P x 2 pixels, labels N x P): as `segment_boxes`.

        Raises UsageError where `rules` ask for the boxes' surroundings, which clicks have not.
        """
        return self.segment_batch(self._encoded, [{"points": points, "labels": labels}])[0].upscale()

    @torch.inference_mode()
    def segment_batch(self, encoded: Encoded, asked: Sequence[Mapping[str, ArrayLike]]) -> list[LowResMasks]:
        """One mask per prompt, the best of three, by `rules`, for images that were encoded together.

        asked: for each image boxes, or points and labels, as `predict` takes them; the same for all images, and P the
        same. On a GPU this returns before it is done. Of an image with more than `PIECE` prompts the masks are upscaled
        as they come, all but the last piece, so that memory does not grow with their number.
        """
        prompts = [self._prompts(frame, **given) for frame, given in zip(encoded.frames, asked, strict=True)]
        windows = [self._windows(frame, given) for frame, given in zip(encoded.frames, asked, strict=True)]

        together = Prompts.join(prompts)

        def best(decoded: Decoded) -> tuple[Tensor, Tensor]:
            best = self.choice.best(decoded, boxes=together.boxes is not None)
            return best.masks()[:, 0], best.scores[:, 0]

        rows = _Rows(self._decode(encoded, together, best), self.device)

        def taken(frame: Frame, windows: Int64 | None, part: slice, earlier: Sequence[Masks] = ()) -> LowResMasks:
            low_res, iou = rows.take(part.stop - part.start)
            ready = torch.cuda.current_stream(self.device).record_event() if self.device.type == "cuda" else None
            within = None if windows is None else windows[part]
            return LowResMasks(frame, low_res, iou, ready, earlier, within, self.rules.min_mask_region_area)

        piece = PIECE if self.device.type == "cpu" else GPU_PIECE
        found = []
        for frame, within, count in zip(encoded.frames, windows, map(len, prompts), strict=True):
            starts = range(0, max(count, 1), piece)
            earlier = [taken(frame, within, slice(start, start + piece)).upscale() for start in starts[:-1]]
            found.append(taken(frame, within, slice(starts[-1], count), earlier))
        return found

    def _windows(self, frame: Frame, asked: Mapping[str, ArrayLike]) -> Int64 | None:
        """Where the masks of an image's prompts are looked for; None: everywhere."""
        if self.rules.box_margin is None:
            return None
        if "boxes" not in asked:
            raise UsageError(NO_BOX)
        return frame.windows(asked["boxes"], self.rules.box_margin)

    @torch.inference_mode()
    def candidates(self, points: ArrayLike, *, min_iou: float, at_once: int) -> Iterator[Candidates]:
        """The masks, of the three that each click (points N x 2 pixels) gives, whose predicted IoU is above `min_iou`.

        Clicks are decoded `at_once` or fewer at a time; each time gives one Candidates, perhaps without masks. Clicks
        without such a mask are never upscaled. Raises ImageError when the network's answer holds other than finite
        numbers.
        """
        clicks = np.asarray(points, np.float32).reshape(-1, 1, 2)

        def likely(decoded: Decoded) -> Candidates:
            ranked = self.choice.ranked(decoded, self.choice.multi)
            iou = ranked.scores
            check_finite("a predicted IoU", bool(torch.isfinite(iou).all()))
            good = iou > min_iou
            prompts = good.any(1).nonzero()[:, 0]
            low_res = torch.zeros(0, LOW, LOW, device=self.device)
            if len(prompts):
                low_res = ranked.take(prompts).masks()[good[prompts]]
                check_finite("a mask", bool(torch.isfinite(low_res).all()))
            owners = good.nonzero()[:, 0].cpu().numpy()
            return Candidates(owners, iou[good].cpu().numpy(), low_res, len(iou), iou.shape[1], float(iou.max()))

        start = 0
        prompts = self._prompts(self._encoded.frames[0], points=clicks, labels=np.ones(clicks.shape[:2]))
        for found in self._decode(self._encoded, prompts, likely, at_once):
            yield found._replace(prompts=found.prompts + start)
            start += found.clicks

    @property
    def upscaler(self) -> Upscaler:
        """From low-res logits to the image's own size."""
        frame = self._encoded.frames[0]
        return Upscaler(frame.height, frame.width, self.device, frame.fit)

    def _decode(
        self, encoded: Encoded, prompts: Prompts, then: Callable[[Decoded], R], at_once: int | None = None
    ) -> Iterator[R]:
        """What `then` makes of the prompts, decoded in parts of at most `at_once`, smaller when memory runs out."""

        def part(start: int, size: int) -> R:
            made = then(encoded.images.decode(prompts.part(start, size)))
            self._tell(size)
            return made

        return self._chunks(len(prompts), part, at_once)

    def _prompts(
        self,
        frame: Frame,
        boxes: ArrayLike | None = None,
        points: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        mask_input: ArrayLike | None = None,
    ) -> Prompts:
        parts = {
            "boxes": _tensor("boxes", boxes, "N x 4", (4,)),
            "points": _tensor("points", points, "N x P x 2", (None, 2)),
            "labels": _tensor("labels", labels, "N x P", (None,)),
            "mask_input": _tensor("mask_input", mask_input, f"N x 1 x {LOW} x {LOW}", (1, LOW, LOW)),
        }
        given = {name: part for name, part in parts.items() if part is not None}
        if not given:
            raise UsageError("a prompt is needed: boxes, points with labels, or mask_input")
        if ("points" in given) != ("labels" in given) or (
            "points" in given and given["points"].shape[:2] != given["labels"].shape
        ):
            raise UsageError("points (N x P x 2) and labels (N x P) come together and of one length")
        lengths = {name: len(part) for name, part in given.items()}
        if len(set(lengths.values())) > 1:
            raise UsageError(f"prompts differ in number: {lengths}")
        if "boxes" in given:
            given["boxes"] = frame.to_prompt_frame(given["boxes"].reshape(-1, 2, 2)).reshape(-1, 4)
        if "points" in given:
            given["points"] = frame.to_prompt_frame(given["points"])
        given = {name: send(part, self.device) for name, part in given.items()}
        return Prompts(given.get("points"), given.get("labels"), given.get("boxes"), given.get("mask_input"))

    @property
    def _encoded(self) -> Encoded:
        if self._image is None:
            raise UsageError("call set_image before asking for masks")
        return self._image


class _Rows:
    """Low-res masks and their predicted IoU, which come in parts, in parts of other sizes."""

    def __init__(self, parts: Iterator[tuple[Tensor, Tensor]], device: torch.device) -> None:
        self._parts = parts
        self._low_res = torch.zeros(0, LOW, LOW, device=device)
        self._iou = torch.zeros(0, device=device)

    def take(self, count: int) -> tuple[Tensor, Tensor]:
        """The next `count`: N x 256 x 256 and N."""
        low_res, iou = self._low_res.new_empty(count, LOW, LOW), self._iou.new_empty(count)
        taken = 0
        while taken < count:
            if not len(self._iou):
                self._low_res, self._iou = next(self._parts)
            more = min(count - taken, len(self._iou))
            low_res[taken : taken + more], iou[taken : taken + more] = self._low_res[:more], self._iou[:more]
            self._low_res, self._iou = self._low_res[more:], self._iou[more:]
            taken += more
        return low_res, iou


def _tensor(name: str, value: ArrayLike | None, text: str, shape: tuple[int | None, ...]) -> Tensor | None:
    if value is None:
        return None
    array = np.asarray(value, dtype=np.float32)
    if array.size == 0:
        array = array.reshape(0, *(size or 0 for size in shape))
    fits = array.ndim == len(shape) + 1 and all(
        want in (None, got) for want, got in zip(shape, array.shape[1:], strict=True)
    )
    if not fits or not np.isfinite(array).all():
        raise UsageError(f"{name}: expected finite numbers of shape {text}, got shape {array.shape}")
    return torch.from_numpy(array)


def _of_one(part: ArrayLike | None) -> ArrayLike | None:
    """A part of one prompt as a part of N = 1 prompts."""
    return None if part is None else np.asarray(part)[None]
