"""`evsam text`, and `evsam segment --text`, as a user runs them: from small models in the cache, the network cut."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pil
from pycocotools.coco import COCO
from support import tiny_text
from support.runs import evsam, final_files, journal_of

from pipelines import rle

EVERYTHING = ("--save", "coco,boxes,dataset,ids,objects,overlay,cutouts,jsonl")
FAST = ("--device", "cpu", "--max-det", "3", "--box-threshold", "0.5")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("home")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        tiny_text.shrink_swin(patch)
        tiny_text.write_cache(home)
    yield home
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def attempts(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The cache in its place, and a network that cannot be reached. Nothing may even try."""
    tiny_text.use_cache(monkeypatch, home)
    monkeypatch.delenv("EVSAM_OFFLINE")
    attempts = tiny_text.refuse_sockets(monkeypatch)
    yield attempts
    assert attempts == []


@pytest.fixture(scope="module")
def photos(photographs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures of four sizes, and one that is broken."""
    folder = tmp_path_factory.mktemp("photos")
    scene = Pil.open(photographs[0]).convert("RGB")
    for name, size in {"a": (160, 120), "b": (90, 160), "c": (128, 128), "d": (200, 80)}.items():
        scene.resize(size).save(folder / f"{name}.jpg")
    (folder / "e.jpg").write_bytes(b"\xff\xd8\xff broken")
    return folder


@pytest.fixture
def photo(photos: Path) -> Path:
    return photos / "a.jpg"


def run_info(folder: Path) -> dict[str, object]:
    info: dict[str, object] = json.loads((folder / "run.json").read_text("utf-8"))
    return info


def results(folder: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads((folder / "coco_results.json").read_text())
    return found


@pytest.mark.parametrize("model", tiny_text.CACHED)
def test_every_back_end_from_words_to_masks(model: str, photos: Path, tmp_path: Path) -> None:
    options = (*FAST[:4], "--box-threshold", "0.3", *EVERYTHING)
    evsam("text", photos, "cat . red car", "-o", tmp_path / "out", "--detector", model, *options, code=1)
    info = run_info(tmp_path / "out")
    assert info["images"] == {"total": 5, "done": 4, "empty": 0, "failed": 1}
    assert info["categories"] == {"1": "cat", "2": "red car"}
    counts = info["report"]["boxes"]
    assert counts["kept"] == len(results(tmp_path / "out")) > 0
    assert counts["kept"] == counts["over_box_threshold"] - sum(
        count for rule, count in counts.items() if rule.startswith("dropped")
    )
    truth = COCO(tmp_path / "out" / "coco_dataset.json")
    assert truth.loadRes(str(tmp_path / "out" / "coco_results.json")).getAnnIds()
    for result in results(tmp_path / "out"):
        assert result["category_id"] in (1, 2) and 0.3 < result["score"] <= 1
        assert rle.decode(result["segmentation"]).shape in {(120, 160), (160, 90), (128, 128), (80, 200)}


@pytest.mark.slow
def test_both_implementations_at_real_size(
    photographs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Swin-T and BERT as published, the weights those that the library starts from: from a photograph to results."""
    monkeypatch.undo()
    from pipelines.detectors.text.bert import BertConfig

    folders = {name: tmp_path / "home" / "weights" / name for name in ("grounding-dino-swint", "grounding-dino-tiny")}
    state = tiny_text.write_official(
        folders["grounding-dino-swint"],
        tiny_text.official_settings(),
        BertConfig(),
        "groundingdino_swint_ogc.pth",
        refill=False,
    )
    tiny_text.write_hugging_face(folders["grounding-dino-tiny"], state, BertConfig())
    del state
    tiny_text.forget_hashes(monkeypatch)
    monkeypatch.setenv("EVSAM_HOME", str(tmp_path / "home"))
    for name in folders:
        options = ("--max-det", "5", "--save", "coco,boxes,overlay", "--device", "cpu", "--offline")
        evsam("text", photographs[0], "person . bus", "-o", tmp_path / name, "--detector", name, *options)
    first, second = (results(tmp_path / name) for name in folders)
    assert len(first) == len(second) == 5
    for mine, theirs in zip(first, second, strict=True):
        assert mine["category_id"] == theirs["category_id"]
        np.testing.assert_allclose(mine["bbox"], theirs["bbox"], atol=0.5)
        np.testing.assert_allclose(mine["score"], theirs["score"], atol=1e-3)
    dataset = {"images": [{"id": 1}], "categories": [{"id": 1}, {"id": 6}], "annotations": []}
    (tmp_path / "truth.json").write_text(json.dumps(dataset))
    assert (
        len(COCO(tmp_path / "truth.json").loadRes(str(tmp_path / "grounding-dino-tiny" / "coco_results.json")).anns)
        == 5
    )


def test_segment_with_text_is_the_same(photos: Path, tmp_path: Path) -> None:
    evsam("text", photos, "cat . red car", "-o", tmp_path / "text", *FAST, code=1)
    evsam(
        *("segment", photos, "-o", tmp_path / "segment", "--detector", "grounding-dino-swint", *FAST),
        *("--text", "cat", "--text", "red car"),
        code=1,
    )
    assert final_files(tmp_path / "text") == final_files(tmp_path / "segment")


def test_every_way_to_say_it(photo: Path, tmp_path: Path) -> None:
    (tmp_path / "phrases.txt").write_text("cat\nred car\n")
    (tmp_path / "ontology.toml").write_text('"cat" = "cat"\n["red car"]\nid = 2\n')
    ways = [
        (photo, "cat . red car"),
        (photo, "cat, red car."),
        (photo, tmp_path / "phrases.txt"),
        (photo, "--text", "cat", "-t", "red car"),
        (photo, "--text", tmp_path / "phrases.txt"),
        (photo, "--ontology", "cat=cat,red car=red car"),
        (photo, "--ontology", tmp_path / "ontology.toml"),
    ]
    first: dict[str, str] = {}
    for number, way in enumerate(ways):
        evsam("text", *way, "-o", tmp_path / str(number), *FAST)
        first = first or final_files(tmp_path / str(number))
        assert final_files(tmp_path / str(number)) == first, way


def test_ontology_names_ids_and_thresholds(photo: Path, tmp_path: Path) -> None:
    (tmp_path / "ontology.toml").write_text(
        '["cat"]\ncategory = "pet"\nid = 7\n["dog"]\ncategory = "pet"\nthreshold = 1\n'
    )
    evsam("text", photo, "--ontology", tmp_path / "ontology.toml", "-o", tmp_path / "out", *FAST)
    assert run_info(tmp_path / "out")["categories"] == {"7": "pet"}
    assert {result["category_id"] for result in results(tmp_path / "out")} == {7}


def test_nothing_found_is_empty_not_failed(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    shutil.copy(photos / "a.jpg", tmp_path / "good")
    evsam("text", tmp_path / "good", "cat", "-o", tmp_path / "out", "--box-threshold", "1", *EVERYTHING)
    info = run_info(tmp_path / "out")
    assert info["images"] == {"total": 1, "done": 0, "empty": 1, "failed": 0}
    assert results(tmp_path / "out") == [] == json.loads((tmp_path / "out" / "coco_boxes.json").read_text())
    dataset = COCO(tmp_path / "out" / "coco_dataset.json")
    assert (len(dataset.imgs), len(dataset.anns), dataset.cats[17]["name"]) == (1, 0, "cat")
    assert not np.asarray(Pil.open(tmp_path / "out" / "ids" / "a.png")).any()
    assert json.loads((tmp_path / "out" / "records.jsonl").read_text())["status"] == "empty"


@pytest.mark.parametrize("batch", [1, 3])
def test_resumed_and_uninterrupted_runs_are_the_same(photos: Path, tmp_path: Path, batch: int) -> None:
    """Also where images of different sizes share a canvas, and a unit was cut in the middle."""
    command = ("text", photos, "cat . red car", *FAST, "--batch", batch, "--save", "coco,boxes,jsonl,ids")
    evsam(*command, "-o", tmp_path / "whole", code=1)
    evsam(*command, "-o", tmp_path / "cut", code=1)
    journal = journal_of(tmp_path / "cut")
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:2]))
    for file in (tmp_path / "cut").glob("*.json*"):
        file.unlink()
    evsam(*command, "-o", tmp_path / "cut", "--resume", code=1)
    assert final_files(tmp_path / "cut") == final_files(tmp_path / "whole")
    assert run_info(tmp_path / "cut")["this_run"]["images"] == 3
    searched = [run_info(tmp_path / folder)["report"]["boxes"]["images"] for folder in ("whole", "cut")]
    assert searched == ([4, 2] if batch == 1 else [4, 4])  # units that are not finished are searched as a whole


def test_shards(photos: Path, tmp_path: Path) -> None:
    good = shutil.copytree(photos, tmp_path / "good", ignore=shutil.ignore_patterns("e.jpg"))
    command = ("text", good, "cat . red car", *FAST, "--save", "coco,boxes")
    evsam(*command, "-o", tmp_path / "whole")
    parts = [tmp_path / f"part{i}" for i in (1, 2)]
    for i, part in enumerate(parts, 1):
        evsam(*command, "-o", part, "--shard", f"{i}/2")
    evsam("merge", *parts, "-o", tmp_path / "merged")
    assert final_files(tmp_path / "merged") == final_files(tmp_path / "whole")
    assert run_info(tmp_path / "merged")["report"] == run_info(tmp_path / "whole")["report"]


def test_changed_words_are_no_resume(photo: Path, tmp_path: Path) -> None:
    evsam("text", photo, "cat", "-o", tmp_path / "out", *FAST)
    _, err = evsam("text", photo, "dog", "-o", tmp_path / "out", *FAST, "--resume", code=2)
    assert "had other settings (prompts.phrases:" in err


def test_per_phrase(photo: Path, tmp_path: Path) -> None:
    evsam("text", photo, "cat . red car", "-o", tmp_path / "out", *FAST, "--per-phrase", "--nms", "off")
    for phrase, id in (("cat", 1), ("red car", 2)):
        evsam("text", photo, "--ontology", f"{phrase}=x", "-o", tmp_path / phrase, *FAST, "--nms", "off")
        alone = {tuple(result["bbox"]) for result in results(tmp_path / phrase)}
        mine = {tuple(result["bbox"]) for result in results(tmp_path / "out") if result["category_id"] == id}
        assert mine <= alone


class TestRefusals:
    """One line, exit code 2, and nothing written."""

    @pytest.mark.parametrize(
        ("arguments", "reason"),
        [
            (("{photo}",), "what to look for is missing: add it after {photo}"),
            (("{photo}", "{photo}"), "what to look for is missing"),
            (("cat",), "no images: name them before 'cat'"),
            (("{photo}", " . "), "nothing to look for"),
            (("{photo}", "🚗"), "knows no word of the phrase '🚗'"),
            (("{photo}", "cat " * 300), "has 300 tokens, but the model reads 253"),
            (("{photo}", "cat", "--detector", "yolov8n"), "unknown text detector 'yolov8n'; choose one of: grounding"),
            (("{photo}", "cat", "--nms", "soft"), "nms is 'soft', but must be one of: agnostic, aware, off"),
            (("{photo}", "--text", "missing.txt"), "missing.txt cannot be read: No such file or directory"),
            (("{photo}", "--ontology", "cat"), "'cat' is no phrase=category"),
        ],
    )
    def test_text(self, photo: Path, tmp_path: Path, arguments: tuple[str, ...], reason: str) -> None:
        filled = [argument.format(photo=photo) for argument in arguments]
        _, err = evsam("text", *filled, "-o", tmp_path / "out", code=2)
        assert reason.format(photo=photo) in err and err.count("\n") == 1
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        ("arguments", "reason"),
        [
            (("--text", "cat"), "objects cannot read: for text, add --detector with one of grounding-dino-swint"),
            (("--detector", "grounding-dino-swint"), "nothing to look for"),
            (("--detector", "owlv2-base", "--text", "cat", "--classes", "cat"), "owlv2-base has no classes to choose"),
        ],
    )
    @pytest.mark.parametrize("verb", ["segment", "detect"])
    def test_segment_and_detect(
        self, verb: str, photo: Path, tmp_path: Path, arguments: tuple[str, ...], reason: str
    ) -> None:
        _, err = evsam(verb, photo, "-o", tmp_path / "out", *arguments, code=2)
        assert reason in err and err.count("\n") == 1 and not (tmp_path / "out").exists()

    @pytest.mark.parametrize("model", tiny_text.CACHED)
    def test_a_missing_file_is_named_with_the_command_that_brings_it(
        self, model: str, home: Path, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for file in sorted((home / "weights" / model).glob("[!.]*")):
            if file.name.endswith(".lock.json"):
                continue
            less = tmp_path / file.name / "home"
            shutil.copytree(home / "weights" / model, less / "weights" / model)
            (less / "weights" / model / file.name).unlink()
            monkeypatch.setenv("EVSAM_HOME", str(less))
            command = ("text", photo, "cat", "-o", tmp_path / "out", "--detector", model, "--offline")
            _, err = evsam(*command, code=2)
            assert f"there is no {less / 'weights' / model / file.name}" in err
            assert f"`evsam weights pull {model}`" in err and err.count("\n") == 1


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
import pytest
from support import tiny_text
patch = pytest.MonkeyPatch()
attempts = tiny_text.refuse_sockets(patch)
from pathlib import Path
tiny_text.use_cache(patch, Path({home!r}))
from evsam_cli.__main__ import main
for model in {models!r}:
    sys.argv = [*{command!r}, "-d", model, "-o", str(Path({output!r}, model))]
    try:
        main()
    except SystemExit as end:
        assert not end.code
print(attempts)
"""


def test_a_process_of_its_own_looks_nothing_up_and_says_nothing(home: Path, photo: Path, tmp_path: Path) -> None:
    """From the first import on: the packages as they are when a command starts."""
    code = SCRIPT.format(
        tests=str(Path(__file__).parents[1]),
        home=str(home),
        models=tiny_text.CACHED,
        command=["evsam", "text", str(photo), "cat", "--quiet", *FAST],
        output=str(tmp_path),
    )
    run = subprocess.run([sys.executable, "-W", "default", "-c", code], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "[]\n", "")
    assert all((tmp_path / model / "run.json").exists() for model in tiny_text.CACHED)
