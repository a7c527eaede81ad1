"""The torch back end under torch.compile: kernels fused, and on a GPU replayed as CUDA graphs.

A graph is compiled for every shape, so there are few: images are encoded in parts whose sizes are powers of two, and
prompts are filled up to the next of FILLED.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch._dynamo.config
import torch.nn.functional as F
from torch import Tensor
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.exc import InvalidCxxCompiler

from pipelines.errors import SetupError
from pipelines.sam.mask_decoder import DecoderState, ImageSide, take
from pipelines.sam.model import Features, Sam
from pipelines.sam.network import SamSource
from pipelines.sam.torch_network import TorchBackend, TorchNetwork

FILLED = (1, 4, 16, 64)
"""Numbers of prompts that the decoder is compiled for."""
torch._dynamo.config.recompile_limit = 256  # shapes: FILLED, by points per prompt, one image or several
warnings.filterwarnings("ignore", message="TensorFloat32 tensor cores")  # they are left out on purpose


class CompiledBackend(TorchBackend):
    """The back end, as `build_sam` asks for it. Raises SetupError when nothing can be compiled here."""

    def place(self, device: str, precision: str) -> torch.device:
        where = super().place(device, precision)
        if where.type == "cpu":
            try:
                get_cpp_compiler()
            except InvalidCxxCompiler as error:
                raise _no_compiler(where, error) from error
        return where

    def build(self, source: SamSource, *, device: str, precision: str) -> TorchNetwork:
        _try_out(self.place(device, precision))
        plain = super().build(source, device=device, precision=precision)
        return CompiledNetwork(plain.model, plain.device)


class CompiledNetwork(TorchNetwork):
    """Compiles on the first use of each shape, which takes seconds to minutes."""

    most_prompts = FILLED[-1]
    prompt_sizes: Sequence[int] = FILLED

    def __init__(self, model: Sam, device: torch.device) -> None:
        super().__init__(model, device)
        self._encoder = self._fast(model.encode)
        self._decoder = self._fast(model.mask_decoder.decode)
        self._masks = self._fast(model.mask_decoder.masks)

    def encode(self, pixels: Tensor) -> Features:
        parts = pixels.to(self.device, self.dtype).split(powers_of_two(len(pixels)))
        each = [tuple(map(self._kept, self._encoder(part))) for part in parts]
        return tuple(map(torch.cat, zip(*each, strict=True)))

    def decode(self, image: Tensor, side: ImageSide, sparse: Tensor, index: Tensor) -> DecoderState:
        count = self._filled(len(sparse))
        if len(image) > 1:  # every prompt its own image: how many images there are must not matter
            index = _fill(index, count)
            image, side = take(image, index), side.each(lambda part: take(part, index))
        index = torch.arange(count, device=self.device)
        decoded: DecoderState = self._decoder(image, side, self.positions, _fill(sparse, count), index)
        return decoded.each(lambda part: self._kept(part)[: len(sparse)])

    def masks(self, decoded: DecoderState, which: Tensor) -> Tensor:
        count = self._filled(len(which))
        masks: Tensor = self._masks(decoded.each(lambda part: _fill(part, count)), _fill(which, count))
        return self._kept(masks)[: len(which)]

    def _fast(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """What is called instead of `function`, with few shapes."""
        return _compiled(function, self.device)

    def _filled(self, count: int) -> int:
        return next((size for size in self.prompt_sizes if size >= count), count)

    def _kept(self, x: Tensor) -> Tensor:
        """A CUDA graph writes its next result to where its last one is."""
        return x.clone() if self.device.type == "cuda" else x


def powers_of_two(count: int) -> list[int]:
    """Descending, each once at most: 13 -> 8, 4, 1."""
    return [1 << bit for bit in reversed(range(count.bit_length())) if count >> bit & 1]


def _compiled(function: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    mode = "reduce-overhead" if device.type == "cuda" else "default"
    return torch.compile(function, fullgraph=True, dynamic=False, mode=mode)


def _fill(x: Tensor, count: int) -> Tensor:
    """N x ... -> count x ..., the new rows 0."""
    return x if len(x) == count else F.pad(x, [0, 0] * (x.ndim - 1) + [0, count - len(x)])


def _try_out(device: torch.device) -> None:
    try:
        torch.compile(lambda x: x.cos() + 1)(torch.ones(8, device=device))
    except Exception as error:  # a missing compiler shows itself in many ways
        raise _no_compiler(device, error) from error


def _no_compiler(device: torch.device, error: Exception) -> SetupError:
    reason = " ".join(str(error).split())[:200]
    return SetupError(
        f"torch cannot compile on {device} here: install a C++ compiler, or use --backend torch ({reason})"
    )
