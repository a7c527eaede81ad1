"""int8: which convolutions are taken, what becomes of the graph, and what is refused."""

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
from torch import Tensor, nn

from pipelines.errors import UsageError
from pipelines.export import graphs, int8
from pipelines.export.gate import relative_error
from pipelines.export.onnx import Onnx
from pipelines.export.openvino import OpenVino
from pipelines.sam import BACKENDS, SAMS, build_sam
from pipelines.sam.network import SamSource

pytestmark = pytest.mark.own_process

INT8 = onnx.TensorProto.INT8
STARTER = "evsam-starter"


class Branches(nn.Module):
    """`wide` ignores the third channel of its input, whose range leaves no steps for the other two."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = nn.Conv2d(3, 4, 1)
        self.wide = nn.Conv2d(3, 4, 1)
        self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.rows = nn.Linear(4, 5)
        with torch.no_grad():
            self.wide.weight[:, 2] = 0

    def forward(self, x: Tensor) -> Tensor:
        x = self.plain(x) + self.wide(x * torch.tensor([1.0, 1.0, 1000.0])[:, None, None])
        return self.rows(self.depthwise(x).permute(0, 2, 3, 1))


@pytest.fixture(scope="module")
def encoder() -> Branches:
    torch.manual_seed(0)
    return Branches().eval().requires_grad_(False)


@pytest.mark.parametrize("outputs", [False, True])
def test_what_harms_stays_in_float(encoder: Branches, outputs: bool) -> None:
    photos = list(torch.randn(3, 1, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    work = {"plain": 12, "wide": 12, "depthwise": 36, "rows": 20}
    for budget, names in ((0.0, set()), (0.03, {"plain", "rows"}), (10.0, {"plain", "wide", "rows"})):
        chosen, share = int8.choose(encoder, photos, int8.watch(encoder, photos), outputs=outputs, budget=budget)
        assert set(chosen) == names
        assert share == pytest.approx(sum(work[name] for name in names) / sum(work.values()))


@pytest.mark.parametrize(("far", "share"), [(1.5, 0.55), (4.0, 0.0)])
def test_what_goes_far_on_one_photo_stays_in_float(encoder: Branches, far: float, share: float) -> None:
    photos = list(torch.randn(5, 1, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    photos[3] *= far
    chosen = int8.choose(encoder, photos, int8.watch(encoder, photos), outputs=True, budget=10.0)
    assert chosen[1] == pytest.approx(share)


@pytest.fixture(scope="module")
def graph_file(encoder: Branches, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = SimpleNamespace(image_encoder=encoder, mask_decoder=None, encode=lambda pixels: (encoder(pixels),))
    path = tmp_path_factory.mktemp("graph") / "encoder.onnx"
    sizes = {"input_image": {0: torch.export.Dim("batch_size")}}
    graphs.write_graph(graphs.EncoderGraph(model), {"input_image": torch.randn(2, 3, 16, 16)}, sizes, ["out"], path)
    return path


@pytest.mark.parametrize("backend", [Onnx(), OpenVino()], ids=lambda backend: backend.name)
def test_chosen_convolutions_become_int8_in_the_graph(
    backend: Onnx | OpenVino, encoder: Branches, graph_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(shutil.copy(graph_file, tmp_path / "encoder.onnx"))
    photos = list(torch.randn(3, 1, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    monkeypatch.setattr(int8, "BUDGET", 0.03)
    assert int8.quantize(encoder, path, photos, outputs=backend.int8_outputs) == pytest.approx(0.4)
    graph = onnx.load(path).graph
    weights = [tensor for tensor in graph.initializer if tensor.data_type == INT8 and len(tensor.dims) > 1]
    assert [list(tensor.dims) for tensor in weights] == [[4, 3, 1, 1], [4, 5]]
    for weight, outputs in zip(weights, (4, 5), strict=True):
        (scales,) = [one for one in graph.initializer if one.name == weight.name.replace("quantized", "scale")]
        assert list(scales.dims) == [outputs]  # one per output channel
    steps = {one.name: one for one in graph.initializer if one.name.endswith("_input_scale")}
    seen = int8.watch(encoder, photos)
    for (name, step), module in zip(sorted(steps.items()), ("rows", "plain"), strict=True):
        least, most = int8.with_room(seen[module].inputs)
        assert onnx.numpy_helper.to_array(step) == pytest.approx((most - least) / 255), name
    (beside,) = [node for node in graph.node if node.op_type == "Mul"]
    assert "input_image" in beside.input  # and not what int8 made of it
    kinds = Counter(node.op_type for node in graph.node)
    assert kinds["Conv"] == 3 and kinds["MatMul"] == 1 and kinds["QuantizeLinear"] == 2 + backend.int8_outputs
    (got,) = backend.open(path, precision="int8", device=torch.device("cpu"))(photos[0])
    assert 1e-4 < relative_error(got, encoder(photos[0])) < 0.03


def test_int8_wants_photos(photograph: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"fitted to photos .* --format openvino --precision int8 --photos PHOTOS"):
        build_sam(STARTER, backend="openvino", precision="int8")
    command = ("export", STARTER, "-o", tmp_path / "out", "--precision", "int8", "--device", "cpu")
    _, err = evsam(*command, code=2)
    assert "fitted to photos" in err
    Pil.fromarray(photograph).save(tmp_path / "one.png")
    _, err = evsam(*command, "--photos", tmp_path / "one.png", code=2)
    assert "too few photos" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_starter_in_int8_passes_its_gate(backend: str, photographs: list[Path], tmp_path: Path) -> None:
    """Fitted to one photograph of ultralytics and its two halves, checked on the other."""
    bus, zidane = (np.asarray(Pil.open(path).convert("RGB")) for path in photographs)
    halves = [bus, bus[: len(bus) // 2], bus[len(bus) // 2 :]]
    format = BACKENDS[backend].load()()
    parity = format.export(SamSource(SAMS[STARTER]), tmp_path, precision="int8", photos=[zidane], calibration=halves)
    assert parity.faults == () and parity.int8_share > 0.2
    assert json.loads((tmp_path / "parity.json").read_text())["int8_share"] == parity.int8_share
    sam = build_sam(STARTER, tmp_path, backend=backend, precision="int8")
    sam.set_image(zidane)
    assert len(sam.segment_boxes([[60, 40, 420, 300]]).rles) == 1
