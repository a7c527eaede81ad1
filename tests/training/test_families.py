"""Training of families whose prompts, frame or decoder are not SAM's, with tiny encoders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support.families import tiny_hq, tiny_six_points
from support.training_photos import LOOP, short, tiny_sam, training_set

from pipelines.errors import UsageError
from pipelines.sam.model import Sam
from pipelines.sam.predictor import SamPredictor
from pipelines.sam.torch_network import TorchNetwork
from pipelines.training import distill, finetune
from pipelines.training.config import DataConfig, DistillConfig, PromptMix

SIX = PromptMix(points=3, corrections=2, mask=0)


def predictor(model: Sam) -> SamPredictor:
    return SamPredictor("teacher", TorchNetwork(model.eval(), torch.device("cpu")))


def distilling(photos: Path) -> DistillConfig:
    return DistillConfig(model="tiny", teacher="teacher", steps=1, photos=1, data=(DataConfig(str(photos)),), loop=LOOP)


@pytest.mark.parametrize(("build", "prompts"), [(tiny_hq, PromptMix(corrections=1)), (tiny_six_points, SIX)])
def test_every_part_learns(build: type, prompts: PromptMix, photos: Path, tmp_path: Path) -> None:
    model = build()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    finetune.run(short(photos, prompts=prompts, relaxed=0.5), tmp_path, model=model)
    changed = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    decoder = {name for name in before if name.startswith("mask_decoder.")}
    assert decoder <= changed and any(name.startswith("image_encoder.") for name in changed)


@pytest.mark.parametrize(
    ("prompts", "fault"),
    [
        (PromptMix(points=5, corrections=2, mask=0), "here are 7"),
        (PromptMix(points=1, corrections=5, mask=0, box=1), "here are 7"),
        (PromptMix(points=1, corrections=1), "takes no mask prompts"),
    ],
)
def test_prompts_that_a_family_does_not_take(prompts: PromptMix, fault: str, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=fault):
        finetune.run(short(photos, prompts=prompts), tmp_path, model=tiny_six_points())
    assert not any(tmp_path.iterdir())


def test_photos_of_a_squeezed_frame_fill_the_square(photos: Path) -> None:
    padded, squeezed = (training_set(photos, scale=(1, 1), squeezes=flag)[0, 0] for flag in (False, True))
    assert padded.size == (48, 64) and squeezed.size == (64, 64)
    heights = [one.masks.any((0, 2)).nonzero()[0] for one in (padded, squeezed)]
    np.testing.assert_allclose(*(rows.max() / high for rows, high in zip(heights, (24, 32), strict=True)), atol=0.1)


def test_a_teacher_of_another_frame_or_decoder_is_refused(photos: Path, tmp_path: Path) -> None:
    for student, teacher, fault in (
        (tiny_sam(), tiny_six_points(), "one of them sees images squeezed"),
        (tiny_sam(), tiny_hq(), "its decoder is of another kind"),
        (tiny_hq(), tiny_sam(), "its decoder is of another kind"),
    ):
        with pytest.raises(UsageError, match=f"teacher cannot teach.*{fault}"):
            distill.run(distilling(photos), tmp_path, student=student, teacher=predictor(teacher))


def test_a_student_of_a_family_learns_from_one_of_its_own(photos: Path, tmp_path: Path) -> None:
    teacher, student = tiny_six_points(), tiny_six_points()
    distill.run(distilling(photos), tmp_path, student=student, teacher=predictor(teacher))
    for key, value in teacher.mask_decoder.state_dict().items():
        assert torch.equal(student.mask_decoder.state_dict()[key], value)
