"""TensorRT as far as a machine without it allows: every call against the real bindings' signatures."""

from __future__ import annotations

import ast
import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from pipelines.errors import SetupError
from pipelines.sam import build_sam

ROOT = Path(__file__).parents[1]
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
