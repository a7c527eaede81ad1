"""The parity gate: what it lets pass, what it keeps out, and what it reports."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support.seeded import weights_for

from pipelines.errors import SetupError
from pipelines.export import format as formats
from pipelines.export import gate
from pipelines.export.network import Graph, GraphDecoded
from pipelines.export.onnx import Onnx
from pipelines.sam import BACKENDS, SAMS, build_sam
from pipelines.sam.network import SamSource
from pipelines.sam.predictor import SamPredictor
from pipelines.sam.torch_network import TorchBackend

pytestmark = pytest.mark.own_process

STARTER = "evsam-starter"
CPU = torch.device("cpu")


class AllHalf(Onnx):
    """A back end whose encoder computes in fp16 throughout: what a careless half-precision engine does."""

    def open(self, path: Path, *, precision: str, device: torch.device) -> Graph:
        if path.stem == "decoder":
            return super().open(path, precision=precision, device=device)
        network = TorchBackend().build(SamSource(SAMS[STARTER]), device="cpu", precision="fp16")

        def run(pixels: torch.Tensor) -> list[torch.Tensor]:
            with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
                patch.setattr(torch.Tensor, "float", lambda tensor: tensor)  # no way out of fp16
                (embedding,) = network.encode(pixels)
            assert embedding.dtype == torch.float16
            return [embedding.float()]

        return run


@pytest.mark.usefixtures("quick")
def test_gate_rejects_an_encoder_all_in_fp16(exported: Path, tmp_path: Path) -> None:
    """With the starter's own weights the linear attention's sums pass 65504, the largest float16."""
    folder = tmp_path / "engine"
    shutil.copytree(exported, folder)  # an earlier export, which must not survive either
    with pytest.raises(SetupError, match=r"fails the parity gate and is not kept: .*mask IoU"):
        AllHalf().export(SamSource(SAMS[STARTER]), folder, precision="fp16")
    assert [path.name for path in folder.iterdir()] == ["parity.json"]
    report = json.loads((folder / "parity.json").read_text())
    assert report["passed"] is False and report["faults"] and report["precision"] == "fp16"


@pytest.mark.slow
def test_gate_lets_the_careful_half_graphs_pass(
    half: Path, shown: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "write_graphs", lambda _, folder: shutil.copytree(half, folder, dirs_exist_ok=True))
    parity = Onnx().export(SamSource(SAMS[STARTER]), tmp_path, precision="fp16", photos=shown)
    assert parity.faults == () and 1e-5 < parity.encoder_error < 1e-2


def test_what_the_report_and_the_manifest_say(exported: Path) -> None:
    report, manifest = (json.loads((exported / name).read_text()) for name in ("parity.json", "export.json"))
    assert report["passed"] is True and report["faults"] == []
    assert report["steady"] == report["prompts"] == 23 and report["photos"] == 1 and report["same_choice"] == 1
    assert report["encoder_error"] < 1e-4 and report["worst_iou"] == report["worst_iou_of_all"] > 0.999
    assert manifest["files"].keys() == {path.name for path in exported.iterdir()} - {"parity.json", "export.json"}
    assert manifest["weights"] == SamSource(SAMS[STARTER]).sha256()


class Changed:
    """The exported network, with `change` made to the low-res logits and predicted IoUs that it decodes."""

    def __init__(self, exported: Path, change: Callable[[GraphDecoded], GraphDecoded]) -> None:
        self.inner = Onnx().load(exported, STARTER, device=CPU, precision="fp32")
        self.change = change

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    def images(self, embeddings: torch.Tensor) -> SimpleNamespace:
        decode = self.inner.images(embeddings).decode
        return SimpleNamespace(decode=lambda prompts: self.change(decode(prompts)))


def test_a_tie_may_be_decided_either_way_but_a_worse_mask_not(exported: Path, shown: list[np.ndarray]) -> None:
    turned = Changed(exported, lambda decoded: GraphDecoded(decoded.low_res, -decoded.iou))
    parity = gate.compare(build_sam(STARTER), SamPredictor(STARTER, turned), shown)
    assert parity.mean_iou > 0.999 and parity.same_choice < 1
    assert parity.faults == (f"the same mask is chosen for {parity.same_choice:.1%} of prompts only",)


@pytest.mark.parametrize(
    ("steady", "worst"), [([True, True, False], 0.96), ([False, True, True], 0.2), ([False, False, False], 0.2)]
)
def test_steady_masks_decide_what_is_worst(steady: list[bool], worst: float) -> None:
    assert gate.worst_of(np.array([0.96, 0.98, 0.2]), np.array(steady)) == (worst, sum(steady))


def test_every_mask_counts_unless_told_otherwise(exported: Path, shown: list[np.ndarray]) -> None:
    def turn_the_unsteady(decoded: GraphDecoded) -> GraphDecoded:
        area = (decoded.low_res > -1).sum((2, 3), keepdim=True)
        unsteady = (decoded.low_res > 1).sum((2, 3), keepdim=True) < 0.3 * area
        return GraphDecoded(torch.where(unsteady, -decoded.low_res, decoded.low_res), decoded.iou)

    turned = SamPredictor(STARTER, Changed(exported, turn_the_unsteady))
    every, steady = (gate.compare(build_sam(STARTER), turned, shown, least) for least in (0, 0.7))
    assert every.steady == every.prompts == 23 > steady.steady > 0
    assert every.worst_iou == every.worst_iou_of_all == steady.worst_iou_of_all < gate.WORST
    assert steady.worst_iou > 0.999 and steady.mean_iou == every.mean_iou < gate.MEAN
    assert {fault.split()[0] for fault in every.faults} == {"mean", "worst"}
    assert [fault.split()[0] for fault in steady.faults] == ["mean"]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", [name for name in SAMS if name.startswith("efficientvit-sam")])
def test_all_models_pass_the_gate(name: str, tmp_path: Path) -> None:
    """Seeded weights, ultralytics' two photographs."""
    source = SamSource(SAMS[name], weights_for(SamSource(SAMS[name]).build()))
    for backend in ("onnx", "openvino"):
        parity = BACKENDS[backend].load()().export(source, tmp_path / backend)
        print(name, backend, parity)
        assert parity.faults == ()
