"""OpenVINO's files, run by OpenVINO on the CPU."""

from __future__ import annotations

import errno
from pathlib import Path

import openvino
import torch
from torch import Tensor

from pipelines.errors import WeightsError
from pipelines.export.format import Format
from pipelines.export.graphs import ENCODER
from pipelines.export.network import Graph
from pipelines.memory import out_of_memory

HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
"""What an encoder is computed in, where its file leaves it open. The decoder stays in float32: in bf16 its attention
over 4096 places loses more than the whole encoder does.
"""


class OpenVino(Format):
    """The fastest on x86 CPUs. In bf16 the files are those of fp32: OpenVINO rounds as it loads them."""

    name = "openvino"
    precisions = ("fp32", "bf16", "int8")
    suffixes = (".xml", ".bin")
    packages = ("openvino", "onnxruntime")

    def convert(self, graph: Path, target: Path, *, precision: str, device: torch.device) -> None:
        model = openvino.Core().read_model(graph)
        try:
            openvino.save_model(model, target, compress_to_fp16=False)
        except RuntimeError as error:
            raise OSError(errno.EIO, f"OpenVINO cannot write its files ({error}), as happens on a full disk") from error

    def beside(self, path: Path) -> list[str]:
        return [path.with_suffix(self.suffixes[1]).name]

    def open(self, path: Path, *, precision: str, device: torch.device) -> Graph:
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": HINTS[precision] if path.stem == ENCODER else "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }

        def load() -> openvino.InferRequest:
            return openvino.Core().compile_model(path, "CPU", settings).create_infer_request()

        try:
            request = load()
        except RuntimeError as error:
            if out_of_memory(error):
                raise
            raise WeightsError(f"OpenVINO cannot load {path}: {error}") from error

        def run(*inputs: Tensor) -> list[Tensor]:
            nonlocal request
            arrays = [value.numpy() for value in inputs]
            # `infer` of 2026.4.1 says nothing when memory runs out, and gives the outputs of the run before
            request.start_async(arrays, share_inputs=True)
            try:
                request.wait()
            except RuntimeError:
                request = load()  # the failed one would fail once more, whatever it is given
                raise
            return [torch.from_numpy(output) for output in request.results.values()]

        return run
