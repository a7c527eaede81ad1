"""State dicts from files: what loads, and that damaged and hostile files end in one clear line."""

from __future__ import annotations

import json
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from pipelines.errors import WeightsError
from weights import loading
from weights.loading import check_state_dict, load_state_dict

STATE = {
    "stem.weight": torch.arange(24.0).reshape(2, 3, 2, 2),
    "stem.bias": torch.tensor([0.5, -1.0], dtype=torch.float16),
    "norm.num_batches_tracked": torch.tensor(7),
}
EXPECTED = {key: tuple(tensor.shape) for key, tensor in STATE.items()}


def write(path: Path, content: Any = STATE, **options: Any) -> Path:
    if path.suffix == ".safetensors":
        save_file(content, path)
    else:
        torch.save(content, path, **options)
    return path


def refused(path: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        load_state_dict(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    assert "weights_only" not in message and "Re-running" not in message  # torch's advice to drop the guard
    return message


def assert_same(state: dict[str, torch.Tensor]) -> None:
    assert state.keys() == STATE.keys()
    for key, tensor in STATE.items():
        assert state[key].dtype == tensor.dtype and torch.equal(state[key], tensor)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth", ".PT"])
def test_every_format(tmp_path: Path, suffix: str) -> None:
    assert_same(load_state_dict(write(tmp_path / f"net{suffix}")))


def test_the_format_before_torch_1_6(tmp_path: Path) -> None:
    assert_same(load_state_dict(write(tmp_path / "net.pth", _use_new_zipfile_serialization=False)))


def archive(path: Path, **files: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            file.writestr(name.replace("_dot_", "."), content)
    return path


def test_the_one_checkpoint_in_an_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = write(tmp_path / "net.pt", {"model": STATE}).read_bytes()
    path = tmp_path / "net.pt.zip"
    assert_same(load_state_dict(archive(path, net_dot_pt=net, read_me_dot_txt=b"", **{"__MACOSX/._net.pt": b"x"})))
    assert "holds 2 checkpoints" in refused(archive(path, net_dot_pt=net, other_dot_pth=net))
    assert "is damaged" in refused(archive(path, net_dot_pt=net[:-100]))
    hostile = write(tmp_path / "hostile.pt", {"w": Hostile()}).read_bytes()
    assert "could run code" in refused(archive(path, net_dot_pt=hostile))
    archive(path, net_dot_pt=net)
    monkeypatch.setattr(loading, "MOST_UNPACKED", len(net) - 1)
    assert "unpacks to more than" in refused(path)
    path.write_bytes(path.read_bytes()[:-30])
    assert "is damaged" in refused(path)


@pytest.mark.parametrize("wrapper", ["state_dict", "model"])
def test_a_training_checkpoint_is_unwrapped(tmp_path: Path, wrapper: str) -> None:
    checkpoint = {"epoch": 3, "optimizer": {"lr": 0.1}, wrapper: OrderedDict(STATE)}
    assert_same(load_state_dict(write(tmp_path / "net.pt", checkpoint)))


def test_a_tensor_called_model_is_no_wrapper(tmp_path: Path) -> None:
    assert list(load_state_dict(write(tmp_path / "net.pt", {"model": torch.zeros(1)}))) == ["model"]


class Hostile:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("import pathlib; pathlib.Path('owned').touch()",))


@pytest.mark.parametrize("hidden", [Hostile(), {"w": Hostile()}, {"state_dict": {**STATE, "w": Hostile()}}])
@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hidden: Any, zipped: bool) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "net.pt", hidden, _use_new_zipfile_serialization=zipped)
    assert "more than tensors" in refused(path)
    path.write_bytes(pickle.dumps(hidden))
    refused(path)
    assert not Path("owned").exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("content", [{"w": Hostile()}, {"w": 1}, STATE])
def test_a_bare_pickle_is_refused_in_our_words(tmp_path: Path, protocol: int, content: Any) -> None:
    path = tmp_path / "net.pt"
    path.write_bytes(pickle.dumps(content, protocol))
    assert ".safetensors" in refused(path)


def header(content: object, *, size: int | None = None, body: int = 8) -> bytes:
    """A safetensors file of a header and `body` zeros. size: what it says that its header has, in bytes."""
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + bytes(body)


def tensor(dtype: str = "F32", shape: tuple[int, ...] = (2,), start: int = 0, stop: int = 8) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>please log in</html>",
        header({}, size=2**62),
        header({}, size=2**20),
        header({"a": tensor(), "b": tensor()}),
        header({"a": tensor(), "b": tensor(start=4, stop=12)}, body=12),
        header({"a": tensor(start=8, stop=0)}),
        header({"a": tensor()}, body=4),
        header({"a": tensor()}, body=40),
        header({"a": tensor(shape=(2**40, 2**40))}),
        header({"a": tensor("F33")}),
        header({"a": tensor("F4", shape=(16,))}),
        header({"a": tensor("C64", shape=(1,))}),
        header({"a": tensor(shape=(-2,))}),
        header({"__metadata__": {"a": 1}}, body=0),
        header(b'{"a":' * 100_000),
        header(b"[" * 100_000),
        header(b"\xff\xfe"),
        header({}, body=0),
    ],
)
def test_hostile_safetensors(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "net.safetensors"
    path.write_bytes(content)
    assert len(refused(path)) < len(str(path)) + 200


@pytest.mark.parametrize("content", [{}, [], 3, {"w": 1.0}, {1: torch.zeros(1)}, torch.zeros(2), {"model": 2}])
def test_what_is_no_state_dict(tmp_path: Path, content: Any) -> None:
    assert "state dict" in refused(write(tmp_path / "net.pt", content))


@pytest.mark.filterwarnings("ignore:Validating sparse|Sparse invariant")
@pytest.mark.parametrize("tensor", [torch.zeros(2, device="meta"), torch.eye(2).to_sparse()])
def test_tensors_without_numbers_are_refused(tmp_path: Path, tensor: torch.Tensor) -> None:
    assert "state dict" in refused(write(tmp_path / "net.pt", {"w": tensor}))


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    plain = write(tmp_path / "plain.pt", {"w": torch.zeros(1_000_000)})
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(tmp_path / "net.pt", "w", zipfile.ZIP_DEFLATED) as bomb:
        for entry in source.infolist():
            bomb.writestr(entry.filename, source.read(entry), zipfile.ZIP_DEFLATED)
    assert "compressed inside" in refused(tmp_path / "net.pt")


@pytest.mark.parametrize("name", ["net.bin", "net", "net.pt.part"])
def test_other_names_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    assert ".safetensors, .pt, .pth" in refused(tmp_path / name)


def test_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder.pt").mkdir()
    assert "no weights file" in refused(tmp_path / "absent.pt")
    assert "no weights file" in refused(tmp_path / "folder.pt")


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.99])
def test_truncated_files(tmp_path: Path, suffix: str, part: float) -> None:
    path = write(tmp_path / f"net{suffix}")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    refused(path)


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(data=st.data(), suffix=st.sampled_from([".safetensors", ".pt", ".pth"]))
def test_any_damage_loads_tensors_or_is_refused(tmp_path: Path, data: st.DataObject, suffix: str) -> None:
    options = {"_use_new_zipfile_serialization": False} if suffix == ".pth" else {}
    path = write(tmp_path / f"net{suffix}", **options)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.unlink()
    path.write_bytes(content)
    try:
        state = load_state_dict(path)
    except WeightsError:
        return
    assert all(isinstance(tensor, torch.Tensor) for tensor in state.values())


def test_check_accepts_exactly_what_is_expected() -> None:
    check_state_dict(STATE, EXPECTED, "net")


def test_check_lists_the_first_of_every_fault() -> None:
    state = {**STATE, **{f"extra.{i}": torch.zeros(1) for i in range(7)}, "stem.bias": torch.zeros(3)}
    del state["stem.weight"]
    with pytest.raises(WeightsError) as caught:
        check_state_dict(state, EXPECTED, "net")
    assert str(caught.value) == (
        "these are not weights of net: 1 missing: stem.weight; "
        "7 unexpected: extra.0, extra.1, extra.2, extra.3, extra.4, ...; "
        "1 misshapen: stem.bias (3,) instead of (2,)"
    )
