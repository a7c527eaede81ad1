"""ONNX files, run by ONNX Runtime."""

from __future__ import annotations

import shutil
from pathlib import Path

import onnxruntime
import torch
from torch import Tensor

from pipelines.errors import UsageError
from pipelines.export.format import Format
from pipelines.export.network import Graph

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
"""By device type. The second comes with the package onnxruntime-gpu."""


class Onnx(Format):
    """Widely read, and what the other formats are made from."""

    name = "onnx"
    precisions = ("fp32", "fp16", "int8")
    suffixes = (".onnx",)
    packages = ("onnxruntime",)
    int8_outputs = True

    def check(self, device: torch.device) -> None:
        if PROVIDERS.get(device.type) not in onnxruntime.get_available_providers():
            raise UsageError(f"this ONNX Runtime cannot run on {device}: use --device cpu, or install onnxruntime-gpu")

    def convert(self, graph: Path, target: Path, *, precision: str, device: torch.device) -> None:
        shutil.move(graph, target)

    def open(self, path: Path, *, precision: str, device: torch.device) -> Graph:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        settings = {"device_id": device.index or 0} if device.type == "cuda" else {}
        session = onnxruntime.InferenceSession(path, options, providers=[(PROVIDERS[device.type], settings)])
        names = [value.name for value in session.get_inputs()]

        def run(*inputs: Tensor) -> list[Tensor]:
            arrays = {name: value.cpu().numpy() for name, value in zip(names, inputs, strict=True)}
            return [torch.from_numpy(output).to(device) for output in session.run(None, arrays)]

        return run
