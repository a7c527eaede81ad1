"""What the predictor asks of a network, whoever runs it: torch, or a graph exported to another back end."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from pipelines.errors import UsageError, WeightsError
from pipelines.registry import Row
from pipelines.sam.conventions import Conventions
from pipelines.sam.model import Features, Sam, load
from weights import digest, loading, store

EXPORTED = "export.json"
"""By this file a folder is known that `evsam export` made; it says what the folder holds."""


ENCODER, DECODER = "image_encoder.", "mask_decoder."
"""What the names of tensors in official layouts start with."""


@dataclass(frozen=True)
class Prompts:
    """N prompts in the 1024 frame, float32, on the network's device; prompt i is made of the i-th entry of each part.

    points: N x P x 2 (x, y); labels: N x P (1 on, 0 off, -1 padding); boxes: N x 4 xyxy; masks: N x 1 x 256 x 256.
    images: N, which of the images encoded together each prompt is on, ascending; None: all on the first.
    """

    points: Tensor | None = None
    labels: Tensor | None = None
    boxes: Tensor | None = None
    masks: Tensor | None = None
    images: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return next(len(x) for x in (self.boxes, self.points, self.masks) if x is not None)

    def part(self, start: int, size: int) -> Prompts:
        """At most `size` of them, from `start` on."""
        points, labels, boxes, masks = (None if x is None else x[start : start + size] for x in self._tensors)
        return Prompts(points, labels, boxes, masks, self.images and self.images[start : start + size])

    def by_image(self) -> Iterator[tuple[int, Prompts]]:
        """Each image that they are on, with its prompts."""
        start = 0
        for image, ones in groupby(self.images or (0,) * len(self)):
            size = len(list(ones))
            yield image, self.part(start, size)
            start += size

    @property
    def _tensors(self) -> tuple[Tensor | None, ...]:
        return self.points, self.labels, self.boxes, self.masks

    @staticmethod
    def join(each: Sequence[Prompts]) -> Prompts:
        """Those of the first image, of the second, ...: made of the same parts, and of as many points each."""
        images = tuple(image for image, prompts in enumerate(each) for _ in range(len(prompts)))
        columns = ([x for x in column if x is not None] for column in zip(*(p._tensors for p in each), strict=True))
        points, labels, boxes, masks = (torch.cat(column) if column else None for column in columns)
        return Prompts(points, labels, boxes, masks, images)


class Decoded(Protocol):
    """N prompts, decoded as far as their predicted IoU: masks are made only where they are wanted."""

    @property
    def iou(self) -> Tensor:
        """N x 4 float32, by mask token: 0 is for a single mask, 1 to 3 are for multi-mask output."""

    def take(self, prompts: Tensor) -> Decoded:
        """Only these prompts, by index."""

    def masks(self, which: Tensor) -> Tensor:
        """Low-res logits N x K x 256 x 256, float32, of mask tokens `which` (N x K int64, 0 to 3)."""


class EncodedImages(Protocol):
    """Images, ready for prompts."""

    def decode(self, prompts: Prompts) -> Decoded:
        """All prompts at once. Raises UsageError for a kind of prompts that the back end cannot take."""


class Network(Protocol):
    """A SAM's encoder and decoder on a device. input_size: side of the encoder's input in pixels.

    most_prompts: the decoder's limit in one call; None: memory alone. prompt_sizes: the numbers of prompts that fewer
    are filled up to; empty: none.
    """

    @property
    def input_size(self) -> int: ...

    @property
    def conventions(self) -> Conventions: ...

    @property
    def most_prompts(self) -> int | None: ...

    @property
    def prompt_sizes(self) -> Sequence[int]: ...

    @property
    def device(self) -> torch.device: ...

    def encode(self, pixels: Tensor) -> Features:
        """B x 3 x S x S float32, normalised and padded -> embeddings B x 256 x 64 x 64 first, on the device."""

    def images(self, features: Features) -> EncodedImages:
        """What `encode` gives of B images -> the images, ready for prompts."""


@dataclass(frozen=True)
class SamSource:
    """A SAM, and where its weights are: None for its row's, a checkpoint, an exported folder, or a state dict."""

    row: Row
    weights: Path | Mapping[str, Tensor] | None = None
    offline: bool | None = None

    def build(self) -> Sam:
        """The untrained network."""
        sam: Sam = self.row.load()(**self.row.options).build()
        return sam

    def load(self) -> Sam:
        """The network under its weights. Raises WeightsError when they are missing or another model's."""
        return load(self.build(), self.state(), self.row.name)

    def state(self) -> dict[str, Tensor]:
        """The weights, in the official layout. Those of the manifest are in all files of their name, the encoder in the
        first; a user's file is whole, or of the encoder alone, and the others complete it.
        """
        if isinstance(self.weights, Mapping):
            return dict(self.weights)
        if self.weights is not None and self.weights.is_dir():
            raise UsageError(f"{self.weights} is a folder: if `evsam export` made it, name its --backend")
        state = loading.load_state_dict(self.file())
        whole = self.weights is not None and any(key.startswith(DECODER) for key in state)
        if whole or self.row.weights is None:
            return state
        rest = (loading.load_state_dict(path) for path in store.beside(self.row.weights, offline=self.offline))
        return state | {key: x for each in rest for key, x in each.items() if not key.startswith(ENCODER)}

    def sha256(self) -> str:
        """The fingerprint of the weights, in however many files, or of what says what an exported folder holds."""
        total = hashlib.sha256()
        if not isinstance(self.weights, Mapping):
            own = digest.fingerprint(self.file())
            if self.weights is not None or not (beside := store.beside(self.row.weights or "", offline=self.offline)):
                return own
            total.update("".join([own, *map(digest.fingerprint, beside)]).encode())
            return total.hexdigest()
        for key, value in sorted(self.weights.items()):
            total.update(f"{key} {value.dtype} {list(value.shape)}".encode())
            total.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return total.hexdigest()

    def file(self) -> Path:
        """The checkpoint's file, fetched if need be. Raises WeightsError when it is missing."""
        assert not isinstance(self.weights, Mapping)
        if self.weights is None:
            if self.row.weights is None:
                raise WeightsError(f"{self.row.name} has no weights of its own: name a checkpoint with --weights")
            return store.fetch(self.row.weights, offline=self.offline)
        path = self.weights / EXPORTED if self.weights.is_dir() else self.weights
        if not path.is_file():
            raise WeightsError(f"there is no checkpoint {path}")
        return path


class Backend(Protocol):
    """What a row of `BACKENDS` makes, called without arguments."""

    def place(self, device: str, precision: str) -> torch.device:
        """Where it would run, without looking for weights. Raises UsageError as `build` does, SetupError when it cannot
        run there."""

    def build(self, source: SamSource, *, device: str, precision: str) -> Network:
        """The network, ready to run. Raises UsageError for a device or precision that it does not have."""
