"""`evsam train`: the command line, and the detector by way of ultralytics."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.runs import run_apart
from support.training_photos import RECIPE
from typer.testing import CliRunner

from evsam_cli.train import app
from pipelines.detectors import DetectorConfig, with_defaults
from pipelines.detectors.yolo import Yolo
from pipelines.errors import DataError, EvsamError, UsageError
from pipelines.training import detector
from pipelines.training.config import DataConfig, YoloConfig
from pipelines.training.recipe import read_recipe, recipes
from pipelines.training.sources import open_source
from pipelines.types import Image


def evsam_train(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_finetune_from_the_command_line(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(RECIPE)
    out = tmp_path / "run"
    common = ("finetune", "-o", out, "--recipe", tmp_path / "mine.toml", "--data", f"{photos}=2.5")
    frozen = (*common, "--freeze", "image_encoder,prompt_encoder")
    assert "last.safetensors" in evsam_train(*frozen)
    assert load_file(out / "last.safetensors")
    with pytest.raises(UsageError, match="--resume"):
        evsam_train(*frozen)
    with pytest.raises(UsageError, match="other settings"):
        evsam_train(*common, "--resume")
    with pytest.raises(UsageError, match="cannot freeze neck"):
        evsam_train(*common, "--freeze", "neck", "-o", tmp_path / "other")
    with pytest.raises(UsageError, match="must be above 0"):
        evsam_train("finetune", "-o", out, "--recipe", "l0", "--data", f"{photos}=0")
    with pytest.raises(DataError, match="no training data"):
        evsam_train("finetune", "-o", tmp_path / "other", "--recipe", "l0")


DETECTOR = """
model = "yolov8n"
weights = ""
epochs = 1
size = 64
batch = 4
device = "cpu"
"""


ONE_CORE = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"
needs_affinity = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="needs a system that gives processes cores"
)


@needs_affinity
@pytest.mark.parametrize("verb", ["finetune", "distill", "detector"])
def test_all_that_is_printed_is_ours(verb: str, photos: Path, tmp_path: Path) -> None:
    """Among what libraries would say: that there are more workers than cores, and that bf16 is used."""
    loop = 'photos = 2\nteacher = "evsam-starter"\nsteps = 2\n[loop]\ndevice = "cpu"\nprecision = "bf16-mixed"\n'
    distill = f'model = "evsam-starter"\nweights = ""\n{loop}'
    finetune = RECIPE.replace("workers = 0", 'precision = "bf16-mixed"')
    (tmp_path / "mine.toml").write_text({"finetune": finetune, "distill": distill, "detector": DETECTOR}[verb])
    checked = () if verb == "distill" else ("--val", photos)
    common = ("-o", tmp_path / "run", "--recipe", tmp_path / "mine.toml", "--data", photos, "--workers", 2)
    done = run_apart(
        "train", verb, *common, *checked, python=("-c", f"{ONE_CORE}; from evsam_cli import __main__; __main__.main()")
    )
    assert done.returncode == 0, done.stderr
    for line in (done.stdout + done.stderr).splitlines():
        assert line.startswith(("step 2/2  ", "epoch 1/1  ", str(tmp_path / "run"))), line


@needs_affinity
def test_a_worker_for_each_core_that_may_be_used() -> None:
    code = f"{ONE_CORE}; from pipelines.training.config import LoopConfig; print(LoopConfig().workers)"
    done = run_apart(python=("-c", code))
    assert done.stdout == "1\n", done.stderr


def test_validation_chooses_the_best(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(RECIPE + "[optimiser]\nlearning_rate = 0.0001\n")
    out = tmp_path / "run"
    text = evsam_train("finetune", "-o", out, "--recipe", tmp_path / "mine.toml", "--data", photos, "--val", photos)
    assert "best.safetensors" in text and "box_miou" in text
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    (validation,) = [line for line in lines if line["kind"] == "validation"]
    assert 0 <= validation["box_miou"] <= 1 and validation["step"] == 2
    assert load_file(out / "best.safetensors").keys() == load_file(out / "last.safetensors").keys()
    assert list((out / "tensorboard").iterdir())


def test_recipes_can_be_printed() -> None:
    assert "focal = 20" in evsam_train("recipe", "l0")
    with pytest.raises(EvsamError, match="choose one of"):
        evsam_train("recipe", "nothing")


def test_detector_recipes_are_valid() -> None:
    for name in recipes(YoloConfig):
        assert read_recipe(YoloConfig, name).model == "yolov8n"
    assert read_recipe(YoloConfig, "objects").options["nbs"] == 16


@pytest.mark.parametrize("class_aware", [False, True])
def test_detector_layout(photos: Path, tmp_path: Path, class_aware: bool) -> None:
    data = DataConfig(str(photos))
    config = YoloConfig("yolov8n", 1, data=(data, data), validation=data, class_aware=class_aware)
    text = detector.layout(config, tmp_path).read_text()
    assert ("0: 'round'\n  1: 'pointed'" if class_aware else "0: 'object'") in text
    labels = sorted((tmp_path / "labels" / "train").iterdir())
    assert len(labels) == 16 and len(list((tmp_path / "images" / "val").iterdir())) == 8
    source = open_source(photos)
    rows = np.array([line.split() for line in labels[0].read_text().splitlines()], float)
    assert rows[:, 0].tolist() == ([0, 1] if class_aware else [0, 0])
    for (_, cx, cy, w, h), region in zip(rows, source[0].regions, strict=True):
        y, x = np.nonzero(region.decode(96, 128))
        box = np.array([(cx - w / 2) * 128, (cy - h / 2) * 96, (cx + w / 2) * 128, (cy + h / 2) * 96])
        np.testing.assert_allclose(box, [x.min(), y.min(), x.max() + 1, y.max() + 1], atol=1e-3)
    with pytest.raises(DataError, match="--val"):
        detector.layout(dataclasses.replace(config, validation=None), tmp_path)


@pytest.mark.filterwarnings("ignore")  # ultralytics' own
def test_detector_trains_resumes_and_detects(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupt(trainer: object) -> None:
        raise KeyboardInterrupt

    config = YoloConfig(
        "yolov8n", 2, size=64, batch=4, weights="", device="cpu", workers=0, data=(DataConfig(str(photos)),),
        validation=DataConfig(str(photos)),
    )  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(detector, "_report", interrupt)
        with pytest.raises(KeyboardInterrupt):
            detector.run(config, tmp_path / "run")
    with pytest.raises(UsageError, match="--resume"):
        detector.run(config, tmp_path / "run")
    with pytest.raises(UsageError, match="other settings"):
        detector.run(dataclasses.replace(config, epochs=3), tmp_path / "run", resume=True)
    best = detector.run(config, tmp_path / "run", resume=True)
    assert [line.split("  ")[0] for line in capfd.readouterr().out.splitlines()] == ["epoch 2/2"]
    finished = best.read_bytes()
    assert detector.run(config, tmp_path / "run", resume=True) == best and best.read_bytes() == finished
    found = Yolo(best, with_defaults(DetectorConfig(conf=0.0)))([Image("a", open_source(photos)[0].pixels())])[0]
    assert len(found) and len(set(found.category_ids.tolist())) == 1

    adapted = detector.run(
        dataclasses.replace(config, weights=str(best), epochs=1, class_aware=True, precision="bf16-mixed"),
        tmp_path / "more",
    )
    assert [category.name for category in Yolo(adapted, with_defaults(DetectorConfig())).categories] == [
        "round",
        "pointed",
    ]


def test_detector_in_bfloat16() -> None:
    """The network computes in bfloat16, the loss gets float32."""
    from ultralytics.models import YOLO

    torch.manual_seed(0)
    network = YOLO("yolov8n.yaml").model.train()
    photos = torch.rand(1, 3, 64, 64)
    plain = network(photos)
    detector._in_bfloat16(SimpleNamespace(model=network, device=torch.device("cpu")))
    mixed = network(photos)
    assert mixed.keys() == plain.keys()
    scores = (mixed["scores"], plain["scores"])
    assert all(score.dtype == torch.float32 for score in scores)
    assert 0 < (scores[0] - scores[1]).abs().mean() < 0.05 * scores[1].abs().mean()


def test_detector_precision_is_checked(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="32-true or bf16-mixed, not 'half'"):
        evsam_train("detector", "-o", tmp_path, "--recipe", "objects", "--data", photos, "--precision", "half")
