"""The predictor: images in, encoded ones out, and, for who knows segment-anything, one image set and asked.

encoded = sam.encode([sam.prepare(rgb), sam.prepare(other)])
encoded.segment([PixelPrompts(boxes=boxes), PixelPrompts(boxes=others)])

sam.set_image(rgb)
sam.segment_boxes(boxes)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from pipelines.device import send
from pipelines.errors import UsageError
from pipelines.sam.chunks import IMAGES, PROMPTS, Chunks
from pipelines.sam.encoded import Decoding, Encoded, Prediction
from pipelines.sam.frame import Frame, preprocess
from pipelines.sam.model import Features, Sam
from pipelines.sam.network import Network
from pipelines.sam.prompting import PixelPrompts, one_prompt
from pipelines.sam.rules import AS_THEY_COME, MaskRules
from pipelines.sam.torch_network import TorchNetwork
from pipelines.types import Masks, UInt8


@dataclass(frozen=True)
class Prepared:
    """One image in the network's input form. pixels: 1 x 3 x S x S float32, normalised and padded, on the CPU."""

    frame: Frame
    pixels: Tensor


class SamPredictor:
    """Encodes images, which then answer prompts given in pixels of the original image."""

    def __init__(
        self, name: str, network: Network, *, max_memory: int | None = None, rules: MaskRules = AS_THEY_COME
    ) -> None:
        """Use `pipelines.sam.build_sam` to get a predictor. max_memory, rules: see there.

        Afterwards `batch` is how many images it likes to be given at once.
        """
        self.name = name
        self.network = network
        self.device = network.device
        self.fit = network.conventions.fit
        self.batch = IMAGES.usual if network.device.type == "cuda" else 1
        self._image_chunks = Chunks(IMAGES, network.device, max_memory)
        chunks = Chunks(PROMPTS, network.device, max_memory, network.most_prompts, network.prompt_sizes)
        self._decoding = Decoding(network.device, chunks, network.conventions.choice, rules)
        self._image: Encoded | None = None

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
        frames = tuple(image.frame for image in images)
        places = tuple(range(len(images)))
        return Encoded(frames, features[0], self.network.images(features), places, self._decoding)

    @property
    def model(self) -> Sam:
        """The network's torch module. Raises UsageError when another back end runs it."""
        if not isinstance(self.network, TorchNetwork):
            raise UsageError(f"{self.name} runs on an exported graph: its module is had with backend='torch'")
        return self.network.model

    # One image at a time, in segment-anything's manner

    def set_image(self, rgb: UInt8) -> None:
        """Encode an image, which `image` then is. rgb: H x W x 3 uint8."""
        self._image = self.encode([self.prepare(rgb)])

    @property
    def image(self) -> Encoded:
        """The image that was set. Raises UsageError before `set_image`."""
        if self._image is None:
            raise UsageError("call set_image before asking for masks")
        return self._image

    @property
    def image_embedding(self) -> Tensor:
        """1 x 256 x 64 x 64, on the predictor's device."""
        return self.image.embeddings

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
        """Masks for N prompts; boxes, points, labels, mask_input: see `PixelPrompts`. multimask_output: several masks
        per prompt, three of most SAMs, or one.

        point_coords: P x 2, point_labels: P, box: 4, and with them mask_input: 1 x 256 x 256: one prompt, as
        segment-anything's `SamPredictor.predict` takes it, with its shapes in the answer.
        hq_token_only: of an HQ-SAM, whose K is 1 in any case, its own token's mask without SAM's.
        Raises UsageError for prompts of other shapes, before `set_image`, or for what the model does not have.
        """
        if hq_token_only and self._decoding.choice.detail is None:
            raise UsageError(f"{self.name} has no HQ token: hq_token_only is for a model called ...-hq-...")
        options = {"multimask_output": multimask_output, "hq_token_only": hq_token_only}
        if all(part is None for part in (point_coords, point_labels, box)):
            return self.image.predict(PixelPrompts(boxes, points, labels, mask_input), **options)
        if not all(part is None for part in (boxes, points, labels)):
            raise UsageError("give one prompt (point_coords, point_labels, box) or many (points, labels, boxes)")
        one = one_prompt(box, point_coords, point_labels, mask_input)
        return Prediction(*(part[0] for part in self.image.predict(one, **options)))

    def segment_boxes(self, boxes: ArrayLike) -> Masks:
        """See `Encoded.segment_boxes`."""
        return self.image.segment_boxes(boxes)

    def segment_points(self, points: ArrayLike, labels: ArrayLike) -> Masks:
        """See `Encoded.segment_points`."""
        return self.image.segment_points(points, labels)
