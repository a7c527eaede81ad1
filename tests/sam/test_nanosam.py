"""NanoSAM's weights as they are published: an ONNX file whose names are lost, and a decoder in another file."""

from __future__ import annotations

import random
import warnings
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
from support.seeded import official_weights
from support.weights_shelf import Shelf

from pipelines.errors import WeightsError
from pipelines.sam import SAMS
from pipelines.sam.encoders.nanosam import NAMED
from pipelines.sam.layers import fold_norms
from pipelines.sam.model import Sam
from pipelines.sam.network import SamSource

ROW = SAMS["nanosam"]


@pytest.fixture(scope="module")
def folded() -> Sam:
    model = fold_norms(SamSource(ROW, official_weights("nanosam")).load())
    assert isinstance(model, Sam)
    return model


@pytest.fixture(scope="module")
def published(folded: Sam, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The encoder as a graph, its backbone's convolutions without names, its initialisers in any order."""
    path = tmp_path_factory.mktemp("nanosam") / "encoder.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about itself
        torch.onnx.export(
            folded.image_encoder,
            (torch.zeros(1, 3, 1024, 1024),),
            path,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    model = onnx.load(path)
    lost = [tensor.name for tensor in model.graph.initializer if not tensor.name.startswith(NAMED[1:])]
    names = {name: f"onnx::Conv_{number}" for number, name in enumerate(random.Random(0).sample(lost, len(lost)))}
    for tensor in model.graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
    tensors = random.Random(1).sample(list(model.graph.initializer), len(model.graph.initializer))
    del model.graph.initializer[:]
    model.graph.initializer.extend(tensors)
    onnx.save(model, path)
    return path


@pytest.fixture
def decoder(shelf: Shelf, tmp_path: Path) -> Path:
    """A file of MobileSAM, in the cache beside an encoder's, of a row of the test's own."""
    shelf.add(about_bytes=64_000_000, url="https://hub.invalid/encoder.onnx")
    path = shelf.add(about_bytes=41_000_000, url="https://hub.invalid/mobile.pt")
    state = {key: x for key, x in official_weights("nanosam").items() if not key.startswith("image_encoder.")}
    path.parent.mkdir(parents=True)
    torch.save({**state, "image_encoder.other": torch.zeros(6_000_000)}, path)
    return path


def test_the_published_files_load(published: Path, decoder: Path, folded: Sam, no_network: None) -> None:
    row = replace(ROW, weights="net")
    first = decoder.with_name("encoder.onnx")
    first.write_bytes(published.read_bytes())
    for source in (SamSource(row, offline=True), SamSource(row, published, offline=True)):
        state = source.load().state_dict()
        assert state.keys() == folded.state_dict().keys()
        assert all(torch.equal(state[key], value) for key, value in folded.state_dict().items())


def test_the_encoder_of_a_training_loads_too(decoder: Path, tmp_path: Path, no_network: None) -> None:
    state = official_weights("nanosam")
    prefix = "image_encoder."
    path = tmp_path / "checkpoint.pth"
    encoder = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    torch.save({"model": encoder, "optimizer": {"lr": 0.1}, "epoch": 3}, path)
    loaded = SamSource(replace(ROW, weights="net"), path, offline=True).load().state_dict()
    assert loaded.keys() == state.keys() and all(torch.equal(loaded[key], state[key]) for key in state)


def test_another_graph_is_refused(published: Path, decoder: Path, tmp_path: Path, no_network: None) -> None:
    model = onnx.load(published)
    first, second = [node for node in model.graph.node if node.op_type == "Conv"][:2]
    first.input[1] = second.input[1]
    path = tmp_path / "other.onnx"
    onnx.save(model, path)
    with pytest.raises(WeightsError, match=r"not weights of nanosam: .*missing"):
        SamSource(replace(ROW, weights="net"), path, offline=True).load()
    path.write_bytes(published.read_bytes()[:100_000])
    with pytest.raises(WeightsError, match="is damaged, or no ONNX file"):
        SamSource(replace(ROW, weights="net"), path, offline=True).load()
    onnx.save(onnx.load(published), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    with pytest.raises(WeightsError, match="keeps its weights in other files"):
        SamSource(replace(ROW, weights="net"), path, offline=True).load()
