"""int8 after training (arXiv 1712.05877): the encoder's convolutions, as many as the embedding bears.

Weights are symmetric, with a scale per output channel; activations asymmetric, with one range per tensor, the widest
that the calibration photos give (clipping it was worse). Everything else stays in float: depthwise convolutions, the
linear attention, the norms, the decoder.

What a convolution does to the embedding when it alone is in int8 is measured; such errors are nearly independent, so
their squares add up. Those that do the least harm per multiplication are taken until the budget is spent: in the first
stages the ranges are wide and the channels few, and a tenth of the work does nearly all of the harm.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import onnx
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from torch import Tensor, nn

from pipelines.export.gate import relative_error

BUDGET = 0.006
"""The error that all of int8 may add up to, in lengths of the embedding: about what bf16 costs."""
MEASURED = 2
"""Photos that harm is measured on."""


class Seen(NamedTuple):
    """A convolution at work on the photos: least and greatest input and output, 0 among them; multiplications."""

    input: tuple[float, float]
    output: tuple[float, float]
    work: int


def quantize(encoder: nn.Module, graph: Path, photos: Sequence[Tensor], *, outputs: bool) -> float:
    """Put convolutions of `graph`, the ONNX file of `encoder`, into int8; returns their share of multiplications.

    photos: each 1 x 3 x S x S, as the encoder takes them. outputs: convolutions give int8 too, and not only take it.
    """
    chosen, share = choose(encoder, photos, outputs=outputs, budget=BUDGET)
    nodes = {_module(node): node.name for node in onnx.load(graph).graph.node if node.op_type == "Conv"}
    if chosen:
        with _quiet():
            quantize_static(
                graph,
                graph,
                _Photos(photos),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                op_types_to_quantize=["Conv"],
                nodes_to_quantize=[nodes[name] for name in chosen],
                extra_options={"OpTypesToExcludeOutputQuantization": [] if outputs else ["Conv"]},
            )
    return share


@torch.inference_mode()
def choose(encoder: nn.Module, photos: Sequence[Tensor], *, outputs: bool, budget: float) -> tuple[list[str], float]:
    """The convolutions to put into int8, by module name, and their share of the encoder's multiplications."""
    convolutions = {name: module for name, module in encoder.named_modules() if isinstance(module, nn.Conv2d)}
    seen = _watch(encoder, convolutions, photos)
    measured = [(photo, encoder(photo)) for photo in photos[:MEASURED]]

    def harm(name: str) -> float:
        got = _with_int8(encoder, name, convolutions[name], seen[name], outputs)
        return sum(relative_error(got(photo), wanted) ** 2 for photo, wanted in measured) / len(measured)

    harms = {name: harm(name) for name, module in convolutions.items() if module.groups == 1}
    chosen: list[str] = []
    spent = 0.0
    for name in sorted(harms, key=lambda name: harms[name] / seen[name].work):
        if spent + harms[name] <= budget**2:
            chosen.append(name)
            spent += harms[name]
    return chosen, sum(seen[name].work for name in chosen) / sum(one.work for one in seen.values())


def _watch(encoder: nn.Module, convolutions: Mapping[str, nn.Conv2d], photos: Iterable[Tensor]) -> dict[str, Seen]:
    """What goes through the convolutions on all photos."""
    seen: dict[str, Seen] = {}

    def look(name: str) -> Callable[..., None]:
        def hook(module: nn.Conv2d, inputs: tuple[Tensor], output: Tensor) -> None:
            last = seen.get(name, Seen((0.0, 0.0), (0.0, 0.0), 0))
            work = module.weight.numel() * output.shape[-2] * output.shape[-1]
            seen[name] = Seen(_wider(last.input, inputs[0]), _wider(last.output, output), work)

        return hook

    with ExitStack() as hooks:
        for name, module in convolutions.items():
            hooks.enter_context(module.register_forward_hook(look(name)))
        for photo in photos:
            encoder(photo)
    return seen


def _with_int8(
    encoder: nn.Module, name: str, module: nn.Conv2d, seen: Seen, outputs: bool
) -> Callable[[Tensor], Tensor]:
    """The encoder with one convolution rounded as int8 rounds it."""
    weight = {f"{name}.weight": _round_weight(module.weight)}

    def run(photo: Tensor) -> Tensor:
        with ExitStack() as hooks:
            hooks.enter_context(module.register_forward_pre_hook(lambda _, inputs: (_round(inputs[0], seen.input),)))
            if outputs:
                hooks.enter_context(module.register_forward_hook(lambda _, __, output: _round(output, seen.output)))
            embedding: Tensor = torch.func.functional_call(encoder, weight, photo)
        return embedding

    return run


def _wider(bounds: tuple[float, float], x: Tensor) -> tuple[float, float]:
    least, most = x.aminmax()
    return min(bounds[0], float(least)), max(bounds[1], float(most))


def _round(x: Tensor, bounds: tuple[float, float]) -> Tensor:
    scale = max(bounds[1] - bounds[0], 1e-12) / 255
    return torch.fake_quantize_per_tensor_affine(x, scale, round(-bounds[0] / scale), 0, 255)


def _round_weight(weight: Tensor) -> Tensor:
    scales = weight.abs().amax((1, 2, 3)).clamp(min=1e-12) / 127
    zeros = torch.zeros(len(weight), dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, scales, zeros, 0, -127, 127)


def _module(node: onnx.NodeProto) -> str:
    """The module that a convolution's node comes from."""
    weight: str = node.input[1]
    return weight.removeprefix("encoder.").removesuffix(".weight")


class _Photos(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, photos: Iterable[Tensor]) -> None:
        self.left = iter(photos)

    def get_next(self) -> dict[str, Any] | None:
        photo = next(self.left, None)
        return None if photo is None else {"input_image": photo.contiguous().numpy()}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without ONNX Runtime's advice, through the root logger, to optimise the graph first: norms are folded already."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
