"""Weights that an ONNX file keeps in other files: only files of its own folder are opened."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.onnx_ml_pb2 as proto
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.runs import evsam

from pipelines.errors import WeightsError
from pipelines.onnx_files import _PARTS, files_beside


def kept(location: str, name: str = "w") -> TensorProto:
    """Four numbers that lie elsewhere."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in (("offset", "0"), ("location", location), ("length", "16")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def in_weights(tensor: TensorProto) -> onnx.ModelProto:
    value = helper.make_tensor_value_info
    ends = [value("x", TensorProto.FLOAT, [4])], [value("y", TensorProto.FLOAT, [4])]
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", *ends, [tensor])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def in_constant(tensor: TensorProto) -> onnx.ModelProto:
    model = in_weights(numpy_helper.from_array(np.ones(4, np.float32), "w"))
    model.graph.node.insert(0, helper.make_node("Constant", [], ["c"], value=tensor))
    return model


def in_branch(tensor: TensorProto) -> onnx.ModelProto:
    model = in_constant(tensor)
    inner = model.graph.node[0]
    branch = helper.make_graph([inner], "b", [], [helper.make_tensor_value_info("c", TensorProto.FLOAT, [4])])
    node = helper.make_node("If", ["x"], ["c"], then_branch=branch, else_branch=branch)
    del model.graph.node[0]
    model.graph.node.insert(0, node)
    return model


def in_function(tensor: TensorProto) -> onnx.ModelProto:
    model = in_constant(tensor)
    opset = [helper.make_opsetid("", 18)]
    model.functions.append(helper.make_function("mine", "f", [], ["c"], [model.graph.node[0]], opset))
    del model.graph.node[0]
    return model


def in_sparse(tensor: TensorProto) -> onnx.ModelProto:
    model = in_weights(numpy_helper.from_array(np.ones(4, np.float32), "w"))
    model.graph.sparse_initializer.add(dims=[4]).values.CopyFrom(tensor)
    return model


PLACES: list[Callable[[TensorProto], onnx.ModelProto]] = [in_weights, in_constant, in_branch, in_function, in_sparse]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_files_are_found_wherever_a_tensor_can_be(place: Callable[[TensorProto], onnx.ModelProto], here: Path) -> None:
    (here / "sub").mkdir()
    for name in ("w.data", "sub/w.data"):
        (here / name).write_bytes(bytes(16))
        onnx.save_model(place(kept(name)), here / "a.onnx")
        assert files_beside(here / "a.onnx") == [name]


def test_all_paths_to_a_tensor_are_known() -> None:
    """As the package `onnx` describes its own files."""
    found: dict[str, set[tuple[int, str]]] = {}

    def reaches(message: object, seen: frozenset[str] = frozenset()) -> bool:
        if message.name == "StringStringEntryProto":
            return False
        if message.name == "TensorProto":
            return True
        seen |= {message.name}
        return any(f.message_type and f.message_type.name not in seen and reaches(f.message_type, seen)
                   for f in message.fields)  # fmt: skip

    waiting, seen = [proto.ModelProto.DESCRIPTOR], set()
    while waiting:
        message = waiting.pop()
        if message.name in seen or message.name == "TensorProto":
            continue
        seen.add(message.name)
        for field in message.fields:
            if field.message_type is not None and reaches(field.message_type):
                found.setdefault(message.name, set()).add((field.number, field.message_type.name))
                waiting.append(field.message_type)
    names = {"training": "TrainingInfoProto", "sparse": "SparseTensorProto"}
    ours = {
        names.get(kind, f"{kind.title()}Proto"): {
            (number, names.get(part, f"{part.title()}Proto")) for number, part in parts.items()
        }
        for kind, parts in _PARTS.items()
        if kind not in ("tensor", "entry")
    }
    assert ours == found
    assert proto.TensorProto.DESCRIPTOR.fields_by_name["external_data"].number in _PARTS["tensor"]


OUTSIDE = ["/etc/hostname", "../secret", "sub/../../secret", "C:\\secret", "..\\secret", "\\\\host\\secret", "", ".",
           "missing", "sub", "link", "linked/w.data", "*/_ORT_MEM_ADDR_/*"]  # fmt: skip


@pytest.mark.parametrize("location", OUTSIDE)
def test_what_lies_elsewhere_is_refused(location: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(16))
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub/w.data").write_bytes(bytes(16))
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "linked").symlink_to(folder / "sub")
    onnx.save_model(in_weights(kept(location)), folder / "a.onnx")
    with pytest.raises(WeightsError, match=r"a\.onnx was refused: it keeps weights in .* own folder, or a link"):
        files_beside(folder / "a.onnx")


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    whole = in_branch(kept("w.data")).SerializeToString()
    (tmp_path / "w.data").write_bytes(bytes(16))
    rng = np.random.default_rng(0)
    for index in range(300):
        broken = bytearray(whole[: rng.integers(len(whole))] if index % 2 else whole)
        for at in rng.integers(0, max(len(broken), 1), 3)[: len(broken)]:
            broken[at] = rng.integers(256)
        path.write_bytes(broken)
        try:
            assert set(files_beside(path)) <= {"w.data"}
        except WeightsError as error:
            assert str(path) in str(error) and "\n" not in str(error)


def test_graphs_nested_too_deep_are_refused(tmp_path: Path) -> None:
    """A graph in an attribute of a node in a graph in ..."""
    content = b""
    for number in (6, 5, 1) * 2_000:
        content = field(number, content)
    (tmp_path / "a.onnx").write_bytes(field(7, content))
    with pytest.raises(WeightsError, match=r"a\.onnx is not an ONNX file: its values are nested too deep"):
        files_beside(tmp_path / "a.onnx")


def field(number: int, content: bytes) -> bytes:
    """A field of bytes, as protobuf writes it."""
    length, digits = len(content), b""
    while length >= 0x80:
        digits, length = digits + bytes([length & 0x7F | 0x80]), length >> 7
    return bytes([number << 3 | 2]) + digits + bytes([length]) + content


def test_the_runtime_prints_no_names(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = in_weights(numpy_helper.from_array(np.ones(4, np.float32), "w"))
    model.graph.initializer.add(name="\x1b[31munused", data_type=TensorProto.FLOAT, dims=[1], float_data=[1])
    onnx.save_model(model, tmp_path / "a.onnx")
    _, err = evsam("segment", _photo(tmp_path), "-o", tmp_path / "out", "--detector", tmp_path / "a.onnx", code=2)
    onnxruntime.InferenceSession(tmp_path / "a.onnx")
    assert "\x1b" not in err + "".join(capfd.readouterr()) and "a.onnx does not work as a detection model" in err


def _photo(folder: Path) -> Path:
    from PIL import Image

    path = folder / "photo.png"
    Image.new("RGB", (32, 32)).save(path)
    return path


@pytest.mark.skipif(os.name == "nt", reason="a path of POSIX")
def test_an_onnx_detector_of_a_stranger_reads_no_other_file(tmp_path: Path) -> None:
    onnx.save_model(in_weights(kept("/etc/hostname")), tmp_path / "a.onnx")
    _, err = evsam("segment", _photo(tmp_path), "-o", tmp_path / "out", "--detector", tmp_path / "a.onnx", code=2)
    assert "a.onnx was refused: it keeps weights in '/etc/hostname'" in err and err.count("\n") == 1
