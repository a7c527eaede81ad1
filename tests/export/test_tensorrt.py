"""TensorRT as far as a machine without it allows: every call against the real bindings' signatures, and their order."""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock

import pytest
import torch

from pipelines.errors import SetupError, UsageError
from pipelines.memory import out_of_memory
from pipelines.sam import build_sam

ROOT = Path(__file__).parents[2]
LISTINGS = json.loads((ROOT / "tests/data/tensorrt.json").read_text())
OBJECTS = {
    "builder": "Builder",
    "cache": "ITimingCache",
    "config": "IBuilderConfig",
    "context": "IExecutionContext",
    "engine": "ICudaEngine",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "profile": "IOptimizationProfile",
    "runtime": "Runtime",
    "tensor": "ITensor",
}
"""What the variables of pipelines/export/tensorrt.py hold."""


def uses() -> list[tuple[str, str, ast.Call | None]]:
    """(class, member, call) of everything that evsam asks of TensorRT; "__init__" where it makes an object."""
    tree = ast.parse((ROOT / "pipelines/export/tensorrt.py").read_text())
    calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    found: list[tuple[str, str, ast.Call | None]] = []
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(ast.Attribute(ast.Name("trt"), owner), member):
                found.append((owner, member, calls.get(id(node))))
            case ast.Attribute(ast.Name("trt"), owner) if owner != "__version__":
                found.append((owner, "__init__", calls.get(id(node))))
            case ast.Attribute(ast.Name(name), member) if name in OBJECTS:
                found.append((OBJECTS[name], member, calls.get(id(node))))
    return found


def takes(signature: str, call: ast.Call) -> bool:
    """Whether a signature such as `f(self: A, b: int, c: int = 0) -> D` has room for the call's arguments."""
    parameters = re.findall(r"(\w+): [^,=]+(=)?", signature[signature.index("(") + 1 : signature.rindex(") ->")])[1:]
    required = sum(not default for _, default in parameters)
    given = len(call.args)
    starred = any(isinstance(argument, ast.Starred) for argument in call.args)
    named = {keyword.arg for keyword in call.keywords} <= {name for name, _ in parameters}
    return named and (starred or required <= given) and given <= len(parameters)


@pytest.mark.parametrize("version", LISTINGS)
def test_every_call_exists_in_the_bindings(version: str) -> None:
    listing = LISTINGS[version]
    assert len(uses()) > 30
    for owner, member, call in uses():
        assert owner in listing, f"TensorRT {version} has no {owner}"
        if member == "__init__" and call is None:
            continue  # a class named, not made
        assert member in listing[owner], f"TensorRT {version}: {owner} has no {member}"
        signatures = listing[owner][member]
        if call is not None:
            assert any(takes(signature, call) for signature in signatures), (owner, member, signatures)


def test_the_listings_tell_the_versions_apart() -> None:
    """The check above could fail: what TensorRT 11 dropped is missing from its listing."""
    old, new = LISTINGS["10.16.1.11"], LISTINGS["11.4.0.106"]
    assert "platform_has_fast_fp16" in old["Builder"] and "platform_has_fast_fp16" not in new["Builder"]
    call = ast.parse("config.set_memory_pool_limit(1)", mode="eval").body
    assert isinstance(call, ast.Call)
    assert not any(takes(signature, call) for signature in new["IBuilderConfig"]["set_memory_pool_limit"])


@pytest.mark.skipif(find_spec("tensorrt") is not None, reason="TensorRT is here")
def test_without_tensorrt_one_line_says_what_to_install() -> None:
    with pytest.raises(SetupError, match=r"pip install 'evsam\[tensorrt\]'") as raised:
        build_sam("evsam-starter", device="cpu", backend="tensorrt")
    assert "\n" not in str(raised.value)


class Logger:
    """In the place of the bindings' ILogger."""

    INTERNAL_ERROR, ERROR, WARNING = range(3)
    Severity = int


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """pipelines.export.tensorrt with a `trt` that notes what is asked of it."""
    name = "pipelines.export.tensorrt"
    before = sys.modules.pop(name, None)
    monkeypatch.setitem(sys.modules, "tensorrt", MagicMock(__version__="11.4", ILogger=Logger))
    yield import_module(name)
    del sys.modules[name]
    if before is not None:
        sys.modules[name] = before


def test_an_engine_is_built_from_the_file_without_tf32_whatever_the_timings_are(
    backend: ModuleType, tmp_path: Path
) -> None:
    trt, graph, timings = backend.trt, tmp_path / "encoder.onnx", tmp_path / "timings"
    timings.write_bytes(b"damaged")
    builder, parser, fresh = trt.Builder(), trt.OnnxParser(), MagicMock()
    config = builder.create_builder_config()
    config.create_timing_cache.side_effect = lambda content: None if content else fresh
    fresh.serialize.return_value = b"timings"
    builder.create_network().num_inputs = 0
    builder.build_serialized_network.return_value = b"engine"
    backend._build(graph, tmp_path / "encoder.engine", timings)
    parser.parse_from_file.assert_called_once_with(str(graph))  # whose weights may lie beside it
    config.clear_flag.assert_called_once_with(trt.BuilderFlag.TF32)
    config.set_timing_cache.assert_called_once_with(fresh, False)
    assert (tmp_path / "encoder.engine").read_bytes() == b"engine" and timings.read_bytes() == b"timings"

    def fail(*_: object) -> None:
        (logger,) = trt.Builder.call_args.args
        logger.log(Logger.ERROR, "no kernel\nfits")
        logger.log(Logger.WARNING, "slow")

    builder.build_serialized_network.side_effect = fail
    with pytest.raises(SetupError, match=r"cannot build encoder\.engine on this GPU: no kernel fits$"):
        backend._build(graph, tmp_path / "encoder.engine", timings)


def test_usual_shapes_are_those_that_a_gpu_is_given(backend: ModuleType) -> None:
    assert list(backend._shapes("input_image", (-1, 3, 512, 512))) == [(n, 3, 512, 512) for n in (1, 16, 16)]
    assert list(backend._shapes("point_coords", (-1, -1, 2))) == [(1, 1, 2), (64, 2, 2), (64, 16, 2)]


def test_an_engine_runs_on_its_own_stream_in_its_turn(
    backend: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    own, current = MagicMock(cuda_stream=7), MagicMock(cuda_stream=0)
    own.wait_stream.side_effect = lambda other: events.append("waits" if other is current else "?")
    current.wait_stream.side_effect = lambda other: events.append("is waited for" if other is own else "?")
    monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "Stream", lambda _: own)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: current)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda _, stream: events.append(f"used on {stream.cuda_stream}"))
    trt, path = backend.trt, tmp_path / "encoder.engine"
    path.write_bytes(b"engine")
    engine = trt.Runtime().deserialize_cuda_engine()
    engine.num_io_tensors, engine.get_tensor_name = 2, ["input_image", "image_embeddings"].__getitem__
    modes = {"input_image": trt.TensorIOMode.INPUT, "image_embeddings": trt.TensorIOMode.OUTPUT}
    engine.get_tensor_mode = modes.__getitem__
    context = engine.create_execution_context()
    context.get_tensor_shape.return_value = (1, 256, 64, 64)
    context.execute_async_v3.side_effect = lambda stream: events.append(f"runs on {stream}") or True

    run = backend.TensorRt().open(path, precision="fp16", device=torch.device("cpu"))
    (embeddings,) = run(torch.zeros(1, 3, 8, 8))
    assert embeddings.shape == (1, 256, 64, 64)
    assert events == ["waits", "runs on 7", "used on 7", "used on 7", "is waited for"]

    def fail(_: int) -> bool:
        (logger,) = trt.Runtime.call_args.args
        logger.log(Logger.ERROR, "[defaultAllocator.cpp::allocate::31] Error Code 1: Cuda Runtime (out of memory)")
        return False

    context.execute_async_v3.side_effect = fail
    with pytest.raises(RuntimeError) as raised:
        run(torch.zeros(1, 3, 8, 8))
    assert out_of_memory(raised.value)
    context.set_input_shape.return_value = False
    with pytest.raises(UsageError, match=r"takes no input_image of shape .*: at most 16 images"):
        run(torch.zeros(17, 3, 8, 8))
