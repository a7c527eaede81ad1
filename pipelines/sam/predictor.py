"""The predictor: one image at a time, any number of prompts (segment-anything's manner)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from pipelines.device import check_device
from pipelines.errors import UsageError
from pipelines.sam.frame import Frame, preprocess
from pipelines.sam.layers import fold_norms
from pipelines.sam.mask_decoder import Decoded, ImageSide
from pipelines.sam.masks import LOW, Upscaler
from pipelines.sam.model import Sam, load
from pipelines.types import Bool, Float32, Int64, Masks, Rle, UInt8

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
CHUNK = {"cpu": 4}
"""Prompts decoded at once, by device type; about 30 MB each in fp32. A CPU's caches and allocator like few."""
CHUNK_ELSEWHERE = 64


class Prediction(NamedTuple):
    """masks: N x K x H x W bool; predicted_iou: N x K float32; low_res_masks: N x K x 256 x 256 float32 logits."""

    masks: Bool
    predicted_iou: Float32
    low_res_masks: Float32


class Candidates(NamedTuple):
    """M masks of single clicks. prompts: M int64, each one's click; predicted_iou: M float32; low_res: M x 256 x 256
    float32 logits, on the predictor's device.
    """

    prompts: Int64
    predicted_iou: Float32
    low_res: Tensor


@dataclass(frozen=True)
class _Prompts:
    """N prompts in the 1024 frame, on the device; each may be None."""

    points: Tensor | None
    labels: Tensor | None
    boxes: Tensor | None
    masks: Tensor | None

    def __len__(self) -> int:
        return next(len(x) for x in (self.boxes, self.points, self.masks) if x is not None)

    def chunks(self, size: int) -> Iterator[_Prompts]:
        for start in range(0, len(self), size):
            part = slice(start, start + size)
            fields = (self.points, self.labels, self.boxes, self.masks)
            yield _Prompts(*(None if x is None else x[part] for x in fields))


@dataclass(frozen=True)
class _Encoded:
    """One image, encoded: the embedding, and what all prompts without a mask share of it."""

    frame: Frame
    embedding: Tensor
    tokens: Tensor
    side: ImageSide
    upscaler: Upscaler


class SamPredictor:
    """Encodes an image once, then answers prompts given in pixels of the original image."""

    def __init__(self, name: str, model: Sam, device: torch.device, dtype: torch.dtype) -> None:
        """model: already on `device`, in inference form. Use `pipelines.sam.build_sam` to get a predictor."""
        self.name = name
        self.model = model
        self.device = device
        self.dtype = dtype
        with torch.inference_mode():
            self._pe = model.prompt_encoder.dense_pe(64)
            self._positions = model.mask_decoder.positions(self._pe)
        self._image: _Encoded | None = None

    @classmethod
    def from_state_dict(
        cls, name: str, build: Callable[[], Sam], state: dict[str, Tensor], *, device: str, precision: str
    ) -> SamPredictor:
        """Build the network, load `state` strictly, fold the norms and move it to the device."""
        where = check_device(device)
        dtype = check_precision(precision, where)
        model = load(build(), state, name)
        fold_norms(model).requires_grad_(False).to(where)
        for parameter in model.parameters():  # buffers stay: the positional encoding is computed in float32
            parameter.data = parameter.data.to(dtype)
        model.image_encoder.to(memory_format=torch.channels_last)
        return cls(name, model, where, dtype)

    @torch.inference_mode()
    def set_image(self, rgb: UInt8) -> None:
        """Encode an image. rgb: H x W x 3 uint8."""
        rgb = np.asarray(rgb)
        if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
            raise UsageError(f"set_image takes an H x W x 3 uint8 RGB array, got {rgb.dtype} {rgb.shape}")
        pixels = preprocess(rgb, self.model.input_size).to(self.device, self.dtype)
        embedding = self.model.image_encoder(pixels)
        src = embedding + self.model.prompt_encoder.no_mask_embed.weight.reshape(1, 256, 1, 1)
        tokens, side = self.model.mask_decoder.image_side(src, self._pe)
        height, width = rgb.shape[:2]
        self._image = _Encoded(Frame(height, width), embedding, tokens, side, Upscaler(height, width, self.device))

    @property
    def image_embedding(self) -> Tensor:
        """1 x 256 x 64 x 64, on the predictor's device, in its precision."""
        return self._encoded.embedding

    @torch.inference_mode()
    def predict(
        self,
        boxes: ArrayLike | None = None,
        points: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        mask_input: ArrayLike | None = None,
        multimask_output: bool = True,
    ) -> Prediction:
        """Masks for N prompts; prompt i is made of the i-th entry of everything given.

        boxes: N x 4 xyxy pixels. points: N x P x 2 (x, y) pixels with labels: N x P (1 on, 0 off, -1 padding).
        mask_input: N x 1 x 256 x 256 logits, as an earlier `low_res_masks`. multimask_output: three masks per prompt
        (K = 3) or one (K = 1). Raises UsageError for prompts of other shapes, or before `set_image`.
        """
        which = [1, 2, 3] if multimask_output else [0]
        masks, ious, lows = [], [], []
        for decoded in self._decode(self._prompts(boxes, points, labels, mask_input)):
            index = torch.tensor([which], device=self.device).expand(len(decoded.iou), -1)
            low = self.model.mask_decoder.masks(decoded, index).float()
            masks.append((self._encoded.upscaler.full(low) > 0).cpu().numpy())
            ious.append(decoded.iou[:, which].float().cpu().numpy())
            lows.append(low.cpu().numpy())
        if not masks:
            frame, k = self._encoded.frame, len(which)
            shapes = ((0, k, frame.height, frame.width), (0, k), (0, k, LOW, LOW))
            return Prediction(np.zeros(shapes[0], bool), *(np.zeros(shape, np.float32) for shape in shapes[1:]))
        return Prediction(np.concatenate(masks), np.concatenate(ious), np.concatenate(lows))

    def segment_boxes(self, boxes: ArrayLike) -> Masks:
        """One mask per box (N x 4 xyxy pixels): the best of three by predicted IoU. The fast path."""
        return self._segment(self._prompts(boxes, None, None, None))

    def segment_points(self, points: ArrayLike, labels: ArrayLike) -> Masks:
        """One mask per prompt of clicks (points N x P x 2 pixels, labels N x P): the best of three by predicted IoU."""
        return self._segment(self._prompts(None, points, labels, None))

    @torch.inference_mode()
    def candidates(self, points: ArrayLike, *, min_iou: float, at_once: int) -> Iterator[Candidates]:
        """The masks, of the three that each click (points N x 2 pixels) gives, whose predicted IoU is above `min_iou`.

        Clicks are decoded `at_once` or fewer at a time. Those without such a mask are never upscaled.
        """
        clicks = np.asarray(points, np.float32).reshape(-1, 1, 2)
        start = 0
        for decoded in self._decode(self._prompts(None, clicks, np.ones(clicks.shape[:2]), None), at_once):
            good = decoded.iou[:, 1:] > min_iou
            prompts = good.any(1).nonzero()[:, 0]
            if len(prompts):
                which = torch.tensor([[1, 2, 3]], device=self.device).expand(len(prompts), -1)
                low_res = self.model.mask_decoder.masks(decoded.take(prompts), which)[good[prompts]].float()
                owners = good.nonzero()[:, 0].cpu().numpy() + start
                yield Candidates(owners, decoded.iou[:, 1:][good].float().cpu().numpy(), low_res)
            start += len(good)

    @property
    def upscaler(self) -> Upscaler:
        """From low-res logits to the image's own size."""
        return self._encoded.upscaler

    @torch.inference_mode()
    def _segment(self, prompts: _Prompts) -> Masks:
        rles: list[Rle] = []
        ious: list[float] = []
        stabilities: list[float] = []
        for decoded in self._decode(prompts):
            best, which = decoded.iou[:, 1:].max(1)
            low = self.model.mask_decoder.masks(decoded, which[:, None] + 1)[:, 0]
            chunk_rles, chunk_stabilities = self._encoded.upscaler.segment(low)
            rles += chunk_rles
            stabilities += chunk_stabilities
            ious += best.float().tolist()
        return Masks(tuple(rles), np.array(ious, np.float32), np.array(stabilities, np.float32))

    def _decode(self, prompts: _Prompts, at_once: int | None = None) -> Iterator[Decoded]:
        encoded, decoder = self._encoded, self.model.mask_decoder
        chunk = CHUNK.get(self.device.type, at_once or CHUNK_ELSEWHERE)
        for part in prompts.chunks(min(chunk, at_once or chunk)):
            sparse, dense = self.model.prompt_encoder(part.points, part.labels, part.boxes, part.masks)
            if part.masks is None:
                index = torch.zeros(len(part), dtype=torch.long, device=self.device)
                yield decoder.decode(encoded.tokens, encoded.side, self._positions, sparse, index)
            else:
                index = torch.arange(len(part), device=self.device)
                tokens, side = decoder.image_side(encoded.embedding + dense, self._pe)
                yield decoder.decode(tokens, side, self._positions, sparse, index)

    def _prompts(
        self,
        boxes: ArrayLike | None,
        points: ArrayLike | None,
        labels: ArrayLike | None,
        mask_input: ArrayLike | None,
    ) -> _Prompts:
        frame = self._encoded.frame
        parts = {
            "boxes": self._tensor("boxes", boxes, "N x 4", (4,)),
            "points": self._tensor("points", points, "N x P x 2", (None, 2)),
            "labels": self._tensor("labels", labels, "N x P", (None,)),
            "mask_input": self._tensor("mask_input", mask_input, f"N x 1 x {LOW} x {LOW}", (1, LOW, LOW)),
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
        return _Prompts(given.get("points"), given.get("labels"), given.get("boxes"), given.get("mask_input"))

    def _tensor(self, name: str, value: ArrayLike | None, text: str, shape: tuple[int | None, ...]) -> Tensor | None:
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
        return torch.from_numpy(array).to(self.device)

    @property
    def _encoded(self) -> _Encoded:
        if self._image is None:
            raise UsageError("call set_image before asking for masks")
        return self._image


def check_precision(name: str, device: torch.device) -> torch.dtype:
    """The dtype called `name`. Raises UsageError when it is unknown or `device` has no such arithmetic."""
    if name not in PRECISIONS:
        raise UsageError(f"unknown precision {name!r}; choose one of: {', '.join(PRECISIONS)}")
    if name == "bf16" and not bf16_supported(device):
        raise UsageError(f"{device} has no bf16 arithmetic: use --precision fp32")
    return PRECISIONS[name]


def bf16_supported(device: torch.device) -> bool:
    """Whether bfloat16 is native on the device (AVX512-BF16 / AMX on x86 CPUs, Ampere or later on NVIDIA)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return False
