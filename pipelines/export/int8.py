"""int8 after training (arXiv 1712.05877): the encoder's convolutions and linear layers, as many as the embedding bears.

Weights are symmetric, with a scale per output channel; activations asymmetric, with one range per tensor. Everything
else stays in float: depthwise convolutions, products of attention, the norms, the decoder.

A range is RANGE_FACTOR times as wide as the photos show: what lies beyond it is clipped, and one clipped outlier before
the linear attention, whose sums are over the whole image, spoils the whole embedding. Where already one of the photos
goes RANGE_FACTOR times as far as most, the next may go farther: such a layer stays in float, too.

What a layer does to the embedding when it alone is in int8 is measured; such errors are nearly independent, so
their squares add up. Those that do the least harm per multiplication are taken until the budget is spent: in the first
stages the ranges are wide and the channels few, and a tenth of the work does nearly all of the harm.
"""

from __future__ import annotations

import ast
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from torch import Tensor, nn

from pipelines.errors import UsageError
from pipelines.export.gate import relative_error

BUDGET = 0.009
"""The error that all of int8 may add up to, in lengths of the embedding: about what bf16 costs."""
MEASURED = 2
"""Photos that harm is measured on."""
RANGE_FACTOR = 2.0
"""Of 28 photos that came next, one had its embedding spoilt at 1 (off by 0.2), and off by three times as much as the
others at 1.5; at 2 none stood out.
"""

Range = tuple[float, float]
"""The least and the greatest number, 0 among them."""
Layer = nn.Conv2d | nn.Linear
OPERATORS = ["Conv", "MatMul"]
"""What those are in a graph."""


class Seen(NamedTuple):
    """A layer at work: the ranges of its inputs and outputs, photo by photo; multiplications."""

    inputs: list[Range]
    outputs: list[Range]
    work: int


def quantize(encoder: nn.Module, graph: Path, photos: Sequence[Tensor], *, outputs: bool) -> float:
    """Put layers of `graph`, the ONNX file of `encoder`, into int8; returns their share of multiplications by weights.

    photos: each 1 x 3 x S x S, as the encoder takes them. outputs: convolutions give int8 too, and not only take it.
    Raises UsageError for a graph that does not fit into one file.
    """
    if graph.with_name(f"{graph.name}.data").exists():
        raise UsageError("this encoder has over 1.5 GiB of weights, too many for int8: use another precision")
    seen = watch(encoder, photos)
    chosen, share = choose(encoder, photos, seen, outputs=outputs, budget=BUDGET)
    nodes = _with_own_inputs(graph, chosen)
    ranges: dict[str, Range] = {}
    for name, node in nodes.items():
        ranges[node.input[0]] = with_room(seen[name].inputs)
        ranges[node.output[0]] = with_room(seen[name].outputs)
    if chosen:
        with _quiet():
            quantize_static(
                graph,
                graph,
                _Photos(photos[:1]),  # it wants to see one, although it is told every range
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                op_types_to_quantize=OPERATORS,
                nodes_to_quantize=[node.name for node in nodes.values()],
                extra_options={
                    "OpTypesToExcludeOutputQuantization": ["MatMul"] if outputs else OPERATORS,
                    "TensorQuantOverrides": {
                        tensor: [{"rmin": np.float32(least), "rmax": np.float32(most)}]
                        for tensor, (least, most) in ranges.items()
                    },
                },
            )
    return share


@torch.inference_mode()
def choose(
    encoder: nn.Module, photos: Sequence[Tensor], seen: Mapping[str, Seen], *, outputs: bool, budget: float
) -> tuple[list[str], float]:
    """The layers to put into int8, by module name, and their share of the encoder's multiplications by weights."""
    layers = _layers(encoder)
    measured = [(photo, encoder(photo)) for photo in photos[:MEASURED]]

    def harm(name: str) -> float:
        got = _with_int8(encoder, name, layers[name], seen[name], outputs)
        return sum(relative_error(got(photo), wanted) ** 2 for photo, wanted in measured) / len(measured)

    harms = {
        name: harm(name)
        for name, layer in layers.items()
        if not (isinstance(layer, nn.Conv2d) and layer.groups > 1)
        and not _goes_far(seen[name].inputs)
        and not (_gives_int8(layer, outputs) and _goes_far(seen[name].outputs))
    }
    chosen: list[str] = []
    spent = 0.0
    for name in sorted(harms, key=lambda name: harms[name] / seen[name].work):
        if spent + harms[name] <= budget**2:
            chosen.append(name)
            spent += harms[name]
    return chosen, sum(seen[name].work for name in chosen) / sum(one.work for one in seen.values())


@torch.inference_mode()
def watch(encoder: nn.Module, photos: Iterable[Tensor]) -> dict[str, Seen]:
    """What goes through the layers, by module name."""
    seen: dict[str, Seen] = {}

    def look(name: str) -> Callable[..., None]:
        def hook(layer: Layer, inputs: tuple[Tensor], output: Tensor) -> None:
            work = layer.weight.numel() * output.numel() // len(layer.weight)
            one = seen.setdefault(name, Seen([], [], work))
            one.inputs.append(_range(inputs[0]))
            one.outputs.append(_range(output))

        return hook

    with ExitStack() as hooks:
        for name, layer in _layers(encoder).items():
            hooks.enter_context(layer.register_forward_hook(look(name)))
        for photo in photos:
            encoder(photo)
    return seen


def _with_int8(encoder: nn.Module, name: str, layer: Layer, seen: Seen, outputs: bool) -> Callable[[Tensor], Tensor]:
    """The encoder with one layer rounded as int8 rounds it."""
    weight = {f"{name}.weight": _round_weight(layer.weight)}

    def run(photo: Tensor) -> Tensor:
        with ExitStack() as hooks:
            hooks.enter_context(layer.register_forward_pre_hook(lambda _, inputs: (_round(inputs[0], seen.inputs),)))
            if _gives_int8(layer, outputs):
                hooks.enter_context(layer.register_forward_hook(lambda _, __, output: _round(output, seen.outputs)))
            embedding: Tensor = torch.func.functional_call(encoder, weight, photo)
        return embedding

    return run


def _layers(encoder: nn.Module) -> dict[str, Layer]:
    return {name: module for name, module in encoder.named_modules() if isinstance(module, Layer)}


def _gives_int8(layer: Layer, outputs: bool) -> bool:
    return outputs and isinstance(layer, nn.Conv2d)


def _range(x: Tensor) -> Range:
    least, most = x.aminmax()
    return min(0.0, float(least)), max(0.0, float(most))


def with_room(ranges: Sequence[Range]) -> Range:
    """What a tensor in int8 can hold, given its range on each photo."""
    return RANGE_FACTOR * min(least for least, _ in ranges), RANGE_FACTOR * max(most for _, most in ranges)


def _goes_far(ranges: Sequence[Range]) -> bool:
    widths = [most - least for least, most in ranges]
    return max(widths) > RANGE_FACTOR * median(widths)


def _round(x: Tensor, ranges: Sequence[Range]) -> Tensor:
    least, most = with_room(ranges)
    scale = max(most - least, 1e-12) / 255
    return torch.fake_quantize_per_tensor_affine(x, scale, round(-least / scale), 0, 255)


def _round_weight(weight: Tensor) -> Tensor:
    scales = weight.abs().flatten(1).amax(1).clamp(min=1e-12) / 127
    zeros = torch.zeros(len(weight), dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, scales, zeros, 0, -127, 127)


def _with_own_inputs(path: Path, chosen: Sequence[str]) -> dict[str, onnx.NodeProto]:
    """Give the chosen layers in an ONNX file their inputs under names of their own; returns their nodes.

    A tensor is rounded for all that read it: else what passes beside a layer would be, too.
    """
    model = onnx.load(path)
    nodes: dict[str, onnx.NodeProto] = {}
    ordered: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.op_type in OPERATORS and (module := _module(node)) in chosen:
            own = f"{node.name}_input"
            ordered.append(onnx.helper.make_node("Identity", [node.input[0]], [own]))
            node.input[0] = own
            nodes[module] = node
        ordered.append(node)
    assert nodes.keys() == set(chosen)
    del model.graph.node[:]
    model.graph.node.extend(ordered)
    onnx.save(model, path)
    return nodes


def _module(node: onnx.NodeProto) -> str:
    """The name, in the encoder, of the module that a node comes from: torch notes the way to it."""
    scopes = next(entry.value for entry in node.metadata_props if entry.key == "pkg.torch.onnx.name_scopes")
    name: str = ast.literal_eval(scopes)[-2]
    return name.removeprefix("encoder.")


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
