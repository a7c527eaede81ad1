"""What comes in the place of a file that nobody has a hash of: refused whichever way it comes, and never locked."""

from __future__ import annotations

import json
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save as safetensors
from support.loopback_hub import Hub, Reply
from support.weights_shelf import BODY, Shelf, refused, torch_file

from pipelines.errors import WeightsError
from weights import digest, manifest, store

SAFETENSORS = safetensors({"w": torch.zeros(75_000)})
NODE = onnx.helper.make_node("Identity", ["w"], ["x"])
ONNX = onnx.helper.make_model(
    onnx.helper.make_graph([NODE], "net", [], [], [onnx.numpy_helper.from_array(np.zeros(75_000, np.float32), "w")])
).SerializeToString()
CONFIG = json.dumps({"model_type": "owlv2"}).encode()
VOCABULARY = json.dumps({f"token{i}": i for i in range(15_000)}).encode()
MERGES = b"#version: 0.2\n" + b"c a\nca t</w>\n" * 20_000
WORDS = b"[PAD]\n[UNK]\n" + b"word\n" * 50_000


def zipped() -> bytes:
    """An archive with a checkpoint in it."""
    file = BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net.pt", BODY)
    return file.getvalue()


RIGHT = {
    "net.safetensors": SAFETENSORS,
    "net.pt": BODY,
    "net.pth": BODY,
    "net.zip": zipped(),
    "net.onnx": ONNX,
    "config.json": CONFIG,
    "vocab.json": VOCABULARY,
    "merges.txt": MERGES,
    "vocab.txt": WORDS,
}
PAGE = b"<html>please log in</html>"
ANYWHERE = {
    b"": "is empty",
    PAGE: "is a web page (26 bytes",
    b"\xef\xbb\xbf\n<!DOCTYPE html>" + bytes(20_000): "is a web page",
    b"<?xml version='1.0'?><Error/>": "is an XML document",
    b"version https://git-lfs.github.com/spec/v1\n": "is a Git LFS pointer",
    b"Not Found": "",
    b'{"error": "not found"}': "",
    b"[" * 300_000: "",
    bytes(300_000): "",
}
"""What comes for a file of about 300 kB, and what is told of it."""
ELSEWHERE = {
    "net.safetensors": [
        SAFETENSORS[:-1],
        SAFETENSORS + b"\0",
        safetensors({}),
        safetensors({"w": torch.zeros(9)}),
        BODY,
    ],
    "net.pt": [BODY[:200_000], BODY[:-1], torch_file(0, 1000), SAFETENSORS],
    "net.onnx": [ONNX[:200_000], BODY],
    "net.zip": [zipped()[:-1], zipped()[:200_000], BODY],
    "config.json": [b"{}", b"[]", b'{"model_type": 5}', b'{"model_type": "x"', b"\xff\xfe{}"],
    "vocab.json": [b"{}" + b" " * 300_000, VOCABULARY.replace(b" 7,", b" 8,"), VOCABULARY.replace(b" 7,", b" true,")],
    "merges.txt": [MERGES.replace(b"c a", b"c a t", 1), MERGES + b"\xff\xff\n"],
    "vocab.txt": [WORDS.replace(b"[UNK]", b"unknown")],
}


def wrong() -> list[tuple[str, bytes, str]]:
    """Names of files, what comes in their place, and what is told of it."""
    cases = [(name, content, told) for name in RIGHT for content, told in ANYWHERE.items()]
    return cases + [(name, content, "") for name, contents in ELSEWHERE.items() for content in contents]


@pytest.mark.parametrize(("name", "content", "told"), wrong(), ids=lambda value: repr(value)[:40])
def test_what_is_not_of_its_kind_is_refused(
    shelf: Shelf, hub: Hub, tmp_path: Path, name: str, content: bytes, told: str
) -> None:
    path = shelf.add(url=f"{hub.url}/a/{name}", about_bytes=2_000 if name == "config.json" else 300_000)
    hub.usual = Reply(body=content)
    message = refused()
    assert told in message and f"/a/{name} is another file: it " in message
    assert store.state("net") == "missing" and [item.name for item in path.parent.iterdir()] in ([], [".lock"])

    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match="damaged or not the"):
        store.import_file(tmp_path / name, "net")
    assert store.state("net") == "missing" and digest.read_lock(path) is None

    path.write_bytes(content)
    assert "pull --force net" in refused() and store.state("net") == "damaged"
    digest.write_lock(path, digest.sha256(path))  # as if it had been accepted
    assert "pull --force net" in refused() and store.state("net") == "damaged"
    with pytest.raises(WeightsError, match="damaged or another file"):
        store.verify("net")

    with pytest.raises(WeightsError):
        store.fetch("net", force=True)
    assert path.read_bytes() == content  # stays until there is a better one
    hub.usual = Reply(body=RIGHT[name])
    assert store.fetch("net", force=True).read_bytes() == RIGHT[name]
    assert store.state("net") == "unverified" and store.verify("net")[0].against == "lock"


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_of_its_kind_is_taken(shelf: Shelf, hub: Hub, tmp_path: Path, name: str) -> None:
    path = shelf.add(url=f"{hub.url}/a/{name}", about_bytes=2_000 if name == "config.json" else 300_000)
    hub.usual = Reply(body=RIGHT[name])
    assert store.fetch("net").read_bytes() == RIGHT[name]
    path.unlink()
    (tmp_path / name).write_bytes(RIGHT[name])
    assert store.import_file(tmp_path / name, "net").read_bytes() == RIGHT[name]
    digest.lock_path(path).unlink()
    assert store.fetch("net", offline=True) == path and digest.read_lock(path) is not None


@pytest.mark.parametrize("size", [10_000, 1_000_000])
def test_a_size_far_from_the_announced_one_is_told(shelf: Shelf, hub: Hub, size: int) -> None:
    shelf.add(about_bytes=300_000)
    hub.usual = Reply(body=torch_file(0, size))
    assert "where about 300 kB are announced" in refused()


def test_a_mirror_that_gives_another_file_is_told(shelf: Shelf, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.add(url="https://hub.invalid/a/net.safetensors", about_bytes=300_000)
    monkeypatch.setenv("EVSAM_MIRROR", hub.url)
    hub.usual = Reply(body=PAGE)
    assert "is a web page (26 bytes, where about 300 kB are announced)" in refused()


def test_force_fetches_only_with_a_network(shelf: Shelf) -> None:
    path = shelf.add()
    store.fetch("net")
    with pytest.raises(WeightsError, match="evsam is offline"):
        store.fetch("net", offline=True, force=True)
    assert path.read_bytes() == BODY and store.fetch("net", offline=True) == path


@pytest.mark.parametrize(
    "lock",
    [
        "",
        "null",
        "[1, 2]",
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"sha256": 5, "bytes": 300000, "mtime_ns": 1}',
        '{"sha256": "x", "bytes": 300000, "mtime_ns": 1}',
        json.dumps({"sha256": "0" * 64, "bytes": "300000", "mtime_ns": 1}),
        json.dumps({"sha256": "0" * 64, "bytes": 300000, "mtime_ns": None}),
        json.dumps({"sha256": "0" * 64, "bytes": 300000, "mtime_ns": 1, "more": 1}),
    ],
)
def test_a_damaged_lock_is_as_none(shelf: Shelf, lock: str) -> None:
    path = shelf.add()
    store.fetch("net")
    digest.lock_path(path).write_text(lock)
    assert store.state("net") == "unverified" and store.verify("net")[0].against is None
    assert store.fetch("net") == path and store.verify("net")[0].against == "lock"


@pytest.mark.parametrize("file", manifest.rows(), ids=lambda file: f"{file.name}/{file.filename}")
def test_every_file_without_a_hash_is_of_a_kind_that_is_checked(file: manifest.WeightsFile) -> None:
    assert file.sha256 or file.filename in RIGHT or f"net{Path(file.filename).suffix}" in RIGHT


def test_a_detector_that_is_pickled_whole_is_known_by_its_kind(shelf: Shelf, hub: Hub) -> None:
    shelf.add(kind="ultralytics", about_bytes=300_000)
    assert "is no model of ultralytics" in refused()
    hub.usual = Reply(body=BODY[:-1000])
    assert "is damaged, or no checkpoint" in refused()
