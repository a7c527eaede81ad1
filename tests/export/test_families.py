"""The zoo's families through the parity gate, and what their graphs are asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from support import families
from support.seeded import official_weights, weights_for

from pipelines.errors import UsageError
from pipelines.export.onnx import Onnx
from pipelines.export.openvino import OpenVino
from pipelines.sam import SAMS
from pipelines.sam.model import Sam
from pipelines.sam.network import SamSource
from pipelines.sam.predictor import SamPredictor
from pipelines.sam.torch_network import TorchBackend

pytestmark = pytest.mark.own_process

CPU = torch.device("cpu")
CLICKS = {"points": [[[60, 50], [90, 70]]], "labels": [[1, 0]]}


@pytest.mark.parametrize("builder", [families.tiny_hq, families.tiny_six_points])
def test_graphs_of_a_family_are_asked_as_torch_is(
    builder: Callable[[], Sam], shown: list[np.ndarray], tmp_path: Path
) -> None:
    source = SamSource(families.row(builder), weights_for(builder()))
    torch_sam = SamPredictor("torch", TorchBackend().build(source, device="cpu", precision="fp32"))
    torch_sam.set_image(shown[0])
    for backend in (Onnx(), OpenVino()):
        assert backend.export(source, tmp_path, photos=shown).faults == ()
        sam = SamPredictor(backend.name, backend._open(tmp_path, source.build(), "fp32", CPU))
        sam.set_image(shown[0])
        for prompts in (CLICKS, {**CLICKS, "boxes": [[20, 20, 200, 180]]}):
            ours, wanted = sam.predict(**prompts), torch_sam.predict(**prompts)
            scale = 1e-3 * float(np.abs(wanted.low_res_masks).max())
            np.testing.assert_allclose(ours.low_res_masks, wanted.low_res_masks, atol=scale)
            np.testing.assert_allclose(ours.predicted_iou, wanted.predicted_iou, atol=1e-3)


def test_finer_features_and_the_token_that_reads_them_are_in_the_graphs(
    shown: list[np.ndarray], tmp_path: Path
) -> None:
    source = SamSource(families.row(families.tiny_hq), weights_for(families.tiny_hq()))
    Onnx().export(source, tmp_path, photos=shown)
    encoder, decoder = (onnx.load(tmp_path / f"{part}.onnx").graph for part in ("encoder", "decoder"))
    names = ["image_embeddings", "hq_features"]
    assert [value.name for value in encoder.output] == names
    assert [value.name for value in decoder.input] == [*names, "point_coords", "point_labels"]
    sam = SamPredictor("onnx", Onnx()._open(tmp_path, source.build(), "fp32", CPU))
    sam.set_image(shown[0])
    alone = sam.predict(**CLICKS, hq_token_only=True).low_res_masks
    both = sam.predict(**CLICKS, multimask_output=False).low_res_masks
    assert alone.shape == both.shape == (1, 1, 256, 256) and np.abs(alone - both).max() > 1e-3
    with pytest.raises(UsageError, match="takes no mask prompts"):
        sam.predict(**CLICKS, mask_input=both)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["mobile-sam", "repvit-sam", "edge-sam", "slimsam-77", "light-hq-sam", "efficient-sam-ti", "nanosam4"]
)
@pytest.mark.parametrize("backend", [Onnx, OpenVino])
def test_one_of_each_family_passes_the_gate(
    name: str, backend: type[Onnx] | type[OpenVino], shown: list[np.ndarray], tmp_path: Path
) -> None:
    assert backend().export(SamSource(SAMS[name], official_weights(name)), tmp_path, photos=shown).faults == ()
