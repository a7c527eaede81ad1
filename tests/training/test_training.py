"""Training end to end, on real photographs: it learns, and stops when it diverges."""

from __future__ import annotations

import dataclasses
import json
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.training_photos import LOOP, short, tiny_sam, training_set

from pipelines.errors import EvsamError, UsageError
from pipelines.sam import SAMS
from pipelines.sam.layers import fold_norms
from pipelines.sam.model import load
from pipelines.sam.network import SamSource
from pipelines.sam.predictor import SamPredictor
from pipelines.sam.torch_network import TorchNetwork
from pipelines.training import distill, finetune
from pipelines.training.config import (
    AugmentConfig,
    DataConfig,
    DistillConfig,
    FinetuneConfig,
    OptimiserConfig,
    PromptMix,
    StageConfig,
)
from pipelines.training.data import collate
from pipelines.training.depthwise import keep_depthwise_precise
from pipelines.training.engine import CHECKPOINT, DivergedError, learning_rate
from pipelines.training.recipe import read_recipe, recipes
from pipelines.training.sources import open_source
from pipelines.training.validation import mean_ious

STAGE = StageConfig(size=64, photos=1, masks=2, steps=1)


def test_distil_and_finetune_overfit_eight_photos(tmp_path: Path, photos: Path) -> None:
    """With a decoder that knows what a prompt is, and an encoder that knows nothing."""
    torch.manual_seed(0)
    teacher = fold_norms(tiny_sam(256))
    trained = SamSource(SAMS["evsam-starter"]).state()
    for part in ("prompt_encoder", "mask_decoder"):
        prefix = f"{part}."
        own = {key.removeprefix(prefix): value for key, value in trained.items() if key.startswith(prefix)}
        getattr(teacher, part).load_state_dict(own)
    predictor = SamPredictor("tiny-teacher", TorchNetwork(teacher, torch.device("cpu")))
    student = tiny_sam(256)
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
        stages=(StageConfig(size=128, photos=4, masks=2, steps=64, focal=0, near=2),),
        single_mask="both",
        augment=AugmentConfig(flip=0),
        prompts=PromptMix(box=0.7, box_jitter=0.02, points=1),
        optimiser=OptimiserConfig(learning_rate=1e-3, warmup=10, ema=0.8),
        loop=dataclasses.replace(LOOP, photos_at_once=8, checkpoint_every=1000),
    )
    before = mean_ious(model, open_source(photos), 8, 128)
    finetune.run(config, tmp_path / "tuned", model=model)
    tuned = load(tiny_sam(), load_file(tmp_path / "tuned" / "last.safetensors"), "tiny")
    after = mean_ious(tuned, open_source(photos), 8, 128)
    assert before["box_miou"] < 0.75
    assert after["box_miou"] > 0.88


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


def test_the_iou_head_alone_can_learn(tmp_path: Path, photos: Path) -> None:
    model = tiny_sam()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    rest = (name for name, _ in model.mask_decoder.named_children() if name != "iou_prediction_head")
    frozen = ("image_encoder", "prompt_encoder", *(f"mask_decoder.{name}" for name in rest))
    finetune.run(short(photos, freeze=frozen), tmp_path, model=model)
    changed = {
        key.rsplit(".", 3)[0] for key, value in model.state_dict().items() if not torch.equal(value, before[key])
    }
    assert changed == {"mask_decoder.iou_prediction_head"}


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_corrections_come_with_the_mask_or_with_the_prompts_alone(photos: Path, share: float) -> None:
    prompts = PromptMix(points=2, corrections=3, mask=share)
    learner = finetune.Learner(tiny_sam(), short(photos, prompts=prompts), [(1, STAGE)])
    learner(collate([training_set(photos)[0, 0]]))["loss"].backward()
    learned = learner.model.prompt_encoder.mask_downscaling[0].weight.grad is not None
    assert learned == bool(share)


def test_mixed_precision_on_a_cpu_leaves_depthwise_convolutions_exact() -> None:
    encoder = tiny_sam().image_encoder
    depthwise = next(part for part in encoder.modules() if isinstance(part, torch.nn.Conv2d) and part.groups > 1)
    x = torch.rand(1, depthwise.in_channels, 8, 8)
    exact = depthwise(x)
    keep_depthwise_precise(encoder)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(depthwise(x), exact)
    assert torch.equal(deepcopy(depthwise)(x), exact)


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
    for text, fault in (
        ("model = 3", "expected str"),
        ("speed = 1", "unknown setting speed"),
        ("x = ", "is not a recipe"),
    ):
        (tmp_path / "mine.toml").write_text(text)
        with pytest.raises(EvsamError, match=fault):
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
