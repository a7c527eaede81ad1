"""`evsam weights pull` brings everything a text detector needs; then it runs with the network cut."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image as Pil
from support import tiny_text
from support.loopback_hub import Reply, running
from support.runs import evsam

from weights import manifest


@pytest.mark.parametrize("model", tiny_text.CACHED)
def test_pull_then_cut(model: str, photographs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_text.shrink_swin(monkeypatch)
    tiny_text.write_cache(tmp_path / "source")
    Pil.open(photographs[0]).resize((120, 160)).save(tmp_path / "photo.jpg")
    tiny_text.use_cache(monkeypatch, tmp_path / "home")
    files = [file.filename for file in manifest.files(model)]
    with running(b"") as hub:
        for file in files:
            body = (tmp_path / "source" / "weights" / model / file).read_bytes()
            hub.replies.append(Reply(body=body, etag=f'"{file}"'))
        monkeypatch.delenv("EVSAM_OFFLINE")
        monkeypatch.setenv("EVSAM_MIRROR", hub.url)
        evsam("weights", "pull", model)
        assert [Path(path).name for path, _ in hub.requests] == files
    assert {path.name for path in (tmp_path / "home" / "weights" / model).glob("[!.]*")} >= set(files)

    attempts = tiny_text.refuse_sockets(monkeypatch)
    command = ("text", tmp_path / "photo.jpg", "cat . red car", "-o", tmp_path / "out", "--detector", model)
    evsam(*command, "--offline", "--max-det", "2", "--box-threshold", "0.1", "--device", "cpu", "--save", "coco")
    assert json.loads((tmp_path / "out" / "coco_results.json").read_text()) and attempts == []
