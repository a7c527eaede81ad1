"""ONNX files, run by ONNX Runtime."""

from __future__ import annotations

import shutil
from pathlib import Path

import onnxruntime
import torch
from onnxruntime.capi.onnxruntime_pybind11_state import EPFail, Fail, RuntimeException
from torch import Tensor

from pipelines.errors import SetupError, UsageError
from pipelines.export.format import Format
from pipelines.export.network import Graph

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
"""By device type. The second comes with the package onnxruntime-gpu."""


class Onnx(Format):
    """Widely read, and what the other formats are made from."""

    name = "onnx"
    precisions = ("fp32", "fp16", "int8")
    suffixes = (".onnx", ".onnx.data")  # the second has the weights of graphs over 1.5 GiB
    packages = ("onnxruntime",)
    int8_outputs = True

    def check(self, device: torch.device) -> None:
        if PROVIDERS.get(device.type) not in onnxruntime.get_available_providers():
            raise UsageError(f"this ONNX Runtime cannot run on {device}: use --device cpu, or install onnxruntime-gpu")

    def convert(self, graph: Path, target: Path, *, precision: str, device: torch.device) -> None:
        for path in graph.parent.glob(f"{graph.name}*"):
            shutil.move(path, target.with_name(path.name))

    def open(self, path: Path, *, precision: str, device: torch.device) -> Graph:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        settings = {"device_id": device.index or 0, "use_tf32": 0} if device.type == "cuda" else {}
        provider = PROVIDERS[device.type]
        session = onnxruntime.InferenceSession(path, options, providers=[(provider, settings)])
        if provider not in session.get_providers():
            raise SetupError(
                f"ONNX Runtime {onnxruntime.__version__} cannot load its {provider} on {device}, as happens without "
                "the CUDA and cuDNN that it was built for: install those, or use --device cpu"
            )
        names = [value.name for value in session.get_inputs()]

        def run(*inputs: Tensor) -> list[Tensor]:
            arrays = {name: value.cpu().numpy() for name, value in zip(names, inputs, strict=True)}
            try:
                outputs = session.run(None, arrays)
            except (EPFail, Fail, RuntimeException) as error:
                raise RuntimeError(str(error)) from error
            return [torch.from_numpy(output).to(device) for output in outputs]

        return run
