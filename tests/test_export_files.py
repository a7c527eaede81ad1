"""An export's folder and packages; what its back ends say when memory runs out or a GPU cannot be had."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from runs import environment, evsam
from torch.onnx._internal.exporter import _onnx_program

from pipelines.errors import SetupError, UsageError, WeightsError
from pipelines.export import int8
from pipelines.export.format import Format
from pipelines.export.onnx import Onnx
from pipelines.export.openvino import OpenVino
from pipelines.sam.network import Source

pytestmark = pytest.mark.own_process

STARTER = "evsam-starter"
CPU = torch.device("cpu")
LARGE = ["decoder.onnx", "decoder.onnx.data", "encoder.onnx", "encoder.onnx.data"]


def test_weights_that_torch_writes_beside_a_graph_belong_to_the_export(
    shown: list[np.ndarray], exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_onnx_program, "_LARGE_MODEL_THRESHOLD", 0)  # as if the starter were sam-vit-h
    assert Onnx().export(Source(STARTER), tmp_path, photos=shown).faults == ()
    assert sorted(json.loads((tmp_path / "export.json").read_text())["files"]) == LARGE
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*LARGE, "export.json", "parity.json"])
    wanted, got = (Onnx().load(folder, STARTER, device=CPU, precision="fp32") for folder in (exported, tmp_path))
    pixels = torch.zeros(1, 3, 512, 512)
    torch.testing.assert_close(got.encode(pixels), wanted.encode(pixels))
    with pytest.raises(UsageError, match=r"over 1\.5 GiB .* too many for int8"):
        int8.quantize(torch.nn.Identity(), tmp_path / "encoder.onnx", [], outputs=True)

    (tmp_path / "encoder.onnx.data").write_bytes(b"not what was checked")
    with pytest.raises(WeightsError, match=r"encoder\.onnx\.data is missing, damaged"):
        Onnx().load(tmp_path, STARTER, device=CPU, precision="fp32")
    with pytest.raises(RuntimeError, match="to be cleared first"):
        _Stopped().export(Source(STARTER), tmp_path)
    assert not list(tmp_path.iterdir())


class _Stopped(Onnx):
    def graph_precision(self, precision: str) -> str:
        raise RuntimeError("to be cleared first")


@pytest.mark.parametrize("taken", ["file", "file/inside", "folder"])
def test_an_output_that_cannot_be_written_to_gets_one_line(taken: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder/encoder.onnx").mkdir(parents=True)
    out, err = evsam("export", STARTER, "-o", tmp_path / taken, "--device", "cpu", code=2)
    (line,) = [line for line in err.splitlines() if line.startswith("evsam: ")]
    assert f"cannot write to {tmp_path / taken}: " in line and not out and "Traceback" not in err


@pytest.mark.parametrize("backend", [Onnx(), OpenVino()], ids=lambda backend: backend.name)
def test_onnxruntime_gpu_will_do(backend: Format, monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version
    installed = {"onnxruntime-gpu": "1.99.0"}

    def version(package: str) -> str:
        if package == "onnxruntime":
            raise metadata.PackageNotFoundError(package)
        return installed.get(package) or real(package)

    monkeypatch.setattr(metadata, "version", version)
    assert backend._made(Source(STARTER), "fp32", CPU).versions["onnxruntime"] == "1.99.0"
    installed["onnxruntime-gpu"] = ""
    with pytest.raises(SetupError, match=r"needs the package 'onnxruntime': .*evsam\[export\]"):
        backend._made(Source(STARTER), "fp32", CPU)


def test_onnxruntime_without_its_cuda_is_not_run_on_the_cpu_instead(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it does by itself, after a warning. In fp32 it is told to leave TF32 out."""
    real, asked = onnxruntime.InferenceSession, []

    def session(path: Path, options: object, providers: list[object]) -> onnxruntime.InferenceSession:
        asked.extend(providers)
        return real(path, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    with pytest.raises(
        SetupError, match=r"cannot load its CUDAExecutionProvider on cuda:1.* use --device cpu"
    ) as raised:
        Onnx().open(exported / "decoder.onnx", precision="fp32", device=torch.device("cuda:1"))
    assert "\n" not in str(raised.value)
    assert asked == [("CUDAExecutionProvider", {"device_id": 1, "use_tf32": 0})]


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on address space")
@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_memory_that_runs_out_is_recognised_and_spoils_no_outputs(backend: str, exported: Path) -> None:
    code = f"""
import resource, torch
from pathlib import Path
from pipelines.sam import BACKENDS
from pipelines.sam.memory import out_of_memory
path, device = Path({os.fspath(exported / "decoder.onnx")!r}), torch.device("cpu")
run = BACKENDS[{backend!r}].load()().open(path, precision="fp32", device=device)
def prompts(count):
    return torch.zeros(1, 256, 64, 64), torch.zeros(count, 2, 2), torch.ones(count, 2)
few = run(*prompts(2))
resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))
try:
    run(*prompts(20000))
except (RuntimeError, MemoryError) as error:
    print(out_of_memory(error))
print(all(torch.equal(a, b) for a, b in zip(few, run(*prompts(2)))))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment())
    assert done.stdout.split() == ["True", "True"]
