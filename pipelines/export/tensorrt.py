"""TensorRT engines, built and run through its Python API, of TensorRT 10 and 11 alike.

The network is strongly typed, the only kind that TensorRT 11 has: every layer computes in the type that the ONNX file
gives it, so what has to stay in float32 does. An engine runs only under the TensorRT that built it, on such a GPU.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from pipelines.errors import SetupError, UsageError
from pipelines.export.format import Format
from pipelines.export.network import Graph
from pipelines.files import replacing
from pipelines.sam import chunks
from weights import store

try:
    import tensorrt as trt
except ModuleNotFoundError:
    raise
except (ImportError, OSError) as error:
    raise SetupError(
        f"TensorRT is installed but cannot be loaded ({error}): repeat `pip install 'evsam[tensorrt]'`"
    ) from error

BATCH = (1, chunks.IMAGES.usual, chunks.IMAGES.usual)
PROMPTS, POINTS = (1, chunks.PROMPTS.usual, chunks.PROMPTS.usual), (1, 2, 16)
"""Least, usual and most: images in the encoder; prompts, and points of each, in the decoder."""
LIMITS = f"at most {BATCH[-1]} images, or {PROMPTS[-1]} prompts of {POINTS[-1]} points each"
WORKSPACE = 4 << 30
"""Bytes that a layer may use while it is tried out."""


class Log(trt.ILogger):  # type: ignore[misc]
    """Keeps why TensorRT failed last: its calls say no more than that they did."""

    def __init__(self) -> None:
        super().__init__()
        self.fault = ""

    def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
        if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
            self.fault = " ".join(msg.split())


class TensorRt(Format):
    """The fastest on NVIDIA GPUs. Building takes minutes; the cache keeps engines and the timings behind them."""

    name = "tensorrt"
    precisions = ("fp32", "bf16", "fp16")
    suffixes = (".engine",)
    packages = ()
    most_prompts = PROMPTS[-1]

    def check(self, device: torch.device) -> None:
        if device.type != "cuda":
            raise UsageError(f"TensorRT runs on NVIDIA GPUs, not on {device}: use --device cuda")

    def machine(self, device: torch.device) -> dict[str, str]:
        major, minor = torch.cuda.get_device_capability(device)
        return {
            "tensorrt": trt.__version__,
            "gpu": torch.cuda.get_device_name(device),
            "compute_capability": f"{major}.{minor}",
        }

    def graph_precision(self, precision: str) -> str:
        return precision

    def convert(self, graph: Path, target: Path, *, precision: str, device: torch.device) -> None:
        with torch.cuda.device(device):
            here = re.sub(r"[^\w.]+", "-", " ".join(self.machine(device).values()))
            _build(graph, target, store.home() / "exports" / f"timings-{here}")

    def open(self, path: Path, *, precision: str, device: torch.device) -> Graph:
        with torch.cuda.device(device):
            runtime = trt.Runtime(logger := Log())
            engine = runtime.deserialize_cuda_engine(path.read_bytes())
            if engine is None:
                raise SetupError(
                    f"TensorRT {trt.__version__} cannot load {path} ({logger.fault}): export it again on this machine"
                )
            context = engine.create_execution_context()
            if context is None:
                raise SetupError(f"{device} has too little free memory for {path} ({logger.fault})")
            # on the default stream TensorRT waits for the GPU in every call
            stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        inputs, outputs = (
            [name for name in _tensors(engine) if engine.get_tensor_mode(name) == mode]
            for mode in (trt.TensorIOMode.INPUT, trt.TensorIOMode.OUTPUT)
        )

        def run(*values: Tensor) -> list[Tensor]:
            for name, value in zip(inputs, values, strict=True):
                if not context.set_input_shape(name, tuple(value.shape)):
                    raise UsageError(f"an engine takes no {name} of shape {tuple(value.shape)}: {LIMITS}")
                context.set_tensor_address(name, value.data_ptr())
            results = [torch.empty(tuple(context.get_tensor_shape(name)), device=device) for name in outputs]
            for name, result in zip(outputs, results, strict=True):
                context.set_tensor_address(name, result.data_ptr())
            current = torch.cuda.current_stream(device)
            stream.wait_stream(current)
            with torch.cuda.device(device):
                if not context.execute_async_v3(stream.cuda_stream):
                    raise RuntimeError(f"TensorRT could not run {path}: {logger.fault}")
            for value in (*values, *results):
                value.record_stream(stream)
            current.wait_stream(stream)
            return results

        return run


def _build(graph: Path, target: Path, timings: Path) -> None:
    logger = Log()
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(graph)):
        faults = "; ".join(str(parser.get_error(index)) for index in range(parser.num_errors))
        raise SetupError(f"TensorRT {trt.__version__} cannot read the exported graph: {faults}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE)
    config.clear_flag(trt.BuilderFlag.TF32)
    cache = config.create_timing_cache(timings.read_bytes() if timings.is_file() else b"")
    if cache is None or not config.set_timing_cache(cache, False):  # damaged, or made elsewhere
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        profile.set_shape(tensor.name, *_shapes(tensor.name, tuple(tensor.shape)))
    config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise SetupError(f"TensorRT {trt.__version__} cannot build {target.name} on this GPU: {logger.fault}")
    target.write_bytes(engine)
    with replacing(timings) as temporary:
        temporary.write_bytes(cache.serialize())


def _shapes(name: str, shape: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Least, usual and most: the graph's shape with its open dimensions, which are -1, filled in."""
    open_ones = (BATCH,) if name == "input_image" else (PROMPTS, POINTS)
    for level in range(3):
        sizes = iter(open_ones)
        yield tuple(next(sizes)[level] if size == -1 else size for size in shape)


def _tensors(engine: trt.ICudaEngine) -> list[str]:
    return [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
