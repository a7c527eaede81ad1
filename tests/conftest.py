"""What the tests share: no network, one thread, a cache of their own, and the photographs that ultralytics ships."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from PIL import Image as Pil
from support import own_process
from support.loopback_hub import Hub, running
from support.weights_shelf import BODY, Shelf

from pipelines.images import sample_photos
from pipelines.sam import build_sam
from pipelines.sam.predictor import SamPredictor
from weights import download, manifest

os.environ["EVSAM_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # several wait for each other where another program keeps a core busy
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


BESIDE = {"benchmark", "detectors", "evaluation", "everything"}
"""Rooms that go into the second process too, ahead of OpenVINO's, so that two cores have as much to do."""


def pytest_configure(config: pytest.Config) -> None:
    own_process.install(config)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items if not torch.cuda.is_available() else ():
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
    rooms = {item: item.path.relative_to(Path(__file__).parent).parts[0] for item in items}
    if not BESIDE.issuperset(rooms.values()):  # where there is nothing else, one process is quicker
        for item in items:
            if rooms[item] in BESIDE:
                item.add_marker(pytest.mark.own_process)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVSAM_HOME", str(tmp_path_factory.getbasetemp() / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path_factory.getbasetemp() / "hub"))
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_ENDPOINT", "HF_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def photographs() -> list[Path]:
    """bus.jpg (810 x 1080) and zidane.jpg (1280 x 720)."""
    return sample_photos()


@pytest.fixture(scope="session")
def photograph(photographs: list[Path]) -> np.ndarray:
    """A 640 x 480 cut of the street scene, RGB uint8."""
    return np.asarray(Pil.open(photographs[0]).convert("RGB").resize((640, 853))).copy()[200:680]


@pytest.fixture(scope="session")
def starter() -> SamPredictor:
    """The bundled SAM on a CPU."""
    return build_sam("evsam-starter")


@pytest.fixture(scope="session")
def shown(photograph: np.ndarray) -> list[np.ndarray]:
    """One small photograph for the parity gate."""
    return [photograph[::2, ::2].copy()]


@pytest.fixture(scope="session")
def exported(shown: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The starter SAM as ONNX files in fp32."""
    from pipelines.export.onnx import Onnx
    from pipelines.sam import SAMS
    from pipelines.sam.network import SamSource

    folder = tmp_path_factory.mktemp("onnx")
    Onnx().export(SamSource(SAMS["evsam-starter"]), folder, photos=shown)
    return folder


@pytest.fixture(scope="session")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The starter SAM's graphs in fp16."""
    from pipelines.export.graphs import graph_form, write_graphs
    from pipelines.sam import SAMS
    from pipelines.sam.network import SamSource

    folder = tmp_path_factory.mktemp("half")
    write_graphs(graph_form(SamSource(SAMS["evsam-starter"]).load(), "fp16"), folder)
    return folder


@pytest.fixture
def quick(exported: Path, shown: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports take the fp32 graphs that are there already, and the gate looks at one photograph."""
    from pipelines.export import format as formats
    from pipelines.export import gate

    def copy(_: object, folder: Path) -> None:
        for name in ("encoder.onnx", "decoder.onnx"):
            shutil.copy(exported / name, folder / name)

    read = gate.photographs
    monkeypatch.setattr(formats, "write_graphs", copy)
    monkeypatch.setattr(gate, "photographs", lambda folder=None: read(folder) if folder else shown)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the working one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As processes of the tests have: other numbers of threads round the last bits otherwise."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running(BODY) as hub:
        yield hub


@pytest.fixture
def shelf(tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelf]:
    shelf = Shelf(tmp_path, hub)
    for name in ("EVSAM_OFFLINE", "EVSAM_MIRROR", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EVSAM_HOME", str(shelf.home))
    monkeypatch.setattr(manifest, "MANIFEST", shelf.manifest)
    monkeypatch.setattr(download, "BACKOFF", 0.0)
    manifest.rows.cache_clear()
    yield shelf
    manifest.rows.cache_clear()


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def no_compiler(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """torch finds no C++ compiler, and nothing that was compiled before."""
    import torch._inductor.config

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("inductor")))
    with torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",)}):  # setattr does not put a proxy's value back
        torch._dynamo.reset()
        yield
