"""The zoo's families through the parity gate, and what their graphs are asked."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from support.families import row, tiny_edge_sam, tiny_hq, tiny_six_points, tiny_vit_hq
from support.seeded import official_weights, weights_for

from pipelines.errors import UsageError
from pipelines.export import format as formats
from pipelines.export.format import Format
from pipelines.export.onnx import Onnx
from pipelines.export.openvino import OpenVino
from pipelines.sam import SAMS
from pipelines.sam.model import Sam
from pipelines.sam.network import SamSource
from pipelines.sam.predictor import Prediction, SamPredictor
from pipelines.sam.torch_network import TorchBackend

pytestmark = pytest.mark.own_process

CPU = torch.device("cpu")
CLICKS = {"points": [[[60, 50], [90, 70]]], "labels": [[1, 0]]}
SLOW = (tiny_hq, tiny_six_points, tiny_edge_sam)


@pytest.fixture(scope="module", params=[tiny_vit_hq, *(pytest.param(each, marks=pytest.mark.slow) for each in SLOW)])
def builder(request: pytest.FixtureRequest) -> Callable[[], Sam]:
    """A family whose encoder or decoder makes a graph of its own."""
    return request.param


@pytest.fixture(scope="module")
def source(builder: Callable[[], Sam]) -> SamSource:
    return SamSource(row(builder), weights_for(builder()))


@pytest.fixture(scope="module")
def graphs(source: SamSource, shown: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its ONNX files, which the gate has let pass."""
    folder = tmp_path_factory.mktemp("graphs")
    assert Onnx().export(source, folder, photos=shown).faults == ()
    return folder


def opened(backend: Format, source: SamSource, folder: Path) -> SamPredictor:
    return SamPredictor(backend.name, backend._open(folder, source.build(), "fp32", CPU))


@pytest.mark.parametrize(
    "backend", [Onnx(), pytest.param(OpenVino(), marks=pytest.mark.slow)], ids=lambda each: each.name
)
def test_graphs_of_a_family_are_asked_as_torch_is(
    backend: Format,
    source: SamSource,
    graphs: Path,
    shown: list[np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if backend.name == "openvino":
        monkeypatch.setattr(formats, "write_graphs", lambda _, to: shutil.copytree(graphs, to, dirs_exist_ok=True))
        assert backend.export(source, tmp_path, photos=shown).faults == ()
        graphs = tmp_path
    sams = (
        SamPredictor("torch", TorchBackend().build(source, device="cpu", precision="fp32")),
        opened(backend, source, graphs),
    )
    for prompts in (CLICKS, {**CLICKS, "boxes": [[20, 20, 200, 180]]}):
        wanted, got = (predict(sam, shown[0], prompts) for sam in sams)
        np.testing.assert_allclose(
            got.low_res_masks, wanted.low_res_masks, atol=1e-3 * np.abs(wanted.low_res_masks).max()
        )
        np.testing.assert_allclose(got.predicted_iou, wanted.predicted_iou, atol=1e-3)


def predict(sam: SamPredictor, photo: np.ndarray, prompts: dict) -> Prediction:
    sam.set_image(photo)
    return sam.predict(**prompts)


@pytest.mark.parametrize("builder", [tiny_vit_hq], indirect=True)
def test_finer_features_and_the_token_that_reads_them_are_in_the_graphs(
    source: SamSource, graphs: Path, shown: list[np.ndarray]
) -> None:
    encoder, decoder = (onnx.load(graphs / f"{part}.onnx").graph for part in ("encoder", "decoder"))
    names = ["image_embeddings", "hq_features"]
    assert [value.name for value in encoder.output] == names
    assert [value.name for value in decoder.input] == [*names, "point_coords", "point_labels"]
    sam = opened(Onnx(), source, graphs)
    sam.set_image(shown[0])
    alone = sam.predict(**CLICKS, hq_token_only=True).low_res_masks
    both = sam.predict(**CLICKS, multimask_output=False).low_res_masks
    assert alone.shape == both.shape == (1, 1, 256, 256) and np.abs(alone - both).max() > 1e-3
    with pytest.raises(UsageError, match="takes no mask prompts"):
        sam.predict(**CLICKS, mask_input=both)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "name",
    ["mobile-sam", "repvit-sam", "edge-sam", "slimsam-77", "light-hq-sam", "efficient-sam-ti", "nanosam", "nanosam4"],
)
@pytest.mark.parametrize("backend", [Onnx(), OpenVino()], ids=lambda backend: backend.name)
def test_one_of_each_family_passes_the_gate(
    name: str, backend: Format, shown: list[np.ndarray], tmp_path: Path
) -> None:
    assert backend.export(SamSource(SAMS[name], official_weights(name)), tmp_path, photos=shown).faults == ()
