"""ONNX files, run by ONNX Runtime."""

from __future__ import annotations

import shutil
from pathlib import Path

import onnxruntime
import torch
from onnxruntime.capi import onnxruntime_pybind11_state as state
from torch import Tensor

from pipelines.errors import SetupError, UsageError, WeightsError
from pipelines.export.format import Format
from pipelines.export.network import Graph
from pipelines.memory import out_of_memory
from pipelines.onnx_files import files_beside, quiet_onnxruntime

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
"""By device type. The second comes with the package onnxruntime-gpu."""
FAULTS = tuple(kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception))
"""What ONNX Runtime raises."""
quiet_onnxruntime()


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

    def beside(self, path: Path) -> list[str]:
        return files_beside(path)

    def open(self, path: Path, *, precision: str, device: torch.device) -> Graph:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        settings = {"device_id": device.index or 0, "use_tf32": 0} if device.type == "cuda" else {}
        provider = PROVIDERS[device.type]
        try:
            session = onnxruntime.InferenceSession(path, options, providers=[(provider, settings)])
        except FAULTS as error:
            if out_of_memory(error):
                raise RuntimeError(str(error)) from error
            raise WeightsError(f"ONNX Runtime cannot load {path}: {error}") from error
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
            except state.InvalidArgument as error:
                raise WeightsError(f"{path} is not the {path.stem} of a SAM as evsam exports it: {error}") from error
            except FAULTS as error:
                raise RuntimeError(str(error)) from error
            return [torch.from_numpy(output).to(device) for output in outputs]

        return run
