"""What a training run refuses before it begins, and what several devices do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pil
from safetensors.torch import load_file
from support.runs import run_apart
from support.training_photos import RECIPE, tiny_sam

from pipelines.errors import DataError, EvsamError, UsageError
from pipelines.sam.prompt_encoder import RandomFourier
from pipelines.training import detector, distill, finetune
from pipelines.training.config import (
    PARTS,
    DataConfig,
    DistillConfig,
    FinetuneConfig,
    LoopConfig,
    PromptMix,
    StageConfig,
    YoloConfig,
)
from pipelines.training.recipe import read_recipe
from pipelines.training.sources import open_source

STAGE = StageConfig(size=64, photos=2, masks=2, steps=1)


@pytest.mark.parametrize(
    ("kind", "table", "fault"),
    [
        (FinetuneConfig, {"loop": {"log_every": 0}}, "loop: log_every is 0, but must be at least 1"),
        (FinetuneConfig, {"loop": {"photos_at_once": 0}}, "photos_at_once is 0"),
        (FinetuneConfig, {"loop": {"validate_every": 0}}, "validate_every is 0"),
        (FinetuneConfig, {"prompts": {"correct_every": 0}}, "correct_every is 0"),
        (FinetuneConfig, {"prompts": {"points": 0}}, "points is 0"),
        (FinetuneConfig, {"prompts": {"box": 1.5}}, "box is 1.5, but must be from 0 to 1"),
        (FinetuneConfig, {"optimiser": {"clip": 0}}, "clip is 0, but must be above 0"),
        (FinetuneConfig, {"augment": {"scale": [0, 1]}}, "scale goes from 0 to 1: give two numbers above 0"),
        (FinetuneConfig, {"augment": {"scale": [2, 1]}}, "the smaller one first"),
        (FinetuneConfig, {"stages": []}, "at least one stage"),
        (FinetuneConfig, {"stages": [{"size": 64, "photos": 0, "steps": 1}]}, "photos is 0"),
        (FinetuneConfig, {"stages": [{"size": 64, "photos": 2, "steps": 0}]}, "steps is 0"),
        (FinetuneConfig, {"prompts": {"mask": 2}}, "mask is 2, but must be from 0 to 1"),
        (FinetuneConfig, {"validation_photos": 0}, "validation_photos is 0"),
        (FinetuneConfig, {"relaxed": float("nan")}, "relaxed is nan"),
        (DistillConfig, {"steps": 0}, "steps is 0"),
        (YoloConfig, {"batch": 0}, "batch is 0"),
    ],
)
def test_numbers_that_cannot_be_are_refused(kind: type, table: dict[str, Any], fault: str) -> None:
    recipe = {FinetuneConfig: "l0", DistillConfig: "distill", YoloConfig: "objects"}[kind]
    with pytest.raises(UsageError, match=fault):
        read_recipe(kind, recipe, table)


def test_a_recipe_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(b"model = '\xff'")
    with pytest.raises(DataError, match=r"mine\.toml is not a recipe: it is not text in UTF-8"):
        read_recipe(FinetuneConfig, str(tmp_path / "mine.toml"))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"model": "sam-vit-b"}, "sam-vit-b trains at 1024"),
        ({"stages": (StageConfig(size=1024, photos=2, steps=1),)}, "up to 512"),
        ({"freeze": PARTS}, "nothing is left to train when image_encoder, prompt_encoder, mask_decoder are frozen"),
        ({"freeze": ("mask_decoder.neck",)}, "cannot freeze mask_decoder.neck: the network has no such part"),
        ({"loop": LoopConfig(device="cpu", devices=3)}, "2 photos per step cannot be shared evenly by 3 devices"),
    ],
)
def test_runs_that_cannot_be_are_refused(photos: Path, tmp_path: Path, changes: dict[str, Any], fault: str) -> None:
    settings = {"model": "evsam-starter", "weights": "", "stages": (STAGE,), "data": (DataConfig(str(photos)),)}
    with pytest.raises(UsageError, match=fault):
        finetune.run(FinetuneConfig(**{**settings, **changes}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_validation_set_of_crowds_is_refused(photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "crowds")
    document = json.loads((photos / "annotations.json").read_text())
    document["annotations"] = [{**row, "iscrowd": 1} for row in document["annotations"]]
    (tmp_path / "crowds" / "annotations.json").write_text(json.dumps(document))
    config = FinetuneConfig(
        "tiny", (STAGE,), data=(DataConfig(str(photos)),), validation=DataConfig(str(tmp_path / "crowds"))
    )
    with pytest.raises(DataError, match="validation set crowds has no object in its first 500 photos"):
        finetune.run(config, tmp_path / "run", model=tiny_sam())


def test_folders_of_masks_with_faults_are_refused(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    with pytest.raises(DataError, match="images is no folder of photos"):
        open_source(tmp_path)
    shutil.copytree(photos / "images", tmp_path / "images")
    with pytest.raises(DataError, match=r"00\.png: neither"):
        distill.photo_paths(DataConfig(str(tmp_path)))  # which must not take the masks for photos
    for file in (tmp_path / "images").iterdir():
        Pil.new("RGB", (128, 96)).save(tmp_path / "masks" / file.name)
    broken = (tmp_path / "masks" / "01.png").read_bytes()
    (tmp_path / "masks" / "01.png").write_bytes(broken[:40] + b"\0" * 20 + broken[60:])
    for number, fault in ((0, "a mask has one channel"), (1, r"01\.png: its masks cannot be read")):
        with pytest.raises(DataError, match=fault):
            open_source(tmp_path)[number]


@pytest.mark.filterwarnings("ignore")  # ultralytics' own
@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"options": {"speed": 3}}, r"\[options\].*speed"),
        ({"options": {"lr0": "fast"}}, r"\[options\].*lr0"),
        ({"device": "toaster"}, "device 'toaster' cannot be used here"),
        ({"weights": "gone.pt"}, "no weights at gone.pt"),
    ],
)
def test_detectors_that_cannot_be_are_refused(
    photos: Path, tmp_path: Path, changes: dict[str, Any], fault: str
) -> None:
    data = DataConfig(str(photos))
    settings = {"model": "yolov8n", "epochs": 1, "weights": "", "device": "cpu", "data": (data,), "validation": data}
    with pytest.raises(UsageError, match=fault):
        detector.run(YoloConfig(**{**settings, **changes}), tmp_path / "run")


def test_a_detectors_broken_photo_is_named(photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "broken")
    (tmp_path / "broken" / "images" / "03.png").write_bytes(b"not a photo")
    data = DataConfig(str(tmp_path / "broken"))
    with pytest.raises(DataError, match=r"03\.png"):
        detector.layout(YoloConfig("yolov8n", 1, data=(data,), validation=data), tmp_path / "laid")


def test_either_kind_of_output_gets_corrections() -> None:
    for every in (1, 2, 3):
        config = FinetuneConfig("tiny", (STAGE,), prompts=PromptMix(corrections=2, correct_every=every))
        rounds = [finetune.Learner(tiny_sam(), config, [])._round_count(step) for step in range(2 * every)]
        assert rounds == [3, 3] + [1] * (2 * every - 2)


def test_positions_are_exact_in_mixed_precision() -> None:
    encoding, places = RandomFourier(), torch.rand(50, 2)
    exact = encoding(places)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(encoding(places), exact)


def test_distillation_draws_data_sets_by_weight(tmp_path: Path) -> None:
    sets = [[tmp_path / f"{n}-{i}.png" for i in range(count)] for n, count in enumerate((40, 2))]
    samples = distill.PhotoEmbeddings(sets, [1.0, 3.0], tmp_path / "embeddings.npy", 64, seed=0)
    drawn = [samples.draw((step, 0)) for step in range(400)]
    assert np.mean([number for number, _ in drawn]) == pytest.approx(0.75, abs=0.06)
    assert {i for number, i in drawn if number == 1} == {0, 1}


def test_two_devices_train_together(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(RECIPE)
    command = ("train", "finetune", "-o", tmp_path / "run", "--recipe", tmp_path / "mine.toml", "--data", photos)
    done = run_apart(*command, "--devices", 2)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{tmp_path / 'run' / 'last.safetensors'}"]
    assert all(value.isfinite().all() for value in load_file(tmp_path / "run" / "last.safetensors").values())
    (line,) = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert line["step"] == 2 and line["kind"] == "train"


@pytest.mark.parametrize("fault", ["disk", "weights"])
def test_a_checkpoint_that_cannot_be_written_is_one_line(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    model = tiny_sam()
    if fault == "weights":
        monkeypatch.setattr(
            torch.optim.AdamW, "step", lambda *_: model.mask_decoder.iou_token.weight.data.fill_(np.nan)
        )
    else:
        (tmp_path / "run" / "checkpoint.pt").mkdir(parents=True)
    config = FinetuneConfig("tiny", (STAGE,), data=(DataConfig(str(photos)),), loop=LoopConfig(device="cpu", workers=0))
    with pytest.raises(EvsamError, match="no longer finite" if fault == "weights" else "holds a run|cannot be written"):
        finetune.run(config, tmp_path / "run", model=model)
