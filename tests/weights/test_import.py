"""Files that the user brings: known by their name, checked, and never taken for what they are not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save as safetensors
from support.loopback_hub import Hub
from support.weights_shelf import BODY, OTHER, SHA, Shelf, refused

from pipelines.errors import UsageError, WeightsError
from weights import store


def test_import_knows_a_file_by_its_name(shelf: Shelf, tmp_path: Path, no_network: None) -> None:
    path = shelf.add(sha256=SHA)
    shelf.add("other")
    (tmp_path / "net.pt").write_bytes(BODY)
    assert store.import_file(tmp_path / "net.pt") == path == store.fetch("net")
    (tmp_path / "mine.pt").write_bytes(OTHER)
    assert store.import_file(tmp_path / "mine.pt", "other") == store.fetch("other")
    assert store.verify("other")[0].against == "lock"
    assert (tmp_path / "net.pt").exists()


def test_import_refuses_the_wrong_file_and_keeps_the_right_one(shelf: Shelf, tmp_path: Path) -> None:
    path = shelf.add(sha256=SHA)
    store.fetch("net")
    before = sorted(path.parent.iterdir())
    (tmp_path / "net.pt").write_bytes(OTHER)
    with pytest.raises(WeightsError, match=SHA):
        store.import_file(tmp_path / "net.pt")
    assert path.read_bytes() == BODY and sorted(path.parent.iterdir()) == before


def test_import_replaces_a_file_that_nobody_knows(shelf: Shelf, tmp_path: Path, no_network: None) -> None:
    path = shelf.add()
    for content in (OTHER, BODY):
        (tmp_path / "net.pt").write_bytes(content)
        assert store.import_file(tmp_path / "net.pt").read_bytes() == content
    assert store.verify("net") == [store.Verified(path, SHA, "lock")]
    path.write_bytes(OTHER)
    assert SHA in refused()


@pytest.mark.parametrize("kind", ["pt", "pth", "safetensors"])
def test_import_refuses_a_web_page(shelf: Shelf, hub: Hub, tmp_path: Path, kind: str) -> None:
    shelf.add(url=f"{hub.url}/a/net.{kind}")
    (tmp_path / "page").write_bytes(b"<!DOCTYPE html><html><body>{log in}</body></html>")
    with pytest.raises(WeightsError, match="web page"):
        store.import_file(tmp_path / "page", "net")
    assert store.state("net") == "missing"
    right = safetensors({"w": torch.ones(3)}) if kind == "safetensors" else BODY
    (tmp_path / "page").write_bytes(right)
    assert store.import_file(tmp_path / "page", "net").read_bytes() == right


def test_import_asks_when_it_cannot_tell(shelf: Shelf, hub: Hub, tmp_path: Path) -> None:
    for name in ("one", "two"):
        shelf.add(name, url=f"{hub.url}/{name}/model.pt")
        shelf.add(name, url=f"{hub.url}/{name}/vocab.txt")
    shelf.add("starter", bundled="starter.pt")
    (tmp_path / "vocab.txt").write_bytes(b"words\n[UNK]\n")
    (tmp_path / "what.pt").write_bytes(BODY)
    for file, name, told in [
        ("vocab.txt", None, "--as NAME"),
        ("what.pt", None, "--as NAME"),
        ("what.pt", "one", "model.pt, vocab.txt"),
        ("what.pt", "starter", "package"),
        ("what.pt", "three", "unknown weights"),
        ("absent.pt", "two", "several files"),
    ]:
        with pytest.raises(UsageError, match=told):
            store.import_file(tmp_path / file, name)
    assert store.import_file(tmp_path / "vocab.txt", "two").read_bytes() == b"words\n[UNK]\n"
    assert store.state("two") == "missing"


@pytest.mark.parametrize("what", ["folder", "absent"])
def test_import_of_no_file(shelf: Shelf, tmp_path: Path, what: str) -> None:
    shelf.add()
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="cannot read"):
        store.import_file(tmp_path / what, "net")
    assert store.state("net") == "missing"
