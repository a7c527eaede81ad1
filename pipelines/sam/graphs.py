"""The torch back end, recorded as CUDA graphs: a GPU replays them without being told kernel by kernel what to do.

Nothing is compiled, so it starts at once, and its numbers are those of the torch back end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipelines.errors import UsageError
from pipelines.sam.compiled import CompiledNetwork
from pipelines.sam.network import SamSource
from pipelines.sam.torch_network import TorchBackend, TorchNetwork

FILLED = (1, 4, 8, 16, 24, 32, 40, 48, 56, 64)
"""Numbers of prompts that the decoder is recorded for."""


class GraphsBackend(TorchBackend):
    """The back end, as `build_sam` asks for it. Raises UsageError where there is no CUDA."""

    def place(self, device: str, precision: str) -> torch.device:
        where = super().place(device, precision)
        if where.type != "cuda":
            raise UsageError(f"{device} has no CUDA graphs: use --backend torch")
        return where

    def build(self, source: SamSource, *, device: str, precision: str) -> TorchNetwork:
        plain = super().build(source, device=device, precision=precision)
        return GraphsNetwork(plain.model, plain.device)


class GraphsNetwork(CompiledNetwork):
    """Records on the first use of each shape, which takes a moment."""

    most_prompts = FILLED[-1]
    prompt_sizes: Sequence[int] = FILLED

    def _fast(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return Recorded(function, self.device)


@dataclass(frozen=True)
class Recording:
    """A function of certain shapes. inputs: where the graph reads; outputs: where it writes."""

    graph: torch.cuda.CUDAGraph
    inputs: tuple[Any, ...]
    outputs: Any


class Recorded:
    """A function of tensors, and of named tuples of tensors or None, as a graph for every shape of its inputs."""

    def __init__(self, function: Callable[..., Any], device: torch.device) -> None:
        self._function = function
        self._device = device
        self._recordings: dict[tuple[torch.Size, ...], Recording] = {}

    @torch.inference_mode()
    def __call__(self, *inputs: Any) -> Any:
        """What the function gives: overwritten by the next call with such shapes."""
        given = list(tensors_in(inputs))
        shapes = tuple(x.shape for x in given)
        if shapes not in self._recordings:
            self._recordings[shapes] = self.record(inputs)
        recording = self._recordings[shapes]
        for place, x in zip(tensors_in(recording.inputs), given, strict=True):
            place.copy_(x)
        recording.graph.replay()
        return recording.outputs

    def record(self, inputs: tuple[Any, ...]) -> Recording:
        """Of what is called with inputs of these shapes."""
        places = tuple(map(copied, inputs))
        here, beside = torch.cuda.current_stream(self._device), torch.cuda.Stream(self._device)
        beside.wait_stream(here)
        with torch.cuda.stream(beside):
            for _ in range(2):  # libraries set themselves up in their first calls, which cannot be recorded
                self._function(*places)
        here.wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self._device), torch.cuda.graph(graph, capture_error_mode="thread_local"):
            outputs = self._function(*places)
        return Recording(graph, places, outputs)


def tensors_in(inputs: Any) -> Iterator[Tensor]:
    """Those in tensors, None, and tuples of them, in order."""
    if isinstance(inputs, Tensor):
        yield inputs
    elif inputs is not None:
        for each in inputs:
            yield from tensors_in(each)


def copied(inputs: Any) -> Any:
    """The same, of tensors of their own."""
    if isinstance(inputs, Tensor | None):
        return None if inputs is None else inputs.clone()
    return type(inputs)(*map(copied, inputs))
