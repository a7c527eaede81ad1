"""Training end to end, on real photographs: it learns, resumes to the same bits, stops when it diverges."""

from __future__ import annotations

import dataclasses
import json
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from training_photos import tiny_sam, write_photos

from pipelines.errors import UsageError
from pipelines.sam.layers import fold_norms
from pipelines.sam.model import load
from pipelines.sam.predictor import SamPredictor
from pipelines.sam.torch_network import TorchNetwork
from pipelines.training import distill, finetune
from pipelines.training.config import (
    AugmentConfig,
    DataConfig,
    DistillConfig,
    FinetuneConfig,
    LoopConfig,
    OptimiserConfig,
    PromptConfig,
    StageConfig,
    read_recipe,
    recipes,
)
from pipelines.training.engine import CHECKPOINT, DivergedError, learning_rate
from pipelines.training.sources import open_source
from pipelines.training.validation import mean_ious

LOOP = LoopConfig(device="cpu", workers=0, photos_at_once=4, log_every=5, checkpoint_every=2, validate_every=1000)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, photographs: list[Path]) -> Path:
    return write_photos(tmp_path_factory.mktemp("data") / "photos", photographs)


def short(photos: Path, **changes: object) -> FinetuneConfig:
    """Four steps in two stages, with all augmentation, corrections and accumulation."""
    stage = StageConfig(size=64, photos=3, masks=2, steps=2)
    config = FinetuneConfig(
        model="tiny",
        data=(DataConfig(str(photos)),),
        stages=(stage, dataclasses.replace(stage, size=96, photos=2, rate=0.5)),
        augment=AugmentConfig(scale=(0.7, 1.8), colour=0.5, paste=0.5),
        prompts=PromptConfig(points=3, corrections=1, correct_every=2),
        optimiser=OptimiserConfig(learning_rate=1e-3, warmup=1, ema=0.5),
        loop=dataclasses.replace(LOOP, photos_at_once=2),
    )
    return dataclasses.replace(config, **changes)  # type: ignore[arg-type]


def test_distil_and_finetune_overfit_eight_photos(tmp_path: Path, photos: Path) -> None:
    torch.manual_seed(0)
    teacher = fold_norms(tiny_sam())
    predictor = SamPredictor("tiny-teacher", TorchNetwork(teacher, torch.device("cpu")))
    student = tiny_sam()
    distilling = DistillConfig(
        model="tiny",
        teacher="tiny-teacher",
        steps=16,
        photos=4,
        data=(DataConfig(str(photos)),),
        optimiser=OptimiserConfig(learning_rate=3e-3, ema=0.8),
        loop=LOOP,
    )
    distill.run(distilling, tmp_path / "distilled", student=student, teacher=predictor)
    curve = [json.loads(line) for line in (tmp_path / "distilled" / "metrics.jsonl").read_text().splitlines()]
    assert curve[-1]["loss"] < 0.5 * curve[0]["loss"]

    model = load(tiny_sam(), load_file(tmp_path / "distilled" / "last.safetensors"), "tiny")
    for part in ("prompt_encoder", "mask_decoder"):
        for ours, theirs in zip(getattr(model, part).parameters(), getattr(teacher, part).parameters(), strict=True):
            assert torch.equal(ours, theirs)
    config = FinetuneConfig(
        model="tiny",
        data=(DataConfig(str(photos)),),
        stages=(StageConfig(size=128, photos=8, masks=2, steps=120, focal=0, bce=2),),
        single_mask="both",
        augment=AugmentConfig(flip=0),
        prompts=PromptConfig(box=0.7, box_jitter=0.02, points=1),
        optimiser=OptimiserConfig(learning_rate=2e-3, warmup=10, ema=0.8),
        loop=dataclasses.replace(LOOP, photos_at_once=8, checkpoint_every=1000),
    )
    before = mean_ious(model, open_source(photos), 8, 128)
    finetune.run(config, tmp_path / "tuned", model=model)
    tuned = load(tiny_sam(), load_file(tmp_path / "tuned" / "last.safetensors"), "tiny")
    after = mean_ious(tuned, open_source(photos), 8, 128)
    print(before, after)
    assert before["box_miou"] < 0.6
    assert after["box_miou"] > 0.95


@pytest.mark.parametrize("interrupted_at", [1, 3])
def test_a_resumed_run_gives_the_same_bits(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, interrupted_at: int
) -> None:
    def train(folder: Path, **settings: bool) -> None:
        torch.manual_seed(0)
        config = short(photos)
        loop = dataclasses.replace(config.loop, checkpoint_every=1, log_every=1)
        finetune.run(dataclasses.replace(config, loop=loop), folder, model=tiny_sam(), **settings)

    train(tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr("pipelines.training.engine.learning_rate", stop_at(interrupted_at))
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "parts")
    with pytest.raises(UsageError, match="--resume"):
        train(tmp_path / "parts")
    with (tmp_path / "parts" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4}\n{"ste')  # lines behind the checkpoint, the last one cut off by the kill
    train(tmp_path / "parts", resume=True)
    whole, parts = (torch.load(tmp_path / name / CHECKPOINT, weights_only=True) for name in ("whole", "parts"))
    assert whole["step"] == parts["step"] == 4
    assert_equal(whole, parts)
    lines = [json.loads(line) for line in (tmp_path / "parts" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_until_the_step_is_saved(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    class Stopped(Exception):
        pass

    def stop(*_: object) -> None:
        raise Stopped

    before = signal.signal(number, stop)
    config = short(photos)
    config = dataclasses.replace(config, loop=dataclasses.replace(config.loop, checkpoint_every=1000))
    torch.manual_seed(0)
    finetune.run(config, tmp_path / "whole", model=tiny_sam())
    torch.manual_seed(0)
    with monkeypatch.context() as patch:
        patch.setattr("pipelines.training.engine.learning_rate", at(2, lambda: signal.raise_signal(number)))
        with pytest.raises(Stopped):
            finetune.run(config, tmp_path / "parts", model=tiny_sam())
    assert signal.signal(number, before) is stop
    assert torch.load(tmp_path / "parts" / CHECKPOINT, weights_only=True)["step"] == 3
    finetune.run(config, tmp_path / "parts", model=tiny_sam(), resume=True)
    whole, parts = (torch.load(tmp_path / name / CHECKPOINT, weights_only=True) for name in ("whole", "parts"))
    assert_equal(whole, parts)


def test_a_second_signal_stops_at_once(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("pipelines.training.engine.learning_rate", at(1, twice))
    with pytest.raises(KeyboardInterrupt):
        finetune.run(short(photos), tmp_path, model=tiny_sam())
    assert not (tmp_path / CHECKPOINT).exists()


def test_a_resumed_distillation_gives_the_same_bits(tmp_path: Path, photos: Path) -> None:
    torch.manual_seed(0)
    teacher = SamPredictor("tiny-teacher", TorchNetwork(fold_norms(tiny_sam()), torch.device("cpu")))
    data = (DataConfig(str(photos)), DataConfig(str(photos / "images"), weight=2))

    def train(folder: Path, **settings: object) -> None:
        torch.manual_seed(1)
        config = DistillConfig("tiny", "tiny-teacher", steps=3, photos=2, data=data, loop=LOOP)
        distill.run(config, folder, student=tiny_sam(), teacher=teacher, **settings)

    train(tmp_path / "whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.training.engine.learning_rate", stop_at(2))
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "parts")
    train(tmp_path / "parts", resume=True)
    whole, parts = (torch.load(tmp_path / name / CHECKPOINT, weights_only=True) for name in ("whole", "parts"))
    assert whole["step"] == parts["step"] == 3
    assert_equal(whole, parts)


def stop_at(interrupted_at: int) -> Callable[[int, int, OptimiserConfig], float]:
    def stop() -> None:
        raise KeyboardInterrupt

    return at(interrupted_at, stop)


def at(when: int, what: Callable[[], None]) -> Callable[[int, int, OptimiserConfig], float]:
    """The learning rate, which does `what` at step `when`."""

    def rate(step: int, steps: int, config: OptimiserConfig) -> float:
        if step == when:
            what()
        return learning_rate(step, steps, config)

    return rate


def assert_equal(a: object, b: object, where: str = "checkpoint") -> None:
    """Nested containers are equal, tensors bit for bit."""
    assert type(a) is type(b), where
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where  # type: ignore[arg-type]
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where  # type: ignore[attr-defined]
        for key in a:
            assert_equal(a[key], b[key], f"{where}.{key}")  # type: ignore[index]
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where  # type: ignore[arg-type]
        for i, pair in enumerate(zip(a, b, strict=True)):  # type: ignore[call-overload]
            assert_equal(*pair, f"{where}.{i}")
    else:
        assert a == b, where


def test_resuming_under_other_settings_is_refused(tmp_path: Path, photos: Path) -> None:
    finetune.run(short(photos), tmp_path, model=tiny_sam())
    with pytest.raises(UsageError, match="other settings"):
        finetune.run(short(photos, seed=5), tmp_path, model=tiny_sam(), resume=True)
    (tmp_path / CHECKPOINT).write_bytes(b"half a file")
    with pytest.raises(UsageError, match="not a checkpoint"):
        finetune.run(short(photos), tmp_path, model=tiny_sam(), resume=True)


def test_divergence_stops_and_keeps_the_last_good_checkpoint(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(step: int, steps: int, config: OptimiserConfig) -> float:
        return 1e38 if step == 2 else learning_rate(step, steps, config)

    monkeypatch.setattr("pipelines.training.engine.learning_rate", explode)
    with pytest.raises(DivergedError, match=r"diverged at step .*checkpoint\.pt is the last good state"):
        finetune.run(short(photos), tmp_path, model=tiny_sam())
    kept = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    assert kept["step"] == 2
    assert all(torch.isfinite(value).all() for value in kept["model"].values())


def test_frozen_parts_do_not_change(tmp_path: Path, photos: Path) -> None:
    model = tiny_sam()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    finetune.run(short(photos, freeze=("image_encoder", "prompt_encoder")), tmp_path, model=model)
    changed = {key.split(".")[0] for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {"mask_decoder"}


def test_the_official_layout_trains_a_step_and_loads_back(tmp_path: Path, photos: Path) -> None:
    stage = StageConfig(size=64, photos=2, masks=2, steps=1)
    config = short(photos, model="efficientvit-sam-l0", weights="", stages=(stage,))
    finetune.run(config, tmp_path)
    state = load_file(tmp_path / "last.safetensors")
    (tmp_path / CHECKPOINT).unlink()  # half a gigabyte
    from pipelines.sam import SAMS, build_sam

    row = SAMS["efficientvit-sam-l0"]
    expected = {key: value.shape for key, value in row.load()(**row.options).build().state_dict().items()}
    assert {key: value.shape for key, value in state.items()} == expected
    sam = build_sam("efficientvit-sam-l0", tmp_path / "last.safetensors")
    sam.set_image(open_source(photos)[0].pixels())
    assert np.isfinite(sam.predict(boxes=[[10, 10, 60, 60]]).predicted_iou).all()


def test_validation_agrees_with_the_predictor(photos: Path) -> None:
    torch.manual_seed(3)
    model = tiny_sam().eval()
    source = open_source(photos)
    figures = mean_ious(model, source, 3, 512)
    predictor = SamPredictor("tiny", TorchNetwork(model, torch.device("cpu")))
    ious = []
    for i in range(3):
        predictor.set_image(source[i].pixels())
        for region in source[i].regions:
            mask = region.decode(96, 128)
            (rows, columns) = np.nonzero(mask)
            box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            prediction = predictor.predict(boxes=[box])
            best = prediction.masks[0, prediction.predicted_iou[0].argmax()]
            ious.append((best & mask).sum() / (best | mask).sum())
    assert figures["box_miou"] == pytest.approx(np.mean(ious), abs=1e-3)
    assert 0 <= figures["point_miou"] <= 1


@pytest.mark.parametrize(("relaxed", "shares"), [(0.0, [1, 0, 0]), (0.3, [0.8, 0.1, 0.1])])
def test_the_best_of_three_masks_learns_and_the_others_as_far_as_relaxed(
    photos: Path, relaxed: float, shares: list[float]
) -> None:
    learner = finetune.Learner(tiny_sam(), short(photos, relaxed=relaxed), [])
    losses = torch.tensor([[5.0, 1.0, 2.0, 3.0]], requires_grad=True)
    mask, _ = learner._losses(losses, torch.zeros(1, 4), torch.zeros(1, 4), step=0)
    mask.backward()
    torch.testing.assert_close(losses.grad, torch.tensor([[0.0, *shares]]))


def test_learning_rate_warms_up_and_ends_at_zero() -> None:
    config = OptimiserConfig(learning_rate=1.0, warmup=10)
    rates = [learning_rate(step, 110, config) for step in range(111)]
    assert rates[:10] == pytest.approx([0.1 * i for i in range(1, 11)])
    assert rates[10] == 1 and rates[60] == pytest.approx(0.5) and rates[110] == pytest.approx(0)


@pytest.mark.parametrize("kind", [FinetuneConfig, DistillConfig])
def test_recipes_are_valid_and_name_their_faults(kind: type, tmp_path: Path) -> None:
    for name in recipes(kind):
        assert read_recipe(kind, name).model
    for text, fault in (("model = 3", "expected str"), ("speed = 1", "unknown setting speed"), ("x = ", "not TOML")):
        (tmp_path / "mine.toml").write_text(text)
        with pytest.raises(UsageError, match=fault):
            read_recipe(kind, str(tmp_path / "mine.toml"))
    with pytest.raises(UsageError, match="no recipe"):
        read_recipe(kind, "l7")


def test_recipes_hold_the_papers_settings() -> None:
    for name in ("l0", "l1", "l2", "xl0", "xl1"):
        config = read_recipe(FinetuneConfig, name)
        (stage,) = config.stages
        assert (stage.photos, stage.masks, stage.epochs, stage.focal / stage.dice) == (256, 64, 2, 20)
        assert config.optimiser.learning_rate == (1e-6 if name.startswith("xl") else 2e-6)
        assert (config.prompts.box, config.prompts.points, config.augment.flip) == (0.5, 10, 0.5)
