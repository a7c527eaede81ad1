"""What only a model's own files can tell is told from the small ones, or from those that are here, before the rest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image as Pil
from safetensors.torch import load_file, save_file
from support import tiny_text
from support.loopback_hub import Hub, Reply, running
from support.runs import evsam

from weights import download, store
from weights.manifest import files

STARTER = ("--box", "5,5,20,20", "--save", "coco", "--device", "cpu")


@pytest.fixture
def hub_of_all(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The server of all weights, which answers 404, and a photograph."""
    Pil.new("RGB", (64, 48), (90, 120, 60)).save(here / "photo.png")
    monkeypatch.setattr(download, "BACKOFF", 0.0)
    monkeypatch.setenv("EVSAM_HOME", str(here / "home"))
    monkeypatch.delenv("EVSAM_OFFLINE")
    with running(b"") as hub:
        hub.usual = Reply(status=404, body=b"")
        monkeypatch.setenv("EVSAM_MIRROR", hub.url)
        yield hub


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with what lies beside the weights of text detectors, and not these."""
    home = tmp_path_factory.mktemp("readers")
    with pytest.MonkeyPatch.context() as patch:
        tiny_text.shrink_swin(patch)
        tiny_text.write_cache(home)
    for name in tiny_text.CACHED:
        (home / "weights" / name / files(name)[0].filename).unlink()
    return home


LONG = "cat " * 300
REFUSED = [
    ("grounding-dino-swint", "?", "knows no word of the phrase '?'"),
    ("grounding-dino-tiny", "犀", "knows no word"),
    ("mm-grounding-dino-tiny", LONG, "has 300 tokens"),
    ("owlv2-base", LONG, "OWLv2 reads 14"),
]


@pytest.mark.parametrize(("detector", "phrase", "words"), REFUSED)
def test_a_phrase_is_refused_before_the_weights_are_fetched(
    detector: str, phrase: str, words: str, hub_of_all: Hub, readers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_text.forget_hashes(monkeypatch)
    monkeypatch.setenv("EVSAM_HOME", str(readers))
    command = ("text", "photo.png", "-t", phrase, "-o", "out", "--sam", "efficientvit-sam-l2")
    _, said = evsam(*command, "--detector", detector, "--device", "cpu", code=2)
    assert hub_of_all.requests == []
    assert said.startswith("evsam: ") and said.count("\n") == 1 and words in said


def test_for_a_phrase_the_vocabulary_is_fetched_first(
    hub_of_all: Hub, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_text.forget_hashes(monkeypatch)
    hub_of_all.replies.append(Reply(body=tiny_text.write_vocabulary(here).read_bytes()))
    _, said = evsam("text", "photo.png", "-t", "?", "-o", "out", "--sam", "efficientvit-sam-l2", code=2)
    assert [path.rpartition("/")[2] for path, _ in hub_of_all.requests] == ["vocab.txt"]
    assert "knows no word of the phrase '?'" in said


@pytest.mark.usefixtures("no_compiler")
def test_a_back_end_that_needs_a_compiler_says_so_first(hub_of_all: Hub) -> None:
    command = ("segment", "photo.png", "-o", "out", "--detector", "yolov8n", "--sam", "efficientvit-sam-l2")
    _, said = evsam(*command, "--device", "cpu", "--backend", "torch-compiled", code=2)
    assert hub_of_all.requests == []
    assert "install a C++ compiler" in said and said.count("\n") == 1


def test_other_weights_under_resume_are_told_before_they_are_loaded(here: Path) -> None:
    """The second file is no model's: it would be refused on loading."""
    Pil.new("RGB", (64, 48), (90, 120, 60)).save(here / "photo.png")
    state = load_file(store.fetch("evsam-starter"))
    save_file(state, here / "mine.safetensors")
    run = ("segment", "photo.png", "-o", "out", *STARTER, "--weights", "mine.safetensors")
    evsam(*run)
    state.popitem()
    save_file(state, here / "mine.safetensors")
    _, said = evsam(*run, "--resume", code=2)
    assert "had other settings (sam_sha256:" in said and said.count("\n") == 1


def test_other_settings_of_a_cell_are_told_before_models_are_loaded(hub_of_all: Hub, here: Path) -> None:
    """The detector is not here, and nobody asks for it."""
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 20, 20], "area": 400, "iscrowd": 0}
    truth = {
        "images": [{"id": 1, "file_name": "photo.png", "width": 64, "height": 48}],
        "annotations": [box | {"segmentation": [[5, 5, 25, 5, 25, 25, 5, 25]]}],
        "categories": [{"id": 1, "name": "person"}],
    }
    (here / "truth.json").write_text(json.dumps(truth))
    shutil.copy(store.fetch("objects-starter"), here / "yolov8n.pt")
    run = ("evaluate", "coco", "truth.json", "--images", ".", "-o", "out", "--device", "cpu", "--imgsz", "64")
    run = (*run, "--no-report", "--class-agnostic")
    evsam(*run, "--detector", "yolov8n.pt")
    _, said = evsam(*run, "--detector", "yolov8n", "--conf", "0.5", "--resume", code=2)
    assert "prompt.conf: 0.001 then, 0.5 now" in said and said.count("\n") == 1
    assert hub_of_all.requests == []
