"""An export's folder and packages; what its back ends say when memory runs out or a GPU cannot be had."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from support.runs import environment, evsam
from torch.onnx._internal.exporter import _onnx_program

from pipelines.errors import SetupError, UsageError, WeightsError
from pipelines.export import int8
from pipelines.export.format import Format
from pipelines.export.network import GraphNetwork
from pipelines.export.onnx import Onnx
from pipelines.export.openvino import OpenVino
from pipelines.sam import SAMS
from pipelines.sam.network import EXPORTED, SamSource
from weights import digest

pytestmark = pytest.mark.own_process

STARTER = "evsam-starter"
CPU = torch.device("cpu")
LARGE = ["decoder.onnx", "decoder.onnx.data", "encoder.onnx", "encoder.onnx.data"]


def test_weights_that_torch_writes_beside_a_graph_belong_to_the_export(
    shown: list[np.ndarray], exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_onnx_program, "_LARGE_MODEL_THRESHOLD", 0)  # as if the starter were sam-vit-h
    assert Onnx().export(SamSource(SAMS[STARTER]), tmp_path, photos=shown).faults == ()
    assert sorted(json.loads((tmp_path / "export.json").read_text())["files"]) == LARGE
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*LARGE, "export.json", "parity.json"])
    wanted, got = (Onnx().load(folder, STARTER, device=CPU, precision="fp32") for folder in (exported, tmp_path))
    pixels = torch.zeros(1, 3, 512, 512)
    torch.testing.assert_close(got.encode(pixels), wanted.encode(pixels))
    with pytest.raises(UsageError, match=r"over 1\.5 GiB .* too many for int8"):
        int8.quantize(torch.nn.Identity(), tmp_path / "encoder.onnx", [], outputs=True)

    (tmp_path / "encoder.onnx.data").write_bytes(b"not what was checked")
    with pytest.raises(WeightsError, match=r"encoder\.onnx\.data is missing, damaged"):
        Onnx().load(tmp_path, STARTER, device=CPU, precision="fp32")
    with pytest.raises(RuntimeError, match="to be cleared first"):
        _Stopped().export(SamSource(SAMS[STARTER]), tmp_path)
    assert not list(tmp_path.iterdir())


class _Stopped(Onnx):
    def graph_precision(self, precision: str) -> str:
        raise RuntimeError("to be cleared first")


@pytest.mark.parametrize("taken", ["file", "file/inside", "folder"])
def test_an_output_that_cannot_be_written_to_gets_one_line(taken: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder/encoder.onnx").mkdir(parents=True)
    out, err = evsam("export", STARTER, "-o", tmp_path / taken, "--device", "cpu", code=2)
    (line,) = [line for line in err.splitlines() if line.startswith("evsam: ")]
    assert f"cannot write to {tmp_path / taken}: " in line and not out and "Traceback" not in err


def copied(exported: Path, folder: Path, changes: dict[str, Any] | None = None) -> Path:
    """The export with other things in its export.json."""
    shutil.copytree(exported, folder)
    content = json.loads((folder / EXPORTED).read_text())
    (folder / EXPORTED).write_text(json.dumps({**content, **(changes or {})}))
    return folder


DEEP = "[" * 100_000 + "]" * 100_000
CONTENTS = ["", "[]", "null", "3", '"text"', "{}", "{", DEEP, '{"files": ' + "9" * 5_000 + "}", "NaN", "\ufeff{}"]
CHANGES = [
    *({name: value} for name in ("files", "versions", "machine") for value in ([], "text", None, 3, {"a": 1})),
    {"files": {"a": []}},
    *({name: value} for name in ("model", "format", "precision", "weights") for value in ([], 3, None, {})),
    *({"input_size": value} for value in ("512", None, 512.0, True, [], 10**30, -512, 0, 256)),
    {"more": 1},
]  # fmt: skip


@pytest.mark.parametrize("what", range(len(CONTENTS) + len(CHANGES) + 3))
def test_an_export_json_of_another_shape(what: int, exported: Path, photographs: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "export"
    if what < len(CHANGES):
        copied(exported, folder, CHANGES[what])
    else:
        copied(exported, folder)
        contents = [
            *(text.encode() for text in CONTENTS),
            b"\xff\xfe",
            '{"model": "größer"}'.encode("latin-1"),
            b"\0" * 9,
        ]
        (folder / EXPORTED).write_bytes(contents[what - len(CHANGES)])
    for command in (
        ("segment", photographs[0], "--backend", "onnx", "--weights", folder, "--box", "1,1,9,9"),
        ("benchmark", folder, "--no-memory"),
    ):
        _, err = evsam(*command, "-o", tmp_path / "out", "--device", "cpu", code=2)
        line = err.splitlines()[-1]
        assert line.startswith("evsam: ") and len(line) < 700 and str(folder) in line, err


def test_files_of_an_export_lie_in_it(exported: Path, tmp_path: Path) -> None:
    """Also the ones that an ONNX file keeps its weights in, which must be among those that were checked."""
    name, sha256 = "decoder.onnx", digest.sha256(exported / "decoder.onnx")
    folder = copied(exported, tmp_path / "link")
    (folder / name).unlink()
    (folder / name).symlink_to(exported / name)
    with pytest.raises(WeightsError, match=r"decoder\.onnx is missing, damaged or not the one"):
        load(folder)

    files = json.loads((exported / EXPORTED).read_text())["files"]
    for number, other in enumerate(
        ("../decoder.onnx", str(exported / name), "..\\decoder.onnx", "", "x/../decoder.onnx")
    ):
        shutil.copy(exported / name, tmp_path / name)
        folder = copied(exported, tmp_path / f"{number}", {"files": {**files, other: sha256}})
        with pytest.raises(WeightsError, match="is missing, damaged or not the one that was checked"):
            load(folder)

    model = onnx.load(exported / name)
    onnx.save_model(model, tmp_path / "x.onnx", save_as_external_data=True, location="w.data", size_threshold=100_000)
    folder = copied(exported, tmp_path / "beside")
    for path in (tmp_path / "x.onnx").rename(folder / name), (tmp_path / "w.data").rename(folder / "w.data"):
        files[path.name] = digest.sha256(path)
    content = json.loads((folder / EXPORTED).read_text())
    (folder / EXPORTED).write_text(json.dumps({**content, "files": files}))
    load(folder)
    (folder / EXPORTED).write_text(json.dumps({**content, "files": {**files, "w.data": "0" * 64}}))
    with pytest.raises(WeightsError, match=r"w\.data is missing, damaged"):
        load(folder)
    del files["w.data"]
    (folder / EXPORTED).write_text(json.dumps({**content, "files": files}))
    with pytest.raises(WeightsError, match=r"w\.data is missing, damaged or not the one that was checked"):
        load(folder)


def load(folder: Path) -> GraphNetwork:
    return Onnx().load(folder, STARTER, device=CPU, precision="fp32")


def test_an_openvino_file_comes_with_its_weights(tmp_path: Path, exported: Path, quick: None) -> None:
    OpenVino().export(SamSource(SAMS[STARTER]), tmp_path / "whole")
    files = json.loads((tmp_path / "whole" / EXPORTED).read_text())["files"]
    del files["encoder.bin"]
    folder = copied(tmp_path / "whole", tmp_path / "less", {"files": files})
    with pytest.raises(WeightsError, match=r"encoder\.bin is missing, damaged or not the one that was checked"):
        OpenVino().load(folder, STARTER, device=CPU, precision="fp32")


@contextmanager
def nearly_full() -> Iterator[None]:
    """A limit on the size of files fails as a full disk does."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def left(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_a_disk_that_fills_up_leaves_nothing(
    backend: str, photographs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("EVSAM_HOME", str(home))
    segment = ("segment", photographs[0], "-o", tmp_path / "run", "--box", "9,9,99,99", "--backend", backend)
    commands = {tmp_path / "out": ("export", STARTER, "-o", tmp_path / "out", "--format", backend), home: segment}
    for folder, command in commands.items():
        with nearly_full():
            _, err = evsam(*command, "--device", "cpu", code=2)
        (line,) = [line for line in err.splitlines() if line.startswith("evsam: ")]
        assert f"cannot write to {folder}" in line and not left(folder) and "Traceback" not in err
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.usefixtures("quick")
def test_openvino_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says neither what failed nor why."""
    convert = OpenVino.convert

    def with_little_room(*arguments: object, **options: object) -> None:
        with nearly_full():
            convert(*arguments, **options)

    monkeypatch.setattr(OpenVino, "convert", with_little_room)
    with pytest.raises(SetupError, match=f"cannot write to {tmp_path}: OpenVINO cannot write .* on a full disk"):
        OpenVino().export(SamSource(SAMS[STARTER]), tmp_path)
    assert not left(tmp_path)


@pytest.mark.usefixtures("quick")
def test_a_disk_that_is_full_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, content: object) -> None:
        if path.name == EXPORTED:
            raise OSError(errno.ENOSPC, "No space left on device")
        path.write_text("{}")

    monkeypatch.setattr("pipelines.export.folder.write_json", refuse)
    with pytest.raises(SetupError, match=f"cannot write to {tmp_path}: the disk is full"):
        Onnx().export(SamSource(SAMS[STARTER]), tmp_path)
    assert not left(tmp_path)


@pytest.mark.parametrize("backend", [Onnx(), OpenVino()], ids=lambda backend: backend.name)
def test_onnxruntime_gpu_will_do(backend: Format, monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version
    installed = {"onnxruntime-gpu": "1.99.0"}

    def version(package: str) -> str:
        if package == "onnxruntime":
            raise metadata.PackageNotFoundError(package)
        return installed.get(package) or real(package)

    monkeypatch.setattr(metadata, "version", version)
    assert backend._made(SamSource(SAMS[STARTER]), "fp32", CPU).versions["onnxruntime"] == "1.99.0"
    installed["onnxruntime-gpu"] = ""
    with pytest.raises(SetupError, match=r"needs the package 'onnxruntime': .*evsam\[export\]"):
        backend._made(SamSource(SAMS[STARTER]), "fp32", CPU)


def test_onnxruntime_without_its_cuda_is_not_run_on_the_cpu_instead(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it does by itself, after a warning. In fp32 it is told to leave TF32 out."""
    real, asked = onnxruntime.InferenceSession, []

    def session(path: Path, options: object, providers: list[object]) -> onnxruntime.InferenceSession:
        asked.extend(providers)
        return real(path, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    with pytest.raises(
        SetupError, match=r"cannot load its CUDAExecutionProvider on cuda:1.* use --device cpu"
    ) as raised:
        Onnx().open(exported / "decoder.onnx", precision="fp32", device=torch.device("cuda:1"))
    assert "\n" not in str(raised.value)
    assert asked == [("CUDAExecutionProvider", {"device_id": 1, "use_tf32": 0})]


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on address space")
@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_memory_that_runs_out_is_recognised_and_spoils_no_outputs(backend: str, exported: Path) -> None:
    code = f"""
import resource, torch
from pathlib import Path
from pipelines.sam import SAMS, BACKENDS
from pipelines.memory import out_of_memory
path, device = Path({os.fspath(exported / "decoder.onnx")!r}), torch.device("cpu")
run = BACKENDS[{backend!r}].load()().open(path, precision="fp32", device=device)
def prompts(count):
    return torch.zeros(1, 256, 64, 64), torch.zeros(count, 2, 2), torch.ones(count, 2)
few = run(*prompts(2))
resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))
try:
    run(*prompts(20000))
except (RuntimeError, MemoryError) as error:
    print(out_of_memory(error))
print(all(torch.equal(a, b) for a, b in zip(few, run(*prompts(2)))))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment())
    assert done.stdout.split() == ["True", "True"]
