"""Exported SAMs: the graphs' form, the parity gate that opens and stays shut, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from PIL import Image as Pil
from support.runs import evsam

from pipelines.errors import EvsamError, SetupError, UsageError, WeightsError
from pipelines.export.graphs import OPSETS, EncoderGraph, graph_form, write_graph, write_graphs
from pipelines.export.onnx import Onnx
from pipelines.export.openvino import OpenVino
from pipelines.sam import SAMS, build_sam
from pipelines.sam.layers import LinearAttention
from pipelines.sam.network import Prompts, SamSource
from pipelines.sam.predictor import SamPredictor
from pipelines.sam.torch_network import TorchBackend, TorchNetwork
from weights import store

pytestmark = pytest.mark.own_process

STARTER = "evsam-starter"
CPU = torch.device("cpu")
FLOAT, HALF, BRAIN = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16


def shape(value: onnx.ValueInfoProto) -> list[int | str]:
    return [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]


def test_graphs_have_the_published_names_and_open_sizes(exported: Path) -> None:
    encoder, decoder = (onnx.load(exported / f"{part}.onnx") for part in ("encoder", "decoder"))
    assert [(v.name, shape(v)) for v in (*encoder.graph.input, *encoder.graph.output)] == [
        ("input_image", ["batch_size", 3, 512, 512]),
        ("image_embeddings", ["batch_size", 256, 64, 64]),
    ]
    assert [(v.name, shape(v)) for v in (*decoder.graph.input, *decoder.graph.output)] == [
        ("image_embeddings", [1, 256, 64, 64]),
        ("point_coords", ["batch_size", "num_points", 2]),
        ("point_labels", ["batch_size", "num_points"]),
        ("masks", ["batch_size", 4, 256, 256]),
        ("iou_predictions", ["batch_size", 4]),
    ]
    for model in (encoder, decoder):
        onnx.checker.check_model(model)
        kinds = Counter(node.op_type for node in model.graph.node)
        assert not kinds.keys() & {"OneHot", "Loop", "If", "NonZero", "Tile", "ScatterND"}, kinds
        assert {entry.domain: entry.version for entry in model.opset_import}[""] == OPSETS[torch.float32]


@pytest.mark.parametrize("count", [1, 7, pytest.param(300, marks=pytest.mark.slow)])
def test_decoder_takes_any_number_of_prompts(exported: Path, count: int) -> None:
    graph, network = Onnx().load(exported, STARTER, device=CPU, precision="fp32"), starter()
    embedding = torch.randn(1, 256, 64, 64, generator=torch.Generator().manual_seed(0))
    corners = torch.rand(count, 2, 2, generator=torch.Generator().manual_seed(1)) * 1024
    prompts = Prompts(boxes=torch.cat([corners.amin(1), corners.amax(1)], 1))
    decoded = graph.images((embedding,)).decode(prompts)
    assert decoded.iou.shape == (count, 4)
    with torch.inference_mode():
        plain = network.images((embedding,)).decode(prompts.part(count - 1, 1))
        which = torch.arange(4)[None]
        wanted, got = plain.masks(which), decoded.take(torch.tensor([count - 1])).masks(which)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))
    torch.testing.assert_close(decoded.iou[-1:], plain.iou, rtol=1e-4, atol=1e-5)


def test_points_boxes_and_padding_mean_what_they_mean_in_torch(exported: Path, photograph: np.ndarray) -> None:
    sams = [build_sam(STARTER), build_sam(STARTER, exported, backend="onnx")]
    box, click = [[60, 40, 420, 300]], [[[200, 150], [300, 200]]]
    for prompts in (
        {"boxes": box},
        {"points": click, "labels": [[1, 0]]},
        {"points": click, "labels": [[1, -1]]},
        {"boxes": box, "points": click, "labels": [[1, 0]]},
    ):
        torch_one, onnx_one = (predict(sam, photograph, prompts) for sam in sams)
        assert np.abs(torch_one - onnx_one).max() < 1e-3 * np.abs(torch_one).max()
    with pytest.raises(UsageError, match="no mask prompts"):
        sams[1].predict(boxes=box, mask_input=np.zeros((1, 1, 256, 256)))
    with pytest.raises(UsageError, match="backend='torch'"):
        _ = sams[1].model


def test_encoder_takes_batches(exported: Path, photograph: np.ndarray) -> None:
    graph = Onnx().load(exported, STARTER, device=CPU, precision="fp32")
    pixels = torch.randn(2, 3, 512, 512, generator=torch.Generator().manual_seed(0))
    (together,), (second,) = graph.encode(pixels), graph.encode(pixels[1:])
    torch.testing.assert_close(together[1:], second, rtol=1e-4, atol=1e-4)
    with torch.inference_mode():
        torch.testing.assert_close(together, starter().encode(pixels)[0], rtol=1e-3, atol=1e-3)


def test_half_graphs_keep_norms_and_linear_attention_in_float32(half: Path) -> None:
    encoder, decoder = (typed(half / f"{part}.onnx") for part in ("encoder", "decoder"))
    assert types(encoder, "LayerNormalization") == types(decoder, "LayerNormalization") == {FLOAT}
    # the encoder has no other products and quotients than the linear attention's
    assert types(encoder, "MatMul") == types(encoder, "Div") == {FLOAT}
    assert types(encoder, "Conv") == {HALF}
    assert types(decoder, "MatMul") | types(decoder, "Gemm") == {HALF, FLOAT}  # float: coordinates are encoded so
    assert types(decoder, "Softmax") == {HALF}
    for model in (encoder, decoder):
        ends = [*model.graph.input, *model.graph.output]
        assert {value.type.tensor_type.elem_type for value in ends} == {FLOAT}


def test_bf16_graphs_are_valid_and_keep_norms_and_linear_attention_in_float32(tmp_path: Path) -> None:
    write_graphs(graph_form(SamSource(SAMS[STARTER]).load(), "bf16"), tmp_path)
    for part in ("encoder", "decoder"):
        onnx.checker.check_model(onnx.load(tmp_path / f"{part}.onnx"), full_check=True)
    encoder, decoder = (typed(tmp_path / f"{part}.onnx") for part in ("encoder", "decoder"))
    assert types(encoder, "LayerNormalization") == types(encoder, "MatMul") == types(encoder, "Div") == {FLOAT}
    assert types(encoder, "Conv") == {BRAIN}
    assert {tensor.data_type for tensor in decoder.graph.initializer} & {HALF, BRAIN} == set()


def test_a_query_that_sees_nothing_gives_no_nan(tmp_path: Path) -> None:
    """Its weights sum to zero: what keeps the division defined must survive the export."""
    attention = LinearAttention(32, 16, (5,)).eval().requires_grad_(False)
    model = SimpleNamespace(image_encoder=attention, mask_decoder=None, encode=lambda x: (attention(x),))
    graph, path = EncoderGraph(model), tmp_path / "encoder.onnx"
    write_graph(
        graph, {"input_image": torch.randn(2, 32, 8, 8)}, {"input_image": {0: torch.export.Dim("n")}}, ["out"], path
    )
    nothing = torch.zeros(1, 32, 8, 8)
    for backend in (Onnx(), OpenVino()):
        (got,) = backend.open(path, precision="fp32", device=CPU)(nothing)
        torch.testing.assert_close(got, attention(nothing))


def test_bf16_keeps_the_decoder_in_float32() -> None:
    model = graph_form(SamSource(SAMS[STARTER]).load(), "bf16")
    assert {parameter.dtype for parameter in model.image_encoder.parameters()} == {torch.bfloat16}
    for part in (model.prompt_encoder, model.mask_decoder):
        assert {parameter.dtype for parameter in part.parameters()} == {torch.float32}
    assert EncoderGraph(model).dtype == torch.bfloat16


@pytest.mark.usefixtures("quick")
def test_exported_on_demand_once_and_checked_when_loaded(photograph: np.ndarray) -> None:
    box = {"boxes": [[60, 40, 420, 300]]}
    first = predict(build_sam(STARTER, backend="openvino"), photograph, box)
    again = build_sam(STARTER, backend="openvino")
    np.testing.assert_array_equal(predict(again, photograph, box), first)
    (folder,) = (store.home() / "exports").glob(f"{STARTER}-openvino-fp32-*")
    (folder / "decoder.bin").write_bytes(b"not what was checked")
    with pytest.raises(WeightsError, match=r"decoder\.bin is missing, damaged"):
        build_sam(STARTER, backend="openvino")
    shutil.rmtree(folder)


def test_folders_that_do_not_fit_are_refused(exported: Path, tmp_path: Path) -> None:
    for arguments, match in (
        ({"backend": "onnx", "precision": "fp16"}, "in fp32, but .* in fp16 is asked for"),
        ({"backend": "openvino"}, "as onnx in fp32, but .* as openvino"),
        ({"backend": "torch"}, "name its --backend"),
        ({"backend": "onnx", "precision": "bf16"}, "has no precision 'bf16'; choose one of: fp32"),
        ({"backend": "tpu"}, "unknown back end 'tpu'; choose one of: torch, "),
    ):
        with pytest.raises(EvsamError, match=match):
            build_sam(STARTER, exported, **arguments)
    with pytest.raises(UsageError, match="is no folder that `evsam export` made"):
        build_sam(STARTER, tmp_path, backend="onnx")
    with pytest.raises(UsageError, match="efficientvit-sam-l0 as onnx"):
        build_sam("efficientvit-sam-l0", exported, backend="onnx")

    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(exported, elsewhere)
    manifest = json.loads((elsewhere / "export.json").read_text())
    manifest["machine"] = {"tensorrt": "10.3.0", "gpu": "NVIDIA A100", "compute_capability": "8.0"}
    (elsewhere / "export.json").write_text(json.dumps(manifest))
    with pytest.raises(SetupError, match=r"bound to tensorrt 10\.3\.0 .* export it again"):
        build_sam(STARTER, elsewhere, backend="onnx")
    (elsewhere / "export.json").write_text(json.dumps({**manifest, "machine": {}, "files": {}}))
    with pytest.raises(WeightsError, match=r"encoder\.onnx is missing, damaged or not the one that was checked"):
        build_sam(STARTER, elsewhere, backend="onnx")


@pytest.mark.usefixtures("quick")
def test_export_and_segment_on_the_command_line(photograph: np.ndarray, tmp_path: Path) -> None:
    photo = tmp_path / "street.png"
    Pil.fromarray(photograph).save(photo)
    _, err = evsam("export", STARTER, "-o", tmp_path / "ov", "--format", "openvino", "--photos", photo)
    assert "Against torch in fp32: mask IoU 1.0000 on average" in err
    results = {}
    for backend, extra in (("torch", ()), ("openvino", ("--weights", tmp_path / "ov"))):
        out = tmp_path / backend
        command = ("segment", photo, "-o", out, "--box", "60,40,420,300", "--save", "coco")
        evsam(*command, "--backend", backend, "--device", "cpu", *extra)
        results[backend] = json.loads((out / "coco_results.json").read_text())
        assert json.loads((out / "run.json").read_text())["settings"]["backend"] == backend
    (a,), (b,) = results.values()
    assert a["predicted_iou"] == pytest.approx(b["predicted_iou"], abs=1e-4)
    assert a["segmentation"]["size"] == b["segmentation"]["size"]
    _, err = evsam("export", STARTER, "-o", tmp_path / "x", "--format", "pdf", code=2)
    assert "unknown format 'pdf'; choose one of: onnx, openvino, tensorrt" in err


def starter() -> TorchNetwork:
    return TorchBackend().build(SamSource(SAMS[STARTER]), device="cpu", precision="fp32")


def predict(sam: SamPredictor, photo: np.ndarray, prompts: dict) -> np.ndarray:
    sam.set_image(photo)
    return sam.predict(**prompts).low_res_masks


def typed(path: Path) -> onnx.ModelProto:
    return onnx.shape_inference.infer_shapes(onnx.load(path))


def types(model: onnx.ModelProto, kind: str) -> set[int]:
    """Element types of the first inputs of all nodes of a kind."""
    values = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    known = {value.name: value.type.tensor_type.elem_type for value in values}
    known |= {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type == kind]
    assert nodes, kind
    return {known[node.input[0]] for node in nodes}
