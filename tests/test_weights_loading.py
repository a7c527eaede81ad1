"""State dicts from files: what loads, and that damaged and hostile files end in one clear line."""

from __future__ import annotations

import pickle
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
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


def assert_same(state: dict[str, torch.Tensor]) -> None:
    assert state.keys() == STATE.keys()
    for key, tensor in STATE.items():
        assert state[key].dtype == tensor.dtype and torch.equal(state[key], tensor)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth", ".PT"])
def test_every_format(tmp_path: Path, suffix: str) -> None:
    assert_same(load_state_dict(write(tmp_path / f"net{suffix}")))


def test_the_format_before_torch_1_6(tmp_path: Path) -> None:
    assert_same(load_state_dict(write(tmp_path / "net.pth", _use_new_zipfile_serialization=False)))


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


@pytest.mark.parametrize("name", ["net.onnx", "net", "net.pt.part"])
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


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
