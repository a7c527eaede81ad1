"""The encoder and the decoder as ONNX graphs, with the names of EfficientViT-SAM's own exports.

encoder: input_image B x 3 x S x S -> image_embeddings B x 256 x 64 x 64, and what the decoder reads besides.
decoder: image_embeddings 1 x 256 x 64 x 64 and what else the encoder gives, point_coords N x P x 2 (x, y in the 1024
    frame), point_labels N x P (1 on, 0 off, 2 and 3 a box's corners, -1 padding) -> masks N x 4 x 256 x 256 logits (of
    HQ-SAM also the detail alone), iou_predictions N x 4.

Inputs and outputs are float32. In fp16 everything between is half, except the norms and the linear attention, whose
sums leave float16's range; in bf16 the decoder, too, is in float32: attention over 4096 places needs more than 8 bits.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipelines.device import PRECISIONS
from pipelines.sam.model import Sam
from pipelines.sam.torch_network import inference_form

OPSETS = {torch.float32: 20, torch.float16: 20, torch.bfloat16: 22}
"""By what the weights are: the first with GELU as one operator, and the first whose convolutions take bfloat16."""
ENCODER, DECODER = "encoder", "decoder"


class EncoderGraph(nn.Module):
    """What becomes the encoder's graph."""

    def __init__(self, model: Sam) -> None:
        super().__init__()
        self.encoder, self.decoder = model.image_encoder, model.mask_decoder
        self.encode = model.encode
        self.dtype = next(model.image_encoder.parameters()).dtype

    def forward(self, input_image: Tensor) -> tuple[Tensor, ...]:
        return tuple(part.float() for part in self.encode(input_image.to(self.dtype)))


class DecoderGraph(nn.Module):
    """What becomes the decoder's graph. What depends on no input is computed here, once."""

    def __init__(self, model: Sam) -> None:
        super().__init__()
        self.prompts = model.prompt_encoder
        self.decoder = model.mask_decoder
        self.pe = model.prompt_encoder.dense_pe(64)
        self.positions = model.mask_decoder.positions(self.pe)

    def forward(self, features: Sequence[Tensor], point_coords: Tensor, point_labels: Tensor) -> tuple[Tensor, Tensor]:
        embeddings, *more = (part.to(self.prompts.dtype) for part in features)
        tokens, side = self.decoder.image_side(embeddings + self.prompts.no_mask, self.pe, *more)
        sparse = self.prompts.embed_points(point_coords, point_labels)
        index = torch.zeros_like(point_labels[:, 0], dtype=torch.long)
        decoded = self.decoder.decode(tokens, side, self.positions, sparse, index)
        return self.decoder.masks(decoded).float(), decoded.iou.float()


def graph_form(model: Sam, precision: str) -> Sam:
    """The model, in place, as it is to be exported."""
    dtype = PRECISIONS[precision]
    inference_form(model, torch.float32 if dtype == torch.bfloat16 else dtype)
    model.image_encoder.to(dtype)
    return model


@torch.no_grad()
def write_graphs(model: Sam, folder: Path) -> None:
    """Write encoder.onnx and decoder.onnx. model: in inference form, on the CPU; its precisions are the graphs'."""
    batch, points = torch.export.Dim("batch_size"), torch.export.Dim("num_points")
    side = model.input_size
    features = {"image_embeddings": (256, 64, 64), **model.beside}
    write_graph(
        EncoderGraph(model),
        {"input_image": torch.randn(2, 3, side, side)},
        {"input_image": {0: batch}},
        list(features),
        folder / f"{ENCODER}.onnx",
    )
    write_graph(
        DecoderGraph(model),
        {
            "features": [torch.randn(1, *shape) for shape in features.values()],
            "point_coords": torch.rand(3, 2, 2) * 1024,
            "point_labels": torch.ones(3, 2),
        },
        {
            "features": [None] * len(features),
            "point_coords": {0: batch, 1: points},
            "point_labels": {0: batch, 1: points},
        },
        ["masks", "iou_predictions"],
        folder / f"{DECODER}.onnx",
        [*features, "point_coords", "point_labels"],
    )


def write_graph(
    graph: nn.Module,
    inputs: Mapping[str, Any],
    shapes: Mapping[str, Any],
    outputs: list[str],
    path: Path,
    names: list[str] | None = None,
) -> None:
    """Write one ONNX file. inputs: examples; shapes: the axes of each that may have other sizes; names: of the inputs
    in the file, where they are not those that the graph has for them.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about itself
        torch.onnx.export(
            graph.eval(),
            kwargs=dict(inputs),
            f=path,
            input_names=names or list(inputs),
            output_names=outputs,
            dynamic_shapes=dict(shapes),
            opset_version=max(OPSETS[parameter.dtype] for parameter in graph.parameters()),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
